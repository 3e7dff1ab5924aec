"""One job's fold: outcomes in any order and any number of times become one ordered result.

The job is a state machine. Every transition is a row of `TRANSITIONS`; an event without a row for the present state is
dropped and counted, because a log that is read at least once repeats itself. No clock: `log_ms` is the highest append
time that the broker has stamped so far, so a replay decides the same.

    opened -> SPLITTING -> sealed -> RUNNING -> all settled -> ASSEMBLING -> assembled -> SUCCEEDED | PARTIAL
    any open state -> FAILED (a shard under on_error=fail, too many under skip, not sealed, merge, internal)
                    | EXPIRED (deadline) | CANCELLED
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from regather.core.model import (
    Abandoned,
    AttemptFailed,
    Cancel,
    DeadLetterAddress,
    JobState,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    Sealed,
    Shard,
    Uploading,
)
from regather.core.status import MAX_ERRORS_SHOWN, JobStatus, ResultAddress, ShardError

MAX_ERROR_CHARS = 1_000
MAX_ROW_ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class Assembled:
    """The shell joined or merged the outputs."""

    result: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class JobBroken:
    """The job cannot go on: merge failed, result too large, silence, deadline, or an error of our own."""

    reason: Reason
    error: str


JobEvent = Uploading | Sealed | Abandoned | Outcomes | AttemptFailed | Parked | Cancel | Assembled | JobBroken


@dataclass(frozen=True, slots=True)
class Assemble:
    """Instruction: join or merge the outputs of this job, then hand back Assembled or JobBroken."""

    job: "JobFold"


@dataclass(frozen=True, slots=True)
class EmitFinal:
    """Instruction: write the one final of this job and version."""

    job: "JobFold"
    result: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Release:
    """Instruction: let the next shard of a chain run, with the carry of the one before it."""

    job: "JobFold"
    shard: Shard


Instruction = Assemble | EmitFinal | Release


class JobFold:
    """The state of one open job. Mutable, without IO."""

    def __init__(self, opened: Opened, *, offset: int, opened_ms: int) -> None:
        self.opened = opened
        self.owner = opened.owner
        self.first_offset = offset
        self.opened_ms = opened_ms
        self.last_sign_ms = opened_ms
        self.updated_ms = opened_ms
        self.state = JobState.SPLITTING
        self.sealed: Sealed | None = None
        self.retries = 0
        self.duplicates = 0
        self.dropped = 0
        self.frontier = 0
        self.broken: JobBroken | None = None
        self.result_size_bytes = 0
        self.media_type = ""
        self._outputs: dict[int, bytes] = {}
        self._failed: dict[int, ShardError] = {}
        self._damaged: dict[int, tuple[ShardError, ...]] = {}
        """Shards that are done but for some bad rows; their outputs are with the others."""
        self._parked: dict[int, Parked] = {}
        self._carry: tuple[int, bytes] = (0, b"")
        """The newest carry, and the number of the shard that begins with it."""
        self._released = 0

    def handle(self, event: JobEvent, log_ms: int) -> Instruction | None:
        """Apply one event; what the shell has to do now, if anything."""
        transition = TRANSITIONS.get((self.state, type(event)))
        if transition is None:
            self.dropped += 1
            return None
        self.updated_ms = max(self.updated_ms, log_ms)
        return transition(self, event)

    @property
    def settled(self) -> int:
        """How many shards are done or failed for good."""
        return len(self._outputs) + len(self._failed)

    def outputs(self) -> list[bytes | None]:
        """Outputs in sequence order; None stands where a shard failed for good."""
        total = self.sealed.shards if self.sealed else 0
        return [self._outputs.get(seq) for seq in range(total)]

    def status(self, result: ResultAddress | None = None) -> JobStatus:
        """The job's document at this moment."""
        opened, sealed = self.opened, self.sealed
        return JobStatus(
            owner=self.owner,
            state=self.state,
            kind=opened.kind,
            tenant=opened.tenant,
            label=opened.label,
            on_error=opened.on_error,
            created_ms=self.opened_ms,
            updated_ms=self.updated_ms,
            deadline_ms=self.opened_ms + opened.deadline_ms,
            total=sealed.shards if sealed else None,
            done=len(self._outputs),
            failed=len(self._failed),
            retries=self.retries,
            frontier=self.frontier,
            bad_rows=sum(map(len, self._damaged.values())),
            size_bytes=sealed.size_bytes if sealed else None,
            digest=sealed.digest if sealed else "",
            gaps=ranges(sorted(self._failed)),
            errors=tuple(islice(self._errors(), MAX_ERRORS_SHOWN)),
            reason=self.broken.reason if self.broken else None,
            error=self.broken.error if self.broken else "",
            result=result,
            events_offset=self.first_offset,
        )

    def _on_uploading(self, _event: Uploading) -> None:
        self.last_sign_ms = self.updated_ms

    def _on_sealed(self, event: Sealed) -> Instruction | None:
        self.sealed = event
        self.state = JobState.RUNNING
        for seq in [seq for seq in (*self._outputs, *self._failed) if seq >= event.shards]:
            self._outputs.pop(seq, None)
            self._failed.pop(seq, None)
            self._damaged.pop(seq, None)
            self.dropped += 1
        self.frontier = min(self.frontier, event.shards)
        broken = self._too_many_failed()
        return self._break(broken) if broken else self._settle()

    def _on_abandoned(self, event: Abandoned) -> Instruction:
        return self._break(JobBroken(Reason.NOT_SEALED, f"not sealed: {event.error}"))

    def _on_outcomes(self, event: Outcomes) -> Instruction | None:
        for outcome in event.outcomes:
            self._take(outcome)
        self._advance_frontier()
        broken = self._too_many_failed()
        return self._break(broken) if broken else self._settle() or self._release()

    def _on_parked(self, event: Parked) -> Instruction | None:
        self._parked[event.seq] = event
        return self._release()

    def _release(self) -> Release | None:
        """Release the frontier's shard of a chain, once: the carry of the winning outcome before it is known."""
        seq, carry = self._carry
        parked = self._parked.get(seq)
        if parked is None or seq != self.frontier or seq <= self._released:
            return None
        self._released = seq
        opened = self.opened
        shard = Shard(
            self.owner, seq, opened.kind, opened.options, b"", parked.meta, parked.timeout_ms,
            chained=True, carry=carry, source=parked.place,
        )  # fmt: skip
        return Release(self, shard)

    def _too_many_failed(self) -> JobBroken | None:
        opened, failed = self.opened, len(self._failed) + len(self._damaged)
        if not failed:
            return None
        if opened.on_error is OnError.FAIL or opened.chained:
            return self._first_failure()
        if opened.max_failed is not None and failed > opened.max_failed:
            return _too_many(f"{failed} shards", str(opened.max_failed), self._first_failure().error)
        total = self.sealed.shards if self.sealed else 0
        if opened.max_failed_pct is not None and total and failed * 100 > opened.max_failed_pct * total:
            most = f"{opened.max_failed_pct:g} %"
            return _too_many(f"{failed} of {total} shards", most, self._first_failure().error)
        return None

    def _on_cancel(self, _event: Cancel) -> Instruction:
        return self._break(JobBroken(Reason.CANCELLED, "the job was cancelled"))

    def _on_attempt_failed(self, _event: AttemptFailed) -> None:
        self.retries += 1

    def _on_assembled(self, event: Assembled) -> Instruction:
        self.state = JobState.PARTIAL if self._failed or self._damaged else JobState.SUCCEEDED
        return self._emit(event.result, event.media_type)

    def _break(self, broken: JobBroken) -> Instruction:
        self.broken = JobBroken(broken.reason, broken.error[:MAX_ERROR_CHARS])
        self.state = _ENDS.get(broken.reason, JobState.FAILED)
        return self._emit(b"", "")

    def _emit(self, result: bytes, media_type: str) -> EmitFinal:
        self._outputs = dict.fromkeys(self._outputs, b"")  # the bytes are not needed any more, the count is
        return EmitFinal(self, result, media_type)

    def _take(self, outcome: Outcome) -> None:
        seq = outcome.seq
        if seq in self._outputs or seq in self._failed:
            self.duplicates += 1
        elif self.sealed is not None and seq >= self.sealed.shards:
            self.dropped += 1
        elif outcome.failure is None:
            self._outputs[seq] = outcome.output
            if outcome.bad_rows:
                self._damaged[seq] = row_errors(outcome)
            if self.opened.chained and seq >= self._carry[0]:
                self._carry = (seq + 1, outcome.carry)
        else:
            self._failed[seq] = shard_error(outcome)

    def _advance_frontier(self) -> None:
        at = self.frontier
        while at in self._outputs or at in self._failed:
            at += 1
        self.frontier = at

    def _settle(self) -> Instruction | None:
        if self.sealed is None or self.settled < self.sealed.shards:
            return None
        self.state = JobState.ASSEMBLING
        return Assemble(self)

    def _first_failure(self) -> JobBroken:
        first = next(self._errors())
        what = f"shard {first.seq}" if first.row is None else f"row {first.row} (shard {first.seq})"
        return JobBroken(Reason.SHARD_FAILED, f"{what} failed for good: {first.reason}: {first.error}")

    def _errors(self) -> Iterator[ShardError]:
        """Errors of shards and rows in sequence order."""
        for seq in sorted((*self._failed, *self._damaged)):
            if seq in self._failed:
                yield self._failed[seq]
            else:
                yield from self._damaged[seq]


_ENDS = {Reason.DEADLINE: JobState.EXPIRED, Reason.CANCELLED: JobState.CANCELLED}
Transition = Callable[[JobFold, Any], Instruction | None]
# Any: each handler takes the narrower event of its own row, which a mapping's type cannot say.

_OPEN_STATES = (JobState.SPLITTING, JobState.RUNNING, JobState.ASSEMBLING)
TRANSITIONS: Mapping[tuple[JobState, type], Transition] = {
    (JobState.SPLITTING, Uploading): JobFold._on_uploading,
    (JobState.SPLITTING, Sealed): JobFold._on_sealed,
    (JobState.SPLITTING, Abandoned): JobFold._on_abandoned,
    (JobState.SPLITTING, Outcomes): JobFold._on_outcomes,
    (JobState.SPLITTING, AttemptFailed): JobFold._on_attempt_failed,
    (JobState.SPLITTING, Parked): JobFold._on_parked,
    (JobState.RUNNING, Outcomes): JobFold._on_outcomes,
    (JobState.RUNNING, AttemptFailed): JobFold._on_attempt_failed,
    (JobState.RUNNING, Parked): JobFold._on_parked,
    (JobState.ASSEMBLING, Assembled): JobFold._on_assembled,
    **{(state, Cancel): JobFold._on_cancel for state in _OPEN_STATES},
    **{(state, JobBroken): JobFold._break for state in _OPEN_STATES},
}


def _too_many(failed: str, allowed: str, first_error: str) -> JobBroken:
    why = f"{failed} failed for good or have bad rows; at most {allowed} may. The first: {first_error}"
    return JobBroken(Reason.TOO_MANY_FAILED, why)


def ranges(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as inclusive ranges: 1 2 3 7 gives (1, 3), (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def shard_error(outcome: Outcome) -> ShardError:
    """A failed outcome as the job's document names it."""
    failure = outcome.failure
    if failure is None:
        raise ValueError(f"shard {outcome.seq} did not fail")
    return ShardError(
        seq=outcome.seq,
        reason=failure.reason,
        error=failure.error[:MAX_ERROR_CHARS],
        attempts=outcome.attempts,
        dead_letter=_pair(failure.dead_letter),
    )


def row_errors(outcome: Outcome) -> tuple[ShardError, ...]:
    """The bad rows of an outcome as the job's document names them."""
    return tuple(
        ShardError(
            outcome.seq, bad.reason, bad.error[:MAX_ROW_ERROR_CHARS], outcome.attempts, _pair(bad.dead_letter), bad.row
        )
        for bad in outcome.bad_rows
    )


def _pair(letter: DeadLetterAddress | None) -> tuple[int, int] | None:
    return (letter.partition, letter.offset) if letter else None
