"""Writes the golden records of this wire version: `PYTHONPATH=tests python -m golden.write`.

Run it only when a kind of record is added. Records that stand here are never changed: every later release reads them.
"""

import json
from pathlib import Path

from fuzz_records.samples import samples

from regather.core.model import Identity, JobId, SubmissionId
from regather.wire.identity import WIRE_VERSION

OWNER = Identity(JobId("01939f00-0000-7000-8000-000000000001"), SubmissionId("00ff" * 4), 1)
FOLDER = Path(__file__).parent


def main() -> None:
    """Write the records that do not stand there yet."""
    for sample in samples(OWNER):
        path = FOLDER / f"v{WIRE_VERSION}" / f"{sample.name.replace(' ', '-').lower()}.json"
        if path.exists():
            continue
        headers, value = sample.content
        record = {
            "headers": [[name, content.hex() if content is not None else None] for name, content in headers],
            "value": value.hex() if value is not None else None,
        }
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
