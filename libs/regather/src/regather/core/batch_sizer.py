"""Decides how many tiny shards share a micro-batch: as many as take about ten milliseconds, judged by earlier runs.

A larger batch saves little and makes others wait for its end: a small job waits for a slot, an outcome for its event.
"""

from collections import OrderedDict
from collections.abc import Hashable

BATCH_TARGET_US = 10_000
FIRST_BATCH_ITEMS = 8
MAX_BATCH_ITEMS = 64
_WEIGHT = 0.3
_REMEMBERED = 1000


class BatchSizer:
    """A running mean of the run time of each sort of shards. Mutable, without IO."""

    def __init__(self) -> None:
        self._means_us: OrderedDict[Hashable, float] = OrderedDict()

    def saw(self, sort: Hashable, items: int, duration_us: int) -> None:
        """Note that `items` shards of this sort ran for `duration_us` in total."""
        if items <= 0:
            return
        seen_us = duration_us / items
        mean_us = self._means_us.pop(sort, seen_us)
        self._means_us[sort] = mean_us + _WEIGHT * (seen_us - mean_us)
        if len(self._means_us) > _REMEMBERED:
            self._means_us.popitem(last=False)

    def batch_items(self, sort: Hashable) -> int:
        """Return the most shards of this sort that should share a batch."""
        mean_us = self._means_us.get(sort)
        if mean_us is None:
            return FIRST_BATCH_ITEMS
        return max(1, min(MAX_BATCH_ITEMS, int(BATCH_TARGET_US / max(1.0, mean_us))))
