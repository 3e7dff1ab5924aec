"""Records of the workers topic: a worker's report as JSON, or a tombstone once it has left."""

import json
from dataclasses import asdict

from regather.core.errors import WireError
from regather.core.worker_report import WorkerReport

MAX_KINDS_BYTES = 3_000
"""The most bytes of kinds in a report; the record may have 4 KiB."""


def encode_report(report: WorkerReport) -> bytes:
    """Return the report as JSON. It leaves out kinds beyond MAX_KINDS_BYTES."""
    kinds, size_bytes = [], 0
    for kind in report.kinds:
        size_bytes += len(kind.encode()) + 3
        if size_bytes > MAX_KINDS_BYTES:
            break
        kinds.append(kind)
    return json.dumps(asdict(report) | {"kinds": kinds}, separators=(",", ":")).encode()


def decode_report(value: bytes) -> WorkerReport:
    """Read what encode_report() wrote; raise WireError for anything else."""
    try:
        document = json.loads(value)
        return WorkerReport(**(document | {"kinds": tuple(document["kinds"])}))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WireError(f"a worker's report cannot be read: {error!r}") from error
