"""One job's fold: outcomes in any order and any number of times become one ordered result.

The problem: workers publish at least once, so events repeat. An aggregator may crash at any moment, and its successor
must decide the same from the same log. So the fold has no IO and no clock: `log_ms` is the highest append time so far.

The states: `TRANSITIONS` has a row for each pair of state and event that means something, with the states that it may
lead to (docs/protocol.md#states). An event without a row is dropped and counted.

    opened, redriven -> SPLITTING -> sealed -> RUNNING -> all settled -> ASSEMBLING -> assembled -> SUCCEEDED | PARTIAL
    any open state -> FAILED (a shard under on_error=fail, too many under skip, not sealed, merge, internal)
                    | EXPIRED (deadline) | CANCELLED

Who calls what: only PartitionFold makes a JobFold and calls handle(), which returns at most one instruction. The
aggregator carries it out and returns the result as an event: Assembled, InheritedLoaded, or JobBroken. With EmitFinal
the job has ended, and its outputs are released. Checkpoints call mark() and pop_unsaved() while `may_be_saved`.

Rejected: checkpoints of the ordered result (ADR 0013), and outputs kept as segments for later redrives (ADR 0012).
"""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from itertools import islice

from regather.core.checkpoint import CheckpointMark, packs
from regather.core.job_events import Assembled, InheritedLoaded, JobBroken, JobEvent, Restored
from regather.core.model import (
    Abandoned,
    AttemptFailed,
    Cancel,
    Event,
    JobState,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    Redriven,
    Sealed,
    Shard,
    Uploading,
)
from regather.core.seq_ranges import contains
from regather.core.settled import MAX_ERROR_CHARS, SettledShards
from regather.core.status import MAX_ERRORS_SHOWN, JobStatus, ResultAddress
from regather.core.transition_row import Row, row


@dataclass(frozen=True, slots=True)
class Assemble:
    """Instruction: join or merge the outputs of this job, then return Assembled or JobBroken."""

    job: "JobFold"


@dataclass(frozen=True, slots=True)
class LoadInherited:
    """Instruction: read the job's events from offset `first` up to `end`, then return InheritedLoaded or JobBroken."""

    job: "JobFold"
    first: int
    end: int


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


Instruction = Assemble | EmitFinal | LoadInherited | Release


class JobFold:
    """The state of one open job. Mutable, without IO. A `redriven` job needs the outcomes of its base version first."""

    def __init__(
        self,
        opened: Opened,
        *,
        offset: int,
        opened_ms: int,
        redriven: Redriven | None = None,
        outputs: MutableMapping[int, bytes] | None = None,
    ) -> None:
        self.opened = opened
        self.owner = opened.owner
        self.first_offset = offset
        self.opened_ms = opened_ms
        self.redriven = redriven
        self._base_missing = redriven is not None
        self._base_sealed: Sealed | None = None
        self.saved_to: int | None = None
        """A checkpoint holds everything of the job below this offset; None without a checkpoint."""
        self._sealed_saved = False
        self.last_sign_ms = opened_ms
        self.updated_ms = opened_ms
        self.state = JobState.SPLITTING
        self.sealed: Sealed | None = None
        self.retries = 0
        self.duplicates = 0
        self.dropped = 0
        self.broken: JobBroken | None = None
        self.result_size_bytes = 0
        self.media_type = ""
        self.shards = SettledShards({} if outputs is None else outputs)
        self._parked: dict[int, Parked] = {}
        self._carry: tuple[int, bytes] = (0, b"")
        """The number of the shard that starts from the newest carry, and this carry."""
        self._released = 0

    def handle(self, event: JobEvent, log_ms: int) -> Instruction | None:
        """Apply one event; return the instruction that the shell has to carry out now, if any."""
        row = TRANSITIONS.get((self.state, type(event)))
        if row is None:
            self.dropped += 1
            return None
        self.updated_ms = max(self.updated_ms, log_ms)
        return row.apply(self, event)

    @property
    def needed_from(self) -> int:
        """The offset from which a restart has to read for this job."""
        return self.first_offset if self.saved_to is None else self.saved_to

    @property
    def may_be_saved(self) -> bool:
        """Whether a checkpoint is possible now: the job is open, not assembling, and has the outcomes of its base."""
        return not self.state.ended and self.state is not JobState.ASSEMBLING and not self._base_missing

    def mark(self) -> CheckpointMark:
        """Return the mark of a checkpoint that is written now."""
        return CheckpointMark(self.first_offset, self.opened_ms, self.last_sign_ms, self.retries)

    def pop_unsaved(self) -> Iterator[Event]:
        """Yield the events since the last checkpoint and count them as saved. Only while `may_be_saved` is true."""
        if self.saved_to is None:
            yield self.redriven or self.opened
        if self.sealed is not None and not self._sealed_saved:
            self._sealed_saved = True
            yield self.sealed
        yield from packs(self.owner, map(self._with_carry, self.shards.pop_unsaved()))
        yield from (parked for seq, parked in sorted(self._parked.items()) if seq >= self.shards.frontier)

    def restored(self, mark: CheckpointMark) -> None:
        """Apply the mark of a checkpoint's record that was read again."""
        self.last_sign_ms = max(self.last_sign_ms, mark.last_sign_ms)
        self._base_missing = False
        if mark.next_offset is not None:
            self.retries = mark.retries
            self.saved_to = mark.next_offset
            self._sealed_saved = self.sealed is not None
            self.shards.all_saved()

    def _on_restored(self, restored: Restored) -> Instruction | None:
        """Accept a saved event without checks: the job has passed them, and a part of its events cannot be checked."""
        event, mark = restored.event, restored.mark  # of a redriven job, base outcomes are among the events
        if isinstance(event, Outcomes):
            for outcome in event.outcomes:
                if outcome.seq not in self.shards:
                    self._accept(outcome)
        elif isinstance(event, Sealed):
            self.sealed, self.state = event, JobState.RUNNING
            self.dropped += self.shards.cut(event.shards)
        elif isinstance(event, Parked):
            self._parked[event.seq] = event
        self.restored(mark)
        if mark.next_offset is None:
            return None
        self.shards.advance_frontier()
        return self._settle() or self._release()

    def _with_carry(self, outcome: Outcome) -> Outcome:
        newest, carry = self._carry
        return outcome._replace(carry=carry) if outcome.seq + 1 == newest else outcome

    def outputs(self) -> list[bytes | None]:
        """Outputs in sequence order; None in the place of each shard that failed for good."""
        return self.shards.outputs(self.sealed.shards if self.sealed else 0)

    def status(self, result: ResultAddress | None = None) -> JobStatus:
        """Return the job's document as of now."""
        opened, sealed, shards = self.opened, self.sealed, self.shards
        return JobStatus(
            owner=self.owner,
            state=self.state,
            kind=opened.kind,
            tenant=opened.tenant,
            label=opened.label,
            on_error=opened.on_error,
            created_ms=self.redriven.created_ms if self.redriven else self.opened_ms,
            updated_ms=self.updated_ms,
            deadline_ms=self.opened_ms + opened.deadline_ms,
            total=sealed.shards if sealed else None,
            done=shards.done,
            failed=shards.failed,
            retries=self.retries,
            frontier=shards.frontier,
            bad_rows=shards.bad_rows,
            size_bytes=sealed.size_bytes if sealed else None,
            digest=sealed.digest if sealed else "",
            gaps=shards.gaps(),
            errors=tuple(islice(shards.errors(), MAX_ERRORS_SHOWN)),
            reason=self.broken.reason if self.broken else None,
            error=self.broken.error if self.broken else "",
            result=result,
            events_offset=self.redriven.origin if self.redriven else self.first_offset,
            redriven=self.redriven is not None,
        )

    def _on_uploading(self, _event: Uploading) -> None:
        self.last_sign_ms = self.updated_ms

    def _on_sealed(self, event: Sealed) -> Instruction | None:
        self.sealed = event
        self.state = JobState.RUNNING
        self.dropped += self.shards.cut(event.shards)
        broken = self._sealed_otherwise() or self._too_many_failed() or self._nobody_runs()
        return self._break(broken) if broken else self._settle()

    def _on_base_loaded(self, event: InheritedLoaded) -> Instruction | None:
        self._base_missing, self._base_sealed = False, event.sealed
        for seq in sorted(event.outcomes):
            if not self._runs_here(seq):
                self._accept(event.outcomes[seq])
        self.shards.advance_frontier()
        broken = self._sealed_otherwise() or self._too_many_failed() or self._nobody_runs()
        return self._break(broken) if broken else self._settle() or self._release()

    def _on_abandoned(self, event: Abandoned) -> Instruction:
        return self._break(JobBroken(Reason.NOT_SEALED, f"not sealed: {event.error}"))

    def _on_outcomes(self, event: Outcomes) -> Instruction | None:
        for outcome in event.outcomes:
            self._take(outcome)
        self.shards.advance_frontier()
        broken = self._too_many_failed()
        return self._break(broken) if broken else self._settle() or self._release()

    def _on_parked(self, event: Parked) -> Instruction | None:
        self._parked[event.seq] = event
        return self._release()

    def _release(self) -> Release | None:
        """Release the chain's shard at the frontier, once. Its carry is that of the winning outcome before it."""
        seq, carry = self._carry
        parked = self._parked.get(seq)
        if parked is None or seq != self.shards.frontier or seq <= self._released:
            return None
        self._released = seq
        opened = self.opened
        shard = Shard(
            self.owner, seq, opened.kind, opened.options, b"", parked.meta, parked.timeout_ms,
            chained=True, carry=carry, source=parked.place,
        )  # fmt: skip
        return Release(self, shard)

    def _too_many_failed(self) -> JobBroken | None:
        opened, failed = self.opened, self.shards.failed + self.shards.damaged
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
        self.state = JobState.PARTIAL if self.shards.failed or self.shards.damaged else JobState.SUCCEEDED
        return self._emit(event.result, event.media_type)

    def _break(self, broken: JobBroken) -> Instruction:
        self.broken = JobBroken(broken.reason, broken.error[:MAX_ERROR_CHARS])
        self.state = _ENDS.get(broken.reason, JobState.FAILED)
        return self._emit(b"", "")

    def _emit(self, result: bytes, media_type: str) -> EmitFinal:
        self.shards.release()
        return EmitFinal(self, result, media_type)

    def _take(self, outcome: Outcome) -> None:
        if self._runs_here(outcome.seq):
            self._accept(outcome)
        else:
            self.dropped += 1

    def _runs_here(self, seq: int) -> bool:
        """Whether this version runs the shard. All other shards keep their outcome of an earlier version."""
        return self.redriven is None or contains(self.redriven.seqs, seq)

    def _nobody_runs(self) -> JobBroken | None:
        """Find a shard that has no outcome in the base and does not run again: the job would stay open for ever."""
        if self.redriven is None or self.sealed is None or self._base_missing:
            return None
        for seq in range(self.sealed.shards):
            if seq not in self.shards and not self._runs_here(seq):
                text = f"shard {seq} has no outcome in version {self.owner.version - 1} and was not redriven"
                return JobBroken(Reason.INTERNAL, text)
        return None

    def _sealed_otherwise(self) -> JobBroken | None:
        """Compare the seal with the first version's: a redrive runs the same shards, so the seals must be equal."""
        base, own = self._base_sealed, self.sealed
        if base is None or own is None or _sealed_as(own) == _sealed_as(base):
            return None
        found, first = (f"{s.shards} shards, {s.size_bytes} bytes, digest {s.digest}" for s in (own, base))
        return JobBroken(Reason.INTERNAL, f"sealed as {found}, but first as {first}")

    def _accept(self, outcome: Outcome) -> None:
        seq = outcome.seq
        if self.sealed is not None and seq >= self.sealed.shards:
            self.dropped += 1
        elif not self.shards.accept(outcome):
            self.duplicates += 1
        elif self.opened.chained and outcome.failure is None and seq >= self._carry[0]:
            self._carry = (seq + 1, outcome.carry)

    def _settle(self) -> Instruction | None:
        if self.sealed is None or len(self.shards) < self.sealed.shards:
            return None
        self.state = JobState.ASSEMBLING
        return Assemble(self)

    def _first_failure(self) -> JobBroken:
        first = next(self.shards.errors())
        what = f"shard {first.seq}" if first.row is None else f"row {first.row} (shard {first.seq})"
        return JobBroken(Reason.SHARD_FAILED, f"{what} failed for good: {first.reason}: {first.error}")


_ENDS = {Reason.DEADLINE: JobState.EXPIRED, Reason.CANCELLED: JobState.CANCELLED}
_SPLITTING, _RUNNING, _ASSEMBLING = JobState.SPLITTING, JobState.RUNNING, JobState.ASSEMBLING
_FAILED = JobState.FAILED


TRANSITIONS: Mapping[tuple[JobState, type], Row[JobFold, JobState, Instruction]] = {
    (_SPLITTING, Uploading): row(JobFold._on_uploading, _SPLITTING),
    (_SPLITTING, Outcomes): row(JobFold._on_outcomes, _SPLITTING, _FAILED),
    (_SPLITTING, AttemptFailed): row(JobFold._on_attempt_failed, _SPLITTING),
    (_SPLITTING, Parked): row(JobFold._on_parked, _SPLITTING),
    (_SPLITTING, Sealed): row(JobFold._on_sealed, _RUNNING, _ASSEMBLING, _FAILED),
    (_SPLITTING, Abandoned): row(JobFold._on_abandoned, _FAILED),
    (_SPLITTING, InheritedLoaded): row(JobFold._on_base_loaded, _SPLITTING, _FAILED),
    (_SPLITTING, Restored): row(JobFold._on_restored, _SPLITTING, _RUNNING, _ASSEMBLING),
    (_RUNNING, Outcomes): row(JobFold._on_outcomes, _RUNNING, _ASSEMBLING, _FAILED),
    (_RUNNING, AttemptFailed): row(JobFold._on_attempt_failed, _RUNNING),
    (_RUNNING, Parked): row(JobFold._on_parked, _RUNNING),
    (_RUNNING, InheritedLoaded): row(JobFold._on_base_loaded, _RUNNING, _ASSEMBLING, _FAILED),
    (_RUNNING, Restored): row(JobFold._on_restored, _RUNNING, _ASSEMBLING),
    (_ASSEMBLING, Assembled): row(JobFold._on_assembled, JobState.SUCCEEDED, JobState.PARTIAL),
    **{(state, Cancel): row(JobFold._on_cancel, JobState.CANCELLED) for state in (_SPLITTING, _RUNNING, _ASSEMBLING)},
    **{
        (state, JobBroken): row(JobFold._break, _FAILED, JobState.EXPIRED)
        for state in (_SPLITTING, _RUNNING, _ASSEMBLING)
    },
}


def _sealed_as(sealed: Sealed) -> tuple[int, int, str]:
    return sealed.shards, sealed.size_bytes, sealed.digest


def _too_many(failed: str, allowed: str, first_error: str) -> JobBroken:
    why = f"{failed} failed for good or have bad rows; at most {allowed} may. The first error: {first_error}"
    return JobBroken(Reason.TOO_MANY_FAILED, why)
