"""The report that each worker publishes every two seconds, and how long it counts."""

from dataclasses import dataclass

STALE_AFTER_S = 10.0
"""A worker is live while its latest report is younger than this."""

FORGOTTEN_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One report.

    `lag_s` is the age of the oldest shard that the worker has read and not settled. `load` is that of the whole host.
    """

    worker: str
    host: str
    version: str
    kinds: tuple[str, ...]
    slots: int
    busy: int
    queued: int
    partitions: int
    rss_bytes: int
    load: float
    lag_s: float


def why_nobody_works(kind: str, reports: list[WorkerReport]) -> str | None:
    """Return why a job of this kind makes no progress, None if a live worker offers the kind."""
    if any(kind in report.kinds for report in reports):
        return None
    if not reports:
        return "no worker is alive: start one"
    offered = sorted({offered for report in reports for offered in report.kinds})
    return f"none of the {len(reports)} live workers offers the kind {kind!r}; they offer {', '.join(offered)}"
