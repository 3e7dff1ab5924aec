"""Records of the workers topic: a worker's report as JSON, or a tombstone once it has left."""

from dataclasses import asdict

from typing_extensions import TypedDict

from regather.core.worker_report import WorkerReport
from regather.wire.fields import Finite, JsonReader, Natural, to_json

MAX_KINDS_BYTES = 3_000
"""The most bytes of kinds in a report; the record may have 4 KiB."""


class _Report(TypedDict):
    worker: str
    host: str
    version: str
    kinds: tuple[str, ...]
    slots: Natural
    busy: Natural
    queued: Natural
    partitions: Natural
    rss_bytes: Natural
    load: Finite
    lag_s: Finite


_read_report = JsonReader[_Report](_Report)


def encode_report(report: WorkerReport) -> bytes:
    """Return the report as JSON. It leaves out kinds beyond MAX_KINDS_BYTES."""
    kinds, size_bytes = [], 0
    for kind in report.kinds:
        size_bytes += len(kind.encode()) + 3
        if size_bytes > MAX_KINDS_BYTES:
            break
        kinds.append(kind)
    return to_json(asdict(report) | {"kinds": kinds})


def decode_report(value: bytes) -> WorkerReport:
    """Read what encode_report() wrote; raise WireError for anything else."""
    return WorkerReport(**_read_report(value, "a worker's report"))
