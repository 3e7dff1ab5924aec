"""Telling a reader to which nothing comes because there is nothing from one that its client has ceased to serve.

After a broker's restart or a rebalance some clients stop for good and say nothing.
"""

import time
from collections.abc import Callable, Hashable


class StallDetector:
    """Suspects nobody before it was quiet for `silence_s`, and is sure when the same doubt comes up twice in a row."""

    def __init__(self, silence_s: float, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._silence_s = silence_s
        self._now_s = now_s
        self._doubts: frozenset[Hashable] = frozenset()
        self._due_s = now_s() + silence_s

    @property
    def due(self) -> bool:
        """Whether it is time to ask what there is."""
        return self._now_s() >= self._due_s

    def broken(self) -> None:
        """Something came."""
        self._doubts = frozenset()
        self._due_s = self._now_s() + self._silence_s

    def doubts(self, doubts: frozenset[Hashable]) -> bool:
        """Note what is in doubt now, say a partition at a position that is not its end; True if one of them was before."""
        again = bool(doubts & self._doubts)
        self._doubts = doubts
        self._due_s = self._now_s() + self._silence_s
        return again
