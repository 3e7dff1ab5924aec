"""Stall detection: distinguish an idle partition from a consumer that has silently stopped fetching.

After a broker's restart or a rebalance, some clients stop fetching for good without an error.
"""

import time
from collections.abc import Callable, Hashable


class StallDetector:
    """Asks for a check after `silence_s` without a record, and reports a stall when two checks in a row agree."""

    def __init__(self, silence_s: float, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._silence_s = silence_s
        self._now_s = now_s
        self._doubts: frozenset[Hashable] = frozenset()
        self._due_s = now_s() + silence_s

    @property
    def due(self) -> bool:
        """Whether it is time for a check: no record came for `silence_s`."""
        return self._now_s() >= self._due_s

    def broken(self) -> None:
        """Note that a record came."""
        self._doubts = frozenset()
        self._due_s = self._now_s() + self._silence_s

    def doubts(self, doubts: frozenset[Hashable]) -> bool:
        """Note the doubts of a check, such as a partition whose position is below its end.

        Return True if the check before had one of the same doubts.
        """
        again = bool(doubts & self._doubts)
        self._doubts = doubts
        self._due_s = self._now_s() + self._silence_s
        return again
