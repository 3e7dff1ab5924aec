"""Which ends of a job the log allows, and what its result is: written without the fold, from the plan and the log alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from regather.core.model import (
    Abandoned,
    Cancel,
    JobState,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Reason,
    Sealed,
    Tick,
    Uploading,
)
from simulation.kinds import Row, merged, shard_answer
from simulation.ledger import LoggedEvent
from simulation.workload import JobPlan


@dataclass
class Account:
    """One submission that owned its job, as the log tells it. `may` holds ends that time or somebody's wish allows."""

    opened: LoggedEvent
    silence_ms: int
    sealed: Sealed | None = None
    first: dict[int, Outcome] = field(default_factory=dict)
    """The first outcome of each shard in log order."""
    may: set[tuple[JobState, Reason]] = field(default_factory=set)
    _last_sign_ms: int = 0

    @property
    def order(self) -> Opened:
        event = self.opened.event
        assert isinstance(event, Opened)
        return event

    def read(self, log: Sequence[LoggedEvent]) -> "Account":
        """Go through the partition from the opening on."""
        self._last_sign_ms = self.opened.log_ms
        for entry in log:
            if entry.offset > self.opened.offset:
                self._take(entry)
        return self

    def _take(self, entry: LoggedEvent) -> None:
        event = entry.event
        if isinstance(event, Tick):
            self._tick(entry.log_ms)
        elif getattr(event, "owner", None) != self.order.owner:
            return
        elif isinstance(event, Outcomes):
            for outcome in event.outcomes:
                self.first.setdefault(outcome.seq, outcome)
        elif isinstance(event, Uploading):
            self._last_sign_ms = entry.log_ms
        elif isinstance(event, Sealed) and self.sealed is None:
            self.sealed = event
        elif isinstance(event, Abandoned) and self.sealed is None:
            self.may.add((JobState.FAILED, Reason.NOT_SEALED))
        elif isinstance(event, Cancel):
            self.may.add((JobState.CANCELLED, Reason.CANCELLED))

    def _tick(self, log_ms: int) -> None:
        if log_ms >= self.opened.log_ms + self.order.deadline_ms:
            self.may.add((JobState.EXPIRED, Reason.DEADLINE))
        if self.sealed is None and log_ms - self._last_sign_ms >= self.silence_ms:
            self.may.add((JobState.FAILED, Reason.NOT_SEALED))

    @property
    def failed(self) -> list[int]:
        return sorted(seq for seq, outcome in self.first.items() if outcome.failure is not None)

    @property
    def damaged(self) -> list[int]:
        return sorted(seq for seq, outcome in self.first.items() if outcome.bad_rows)

    def must(self, plan: JobPlan, *, merges_get_lost: bool) -> set[tuple[JobState, Reason | None]]:
        """The ends that what became of the shards leads to; empty while they do not decide."""
        order, bad = self.order, len(self.failed) + len(self.damaged)
        if bad and (order.on_error is OnError.FAIL or order.chained):
            return {(JobState.FAILED, Reason.SHARD_FAILED)}
        if order.max_failed is not None and bad > order.max_failed:
            return {(JobState.FAILED, Reason.TOO_MANY_FAILED)}
        if self.sealed is None or len(self.first) < self.sealed.shards:
            return set()
        done: set[tuple[JobState, Reason | None]] = {(JobState.PARTIAL if bad else JobState.SUCCEEDED, None)}
        if plan.kind != "merged":
            return done
        broken: set[tuple[JobState, Reason | None]] = {(JobState.FAILED, Reason.MERGE_FAILED)}
        return broken if plan.merge == "raises" else done | (broken if merges_get_lost else set())

    def result(self, plan: JobPlan) -> bytes:
        """Compute the result anew from what the client sent, without the shards and rows that failed."""
        failed, bad_rows = (
            set(self.failed),
            {seq: {bad.row for bad in self.first[seq].bad_rows} for seq in self.damaged},
        )
        outputs: list[bytes | None] = []
        carry = b""
        for seq, rows in enumerate(plan.shards):
            if seq in failed:
                outputs.append(None)
                continue
            good = [row for row in rows if row.number not in bad_rows.get(seq, ())]
            output = shard_answer(good, plan.pad)
            if plan.kind == "chained":
                output, carry = carry[:6] + b">" + output, hashlib.sha256(carry + output).hexdigest().encode()
            outputs.append(output)
        if plan.kind == "merged":
            return merged(outputs)
        return b"".join(output for output in outputs if output is not None)


def fails(row: Row, attempt: int) -> bool:
    """Whether this row spoils this attempt of its shard by itself."""
    return row.fate in ("bad", "perm") or (row.fate not in ("ok", "slow") and attempt < row.argument)
