"""The search for the bad rows of one shard: what a child must run next, and the results so far.

Each step waits for a slot as a shard does, so that a search does not hold other shards up. The whole search belongs to
the one attempt that failed.
"""

from dataclasses import replace

from regather.children.row_calls import pack_rows, unpack_pieces, unpack_rows
from regather.children.work import Call, Work, WorkItem, WorkLimits
from regather.core.bisection import Bisection, SearchResult
from regather.core.execution import Done, Failed, NotRun, Result
from regather.core.model import AttemptError, Reason, Shard
from regather.core.settlement import (
    DeadLettered,
    Decision,
    FoundRow,
    Rerun,
    attempt_error,
    dead_lettered,
    rows_dead_lettered,
)
from regather.service.logs import get_logger

log = get_logger()
_BUDGET_TIMEOUTS = 20
_PICKED_EXTRA_BYTES = 4 * 1024 * 1024  # for the header in front of each picked row


class RowSearch:
    """One search: run what work() returns and pass the result to apply(), until apply() returns a final decision.

    `failed` and `error` say how the whole shard failed.
    """

    def __init__(self, shard: Shard, failed: Failed, error: AttemptError, *, most_bad: int) -> None:
        self._shard = shard
        self._most_bad = most_bad
        self._bisection: Bisection[AttemptError] | None = None
        self._output: Done | None = None
        self.failed = failed
        self.error = error
        self._gave_up = ""

    @property
    def exclusive(self) -> bool:
        """Whether the worker must run nothing else meanwhile: true for a shard that ran out of memory."""
        return self.failed.reason is Reason.OUT_OF_MEMORY

    def work(self, limits: WorkLimits) -> Work:
        """Return what a child must run next."""
        call, rows = Call.ROWS, b""
        if self._bisection is not None and self._output is not None:
            call, rows = Call.PICK, pack_rows([range(row, row + 1) for row in self._bisection.bad])
            limits = replace(limits, output_bytes=limits.output_bytes + _PICKED_EXTRA_BYTES)
        elif self._bisection is not None:
            call, rows = Call.PROCESS, pack_rows(self._bisection.next_run)
        shard = self._shard
        item = WorkItem(shard.seq, shard.payload, shard.meta, shard.attempt, rows=rows)
        return Work(call, shard.kind, shard.options, [item], limits)

    def apply(self, result: Result, worker: str) -> Decision:
        """Apply the result of a run on `worker`; return Rerun while there is more to run."""
        if isinstance(result, NotRun):
            return Rerun()
        if self._bisection is None:
            self._begin(result)
        elif self._output is None:
            error = attempt_error(self._shard, result, worker) if isinstance(result, Failed) else None
            self._step(self._bisection, result, error)
        elif isinstance(result, Done):
            return rows_dead_lettered(self._shard, self._output, self._bad_rows(self._bisection, result))
        else:
            self._gave_up = f"extracting the bad rows failed: {result.error}"
        return self._in_vain() if self._gave_up else Rerun()

    def _bad_rows(self, bisection: Bisection[AttemptError], picked: Done) -> list[FoundRow]:
        pieces = unpack_pieces(picked.output)
        return [
            FoundRow(row, error, self._shard._replace(payload=piece.payload, meta=piece.meta))
            for (row, error), piece in zip(bisection.bad.items(), pieces, strict=True)
        ]

    def _in_vain(self) -> DeadLettered:
        """Return the dead letter of the whole shard: the search did not separate its bad rows from the good ones."""
        shard = self._shard
        log.info("rows-not-told-apart", job=shard.owner.job_id, seq=shard.seq, why=self._gave_up)
        text = self.failed.error if self._bisection is None else f"{self.failed.error} ({self._gave_up})"
        return dead_lettered(shard, replace(self.failed, error=text), replace(self.error, error=text))

    def _begin(self, result: Done | Failed) -> None:
        if isinstance(result, Failed):
            self._gave_up = f"splitting the shard into rows failed: {result.error}"
            return
        rows = unpack_rows(result.output)
        if not rows or len(rows[0]) < 2:
            self._gave_up = "it has fewer than two rows"
            return
        budget_us = _BUDGET_TIMEOUTS * self._shard.timeout_ms * 1000
        self._bisection = Bisection(rows[0], most_bad=self._most_bad, budget_us=budget_us)

    def _step(self, bisection: Bisection[AttemptError], result: Done | Failed, error: AttemptError | None) -> None:
        bisection.apply(error, result.duration_us)
        if bisection.result is SearchResult.FOUND and isinstance(result, Done):
            self._output = result
        elif bisection.result is not None:
            named = ", ".join(map(str, bisection.bad))
            self._gave_up = f"{bisection.result.value}" + (f": {named}" if named else "")
