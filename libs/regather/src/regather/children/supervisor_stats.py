"""Counts and durations of children, for metrics and for tests."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from regather.service.metrics import Sample

_KEPT = 1000


def _bounded() -> deque[float]:
    return deque(maxlen=_KEPT)


@dataclass(slots=True)
class SupervisorStats:
    """Counts since the start, and the latest 1,000 durations of each sort.

    `kills` counts children killed on purpose while the service ran, `overdue` those of them that were killed at a
    deadline, and `deaths` children that died by themselves. `recycled` counts children replaced between two pieces of
    work, `refills` children that replaced an ended one, and `zygote_restarts` how often all children were lost at once.
    `overrun_ms` is the time from an item's deadline to the confirmed death, `refill_ms` the time from a child's end
    until its successor is ready.
    """

    kills: int = 0
    overdue: int = 0
    deaths: int = 0
    recycled: int = 0
    refills: int = 0
    zygote_restarts: int = 0
    overrun_ms: deque[float] = field(default_factory=_bounded)
    refill_ms: deque[float] = field(default_factory=_bounded)

    def samples(self) -> Iterator[Sample]:
        """Yield the counts and the quantiles of the latest durations as metrics."""
        yield Sample("regather_children_killed_total", self.kills)
        yield Sample("regather_children_overdue_total", self.overdue)
        yield Sample("regather_children_died_total", self.deaths)
        yield Sample("regather_children_lost_total", self.zygote_restarts)
        yield from _quantiles("regather_child_overrun_seconds", self.overrun_ms)
        yield from _quantiles("regather_child_refill_seconds", self.refill_ms)


def _quantiles(name: str, durations_ms: deque[float]) -> Iterator[Sample]:
    ordered = sorted(durations_ms)
    for quantile in (0.5, 0.99):
        if ordered:
            at = min(len(ordered) - 1, int(quantile * len(ordered)))
            yield Sample(name, ordered[at] / 1000, str(quantile))
