"""The search for the bad rows of one shard: what a child has to run next, and what came of it so far.

Every step waits for a slot as a shard does, so a search holds nobody up; all of it belongs to the one attempt that failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from regather.core.bisection import Bisection, Verdict
from regather.core.model import AttemptError, Reason, Shard
from regather.processors.base import Piece
from regather.runtime.execution import Call, Done, Failed, Work, WorkItem, WorkLimits
from regather.runtime.row_calls import pack_rows, unpack_pieces, unpack_rows

_BUDGET_TIMEOUTS = 20
_PICKED_EXTRA_BYTES = 4 * 1024 * 1024  # for the header in front of each picked row
_NOT_SEARCHED = frozenset({Reason.WORKER_LOST, Reason.UNREADABLE, Reason.INTERNAL})


@dataclass(frozen=True, slots=True)
class Found:
    """The output of all good rows; of each bad row its number, its error, and the shard with nothing but this row."""

    output: Done
    bad: Sequence[tuple[int, AttemptError, Piece]]


def may_search(shard: Shard, reason: Reason) -> bool:
    """Whether it makes sense to look for single bad rows in a shard that failed for good."""
    return shard.skip and not shard.chained and reason not in _NOT_SEARCHED


class RowSearch:
    """One search: run what work() says and give the result to took(), until it has `found` or `gave_up` (and why).

    `failed` and `error` say how the whole shard failed.
    """

    def __init__(self, shard: Shard, failed: Failed, error: AttemptError, *, most_bad: int) -> None:
        self._shard = shard
        self._most_bad = most_bad
        self._bisection: Bisection[AttemptError] | None = None
        self._output: Done | None = None
        self.failed = failed
        self.error = error
        self.found: Found | None = None
        self.gave_up = ""

    @property
    def exclusive(self) -> bool:
        """Whether its worker has to run nothing else meanwhile."""
        return self.failed.reason is Reason.OUT_OF_MEMORY

    def work(self, limits: WorkLimits) -> Work:
        """Return what a child has to run next."""
        call, rows = Call.ROWS, b""
        if self._bisection is not None and self._output is not None:
            call, rows = Call.PICK, pack_rows([range(row, row + 1) for row in self._bisection.bad])
            limits = replace(limits, output_bytes=limits.output_bytes + _PICKED_EXTRA_BYTES)
        elif self._bisection is not None:
            call, rows = Call.PROCESS, pack_rows(self._bisection.next_run)
        shard = self._shard
        item = WorkItem(shard.seq, shard.payload, shard.meta, shard.attempt, rows=rows)
        return Work(call, shard.kind, shard.options, [item], limits)

    def took(self, result: Done | Failed, error: AttemptError | None) -> None:
        """Note how it went; `error` is the result as an attempt's error if it failed."""
        if self._bisection is None:
            self._begin(result)
        elif self._output is None:
            self._step(self._bisection, result, error)
        elif isinstance(result, Done):
            bad = [
                (*named, piece)
                for named, piece in zip(self._bisection.bad.items(), unpack_pieces(result.output), strict=True)
            ]
            self.found = Found(self._output, bad)
        else:
            self.gave_up = f"the bad rows cannot be picked: {result.error}"

    def as_failure(self) -> tuple[Failed, AttemptError]:
        """Return how the whole shard failed, and that the search for its bad rows was in vain."""
        text = self.failed.error if self._bisection is None else f"{self.failed.error} ({self.gave_up})"
        return replace(self.failed, error=text), replace(self.error, error=text)

    def _begin(self, result: Done | Failed) -> None:
        if isinstance(result, Failed):
            self.gave_up = f"its rows cannot be told apart: {result.error}"
            return
        rows = unpack_rows(result.output)
        if not rows or len(rows[0]) < 2:
            self.gave_up = "no rows"
            return
        budget_us = _BUDGET_TIMEOUTS * self._shard.timeout_ms * 1000
        self._bisection = Bisection(rows[0], most_bad=self._most_bad, budget_us=budget_us)

    def _step(self, bisection: Bisection[AttemptError], result: Done | Failed, error: AttemptError | None) -> None:
        bisection.took(error, result.duration_us)
        if bisection.verdict is Verdict.FOUND and isinstance(result, Done):
            self._output = result
        elif bisection.verdict is not None:
            named = ", ".join(map(str, bisection.bad))
            self.gave_up = f"{bisection.verdict.value}" + (f": {named}" if named else "")
