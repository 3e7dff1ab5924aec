"""Whatever stands in a topic: it is read as a right value, or refused by a WireError. Nothing else happens."""

import random

import pytest
from fuzz_records.odd import DEEP, odd
from fuzz_records.samples import samples

from regather.core.errors import WireError
from regather.core.model import Identity, JobId, SubmissionId
from regather.wire.commits import decode_commit
from regather.wire.restart_point import decode_restart_point

OWNER = Identity(JobId("01939f00-0000-7000-8000-000000000001"), SubmissionId("00ff" * 4), 2)
SAMPLES = {sample.name: sample for sample in samples(OWNER)}
LONE = b'"\\ud800"'


@pytest.mark.parametrize("sort", SAMPLES)
def test_an_odd_record_is_a_value_that_can_be_written_again_or_a_wire_error(sort: str) -> None:
    sample = SAMPLES[sort]
    refused = longest = 0
    for seed in range(1_500):
        changed = odd(sample.content, random.Random(f"{sort} {seed}"))
        try:
            found = sample.decode(changed)
        except WireError as error:
            refused += 1
            longest = max(longest, len(str(error)))
            continue
        assert sample.decode(sample.encode(found)) == found, f"seed {seed}"
    assert refused > 100 or sort == "event Tick"
    assert longest < 1_500  # a log line, not the record


@pytest.mark.parametrize(
    "metadata", ["[" * 4_000, "{", "null", '{"farewell":1}', '{"merges":[["x",1e999,2]]}', "\ud800"]
)
def test_odd_metadata_of_a_commit_counts_as_none_or_is_a_wire_error(metadata: str) -> None:
    assert decode_commit(7, metadata)[1] == set()
    with pytest.raises(WireError):
        decode_restart_point(metadata)


@pytest.mark.parametrize(
    ("sort", "field", "value"),
    [
        ("event Sealed", "shards", b"1000000000000"),
        ("event Sealed", "shards", b"true"),
        ("event Sealed", "shards", b'"8"'),
        ("event Sealed", "size_bytes", b"-1"),
        ("event Sealed", "places", b'[["no topic!",0,1,2]]'),
        ("event Opened", "deadline_ms", b"99999999999999999"),
        ("event Opened", "options", DEEP),
        ("event Opened", "on_error", b'"retry"'),
        ("event Redriven", "seqs", b"[[5,3]]"),
        ("event Redriven", "created_ms", b"1e999"),
        ("event Abandoned", "error", LONE),
        ("event Parked", "place", b'["regather.shards",-1,0]'),
        ("event AttemptFailed", "reason", b'"bad-luck"'),
        ("control", "ended", b'"maybe"'),
        ("report", "kinds", b"[1]"),
        ("report", "lag_s", b"NaN"),
        ("status", "version", b"65536"),
        ("status", "updated_ms", b"99999999999999999999999"),
        ("status", "job_id", b'"../x"'),
    ],
)
def test_a_field_of_another_type_or_range_is_refused_by_its_name(sort: str, field: str, value: bytes) -> None:
    headers, written = SAMPLES[sort].content
    assert written is not None
    name = b'"%s":' % field.encode()
    before, after = written.split(name, 1)
    changed = before + name + value + b',"old":' + after
    with pytest.raises(WireError, match="JSON" if value in (DEEP, LONE) else field):
        SAMPLES[sort].decode((headers, changed))
