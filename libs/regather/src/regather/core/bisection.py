"""The search for the bad rows of a shard that failed for good: halves, until each bad row stands alone.

It takes for granted that a row is bad by itself. Where that is not so (too much memory for all rows together, a time-out
of many slow rows) no single row fails alone, and the search says that no row is to blame.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Generic, TypeVar

ErrorT = TypeVar("ErrorT")


class Verdict(StrEnum):
    """How a search ended. Only FOUND has an output: that of all good rows, run together once more."""

    FOUND = "found"
    NO_ROW = "no single row is to blame"
    ALL_ROWS = "every row is bad"
    TOO_MANY = "too many rows are bad"
    TOO_LONG = "the search took too long"


class Bisection(Generic[ErrorT]):
    """Mutable, without IO: run the rows of `next_run`, say how it went to took(), until there is a verdict.

    `rows` are the shard's row numbers; at most `most_bad` bad rows are looked for, within `budget_us` of running. With n
    rows it takes at most ceil(log2 n) + 2 runs for each bad row, which is within twice log2 n from four rows on, and one
    at the end.
    """

    def __init__(self, rows: range, *, most_bad: int, budget_us: int) -> None:
        self._rows = rows
        self._most_bad = most_bad
        self._budget_us = budget_us
        self._low = rows.start
        """The rows below are settled."""
        self._blamed_end: int | None = rows.stop
        """There is a bad row from `_low` up to here; None: nobody knows whether there is one more."""
        self.bad: dict[int, ErrorT] = {}
        self.runs = 0
        self.verdict: Verdict | None = None if len(rows) > 1 else Verdict.ALL_ROWS

    @property
    def next_run(self) -> tuple[range, ...]:
        """The rows to run next, as ascending ranges; without a verdict there are always some."""
        end = self._rows.stop
        if self._low == end:
            return tuple(self._good())
        if self._blamed_end is None:
            return (range(self._low, end),)
        return (range(self._low, self._low + max(1, (self._blamed_end - self._low) // 2)),)

    def took(self, error: ErrorT | None, duration_us: int) -> None:
        """Note how the rows of `next_run` went: well, or with an error."""
        first = self.next_run[0]
        self.runs += 1
        self._budget_us -= duration_us
        if self._low == self._rows.stop:
            self.verdict = Verdict.FOUND if error is None else Verdict.NO_ROW
        elif error is None:
            self._passed(first)
        else:
            self._failed(first, error)
        if self.verdict is None and self._budget_us <= 0:
            self.verdict = Verdict.TOO_LONG

    def _passed(self, run: range) -> None:
        if run.stop == self._blamed_end:
            self.verdict = Verdict.NO_ROW  # the one row that was left to blame
        self._low = run.stop

    def _failed(self, run: range, error: ErrorT) -> None:
        if len(run) > 1:
            self._blamed_end = run.stop
            return
        self.bad[run.start] = error
        self._low = run.stop
        self._blamed_end = None
        if len(self.bad) == len(self._rows):
            self.verdict = Verdict.ALL_ROWS
        elif len(self.bad) > self._most_bad:
            self.verdict = Verdict.TOO_MANY

    def _good(self) -> Sequence[range]:
        edges = [self._rows.start - 1, *sorted(self.bad), self._rows.stop]
        between = [range(low + 1, high) for low, high in pairwise(edges)]
        return [rows for rows in between if rows]
