"""Bisection: find the bad rows of a shard that failed for good by running ever smaller parts of it.

The search assumes that a bad row also fails when it runs alone. Where that is not so (all rows together need too much
memory, or many slow rows exceed the time limit), no row fails alone, and the search ends with SearchResult.NO_ROW.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Generic, TypeVar

ErrorT = TypeVar("ErrorT")


class SearchResult(StrEnum):
    """How a search ended. Only FOUND has an output: that of the last run, of all good rows together."""

    FOUND = "found"
    NO_ROW = "no single row is to blame"
    ALL_ROWS = "every row is bad"
    TOO_MANY = "too many rows are bad"
    TOO_LONG = "the search took too long"


class Bisection(Generic[ErrorT]):
    """Mutable, without IO. Run the rows of `next_run` and pass the result to apply(), until `result` is set.

    `rows` are the shard's row numbers. The search gives up when it has found more than `most_bad` bad rows, or when its
    runs have taken `budget_us`. With n rows, each bad row costs at most ceil(log2 n) + 2 runs. The search ends with one
    run of all good rows.
    """

    def __init__(self, rows: range, *, most_bad: int, budget_us: int) -> None:
        self._rows = rows
        self._most_bad = most_bad
        self._budget_us = budget_us
        self._low = rows.start
        """Each row below this one is known to be good or bad."""
        self._blamed_end: int | None = rows.stop
        """At least one row from `_low` up to here (excluded) is bad. None: nothing is known about the other rows."""
        self.bad: dict[int, ErrorT] = {}
        self.runs = 0
        self.result: SearchResult | None = None if len(rows) > 1 else SearchResult.ALL_ROWS

    @property
    def next_run(self) -> tuple[range, ...]:
        """The rows to run next, as ascending ranges; never empty while there is no verdict."""
        end = self._rows.stop
        if self._low == end:
            return tuple(self._good())
        if self._blamed_end is None:
            return (range(self._low, end),)
        return (range(self._low, self._low + max(1, (self._blamed_end - self._low) // 2)),)

    def apply(self, error: ErrorT | None, duration_us: int) -> None:
        """Apply the result of running `next_run`: None for a success, else the error."""
        first = self.next_run[0]
        self.runs += 1
        self._budget_us -= duration_us
        if self._low == self._rows.stop:
            self.result = SearchResult.FOUND if error is None else SearchResult.NO_ROW
        elif error is None:
            self._passed(first)
        else:
            self._failed(first, error)
        if self.result is None and self._budget_us <= 0:
            self.result = SearchResult.TOO_LONG

    def _passed(self, run: range) -> None:
        if run.stop == self._blamed_end:
            self.result = SearchResult.NO_ROW  # the last row that could be bad has passed
        self._low = run.stop

    def _failed(self, run: range, error: ErrorT) -> None:
        if len(run) > 1:
            self._blamed_end = run.stop
            return
        self.bad[run.start] = error
        self._low = run.stop
        self._blamed_end = None
        if len(self.bad) == len(self._rows):
            self.result = SearchResult.ALL_ROWS
        elif len(self.bad) > self._most_bad:
            self.result = SearchResult.TOO_MANY

    def _good(self) -> Sequence[range]:
        edges = [self._rows.start - 1, *sorted(self.bad), self._rows.stop]
        between = [range(low + 1, high) for low, high in pairwise(edges)]
        return [rows for rows in between if rows]
