"""Records of every wire version since 1, as they were written then: this release reads each of them, and reads it so."""

import json
from pathlib import Path

import pytest
from fuzz_records.samples import samples
from golden.write import FOLDER, OWNER

from regather.wire.identity import WIRE_VERSION

SAMPLES = {sample.name.replace(" ", "-").lower(): sample for sample in samples(OWNER)}
GOLDEN = sorted(FOLDER.glob("v*/*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_record_is_read_as_it_was_meant(path: Path) -> None:
    record = json.loads(path.read_text())
    headers = [(name, None if content is None else bytes.fromhex(content)) for name, content in record["headers"]]
    value = None if record["value"] is None else bytes.fromhex(record["value"])
    sample = SAMPLES[path.stem]
    assert sample.decode((headers, value)) == sample.decode(sample.content)


def test_every_kind_of_record_of_this_version_has_a_golden_one() -> None:
    assert {path.stem for path in GOLDEN if path.parent.name == f"v{WIRE_VERSION}"} == set(SAMPLES)
