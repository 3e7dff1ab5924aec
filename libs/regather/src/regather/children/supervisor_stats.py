"""Figures about children, for metrics and for tests."""

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

    `kills`: children killed on purpose while the service ran, `overdue` of them at a deadline; `deaths`: children that
    died by themselves; `recycled`: children replaced between two works; `refills`: children that took a dead one's
    place; `zygote_restarts`: times that all children were lost at once. `overrun_ms`: from an item's deadline to the
    confirmed death; `refill_ms`: from a child's end to the readiness of its successor.
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
        """The counts, and quantiles of the latest durations, as metrics."""
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
