"""The fold of one partition of job-events: which jobs are open, which are done, and how far the log is settled.

Identity closes most holes (protocol, section 1): only `opened` creates a job, the first one in log order owns it, and
whatever belongs to another submission, to an unknown job or to a job that is done is dropped and counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from regather.core.model import Event, JobId, JobState, Opened, Reason, Redriven, Tick
from regather.core.reassembly import EmitFinal, Instruction, JobBroken, JobEvent, JobFold, LoadBase


@dataclass(frozen=True, slots=True)
class FoldPolicy:
    """`silence_ms`: an unsealed upload without a sign of life for so long is closed."""

    silence_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Finished:
    """A final that was read back: its version, and whether a new upload may open the next one."""

    version: int
    reopenable: bool


@dataclass(slots=True)
class _WaitingRedrive:
    """A redrive of a job that has ended and whose final was not read back yet, and what came for its version since."""

    redriven: Redriven
    offset: int
    events: list[JobEvent] = field(default_factory=list)


class PartitionFold:
    """Mutable, without IO. `dropped` counts what was dropped, by why; it may be shared with other folds."""

    def __init__(self, policy: FoldPolicy, dropped: Counter[str] | None = None) -> None:
        self._policy = policy
        self._jobs: dict[JobId, JobFold] = {}
        self._finished: dict[JobId, Finished] = {}
        self._changed: set[JobId] = set()
        self._waiting: dict[JobId, _WaitingRedrive] = {}
        self.log_ms = 0
        self.dropped = Counter[str]() if dropped is None else dropped

    @property
    def open_jobs(self) -> int:
        """Jobs whose final was not read back yet."""
        return len(self._jobs)

    def handle(self, event: Event, *, offset: int, append_ms: int) -> list[Instruction]:
        """Fold one record; what the shell has to do now."""
        self.log_ms = max(self.log_ms, append_ms)
        if isinstance(event, Tick):
            return list(self._overdue())
        if isinstance(event, Opened):
            self._open(event, offset)
            return []
        if isinstance(event, Redriven):
            return self._redrive(event, offset)
        waiting = self._waiting.get(event.owner.job_id)
        if waiting is not None and event.owner == waiting.redriven.owner:
            waiting.events.append(event)
            return []
        job = self._jobs.get(event.owner.job_id)
        if job is None:
            self.dropped["unknown-job"] += 1
            return []
        if event.owner != job.owner:
            self.dropped["foreign-submission"] += 1
            return []
        return self.advance(job, event)

    def advance(self, job: JobFold, event: JobEvent) -> list[Instruction]:
        """Give one event to one job, behind a barrier: an error ends that job, never the partition."""
        self._changed.add(job.owner.job_id)
        try:
            instruction = job.handle(event, self.log_ms)
        except Exception as error:  # the barrier of the delivery protocol, 5.8
            self.dropped["broken-job"] += 1
            broken = JobBroken(Reason.INTERNAL, f"internal error: {error!r}")
            instruction = job.handle(broken, self.log_ms)
        return [instruction] if instruction else []

    def is_open(self, job: JobFold) -> bool:
        """Whether this very fold is still the job's."""
        return self._jobs.get(job.owner.job_id) is job

    def final_seen(self, job_id: JobId, version: int, *, reopenable: bool) -> list[Instruction]:
        """A final was read back from `results`: the job of that version is done. A redrive may have waited for that."""
        self._finished[job_id] = Finished(version, reopenable)
        job = self._jobs.get(job_id)
        if job is not None and job.owner.version <= version:
            del self._jobs[job_id]
            self._changed.discard(job_id)
            self.dropped["after-end"] += job.dropped
            self.dropped["duplicate-outcome"] += job.duplicates
        waiting = self._waiting.pop(job_id, None)
        return self._begin_waiting(waiting) if waiting else []

    def forget(self, job_ids: Iterable[JobId]) -> None:
        """Finals older than key life and longest job need not be remembered."""
        for job_id in job_ids:
            self._finished.pop(job_id, None)

    def low_offset(self, next_offset: int) -> int:
        """Where a restart has to begin reading: the first event of the oldest open job."""
        return min((job.first_offset for job in self._jobs.values()), default=next_offset)

    def take_changed(self) -> list[JobFold]:
        """Open jobs that changed since the last call and have not ended."""
        changed = [self._jobs[job_id] for job_id in self._changed if job_id in self._jobs]
        self._changed.clear()
        return [job for job in changed if not job.state.ended]

    def _open(self, event: Opened, offset: int) -> None:
        job_id = event.owner.job_id
        if job_id in self._jobs:
            same = self._jobs[job_id].owner == event.owner
            self.dropped["repeated-opened" if same else "foreign-submission"] += 1
            return
        finished = self._finished.get(job_id)
        if finished and not (finished.reopenable and event.owner.version == finished.version + 1):
            self.dropped["already-done"] += 1
            return
        self._jobs[job_id] = JobFold(event, offset=offset, opened_ms=self.log_ms)
        self._changed.add(job_id)

    def _redrive(self, event: Redriven, offset: int) -> list[Instruction]:
        """Open the next version of a job that has ended; the first redrive in log order wins."""
        job_id, version = event.owner.job_id, event.owner.version
        base = self._jobs.get(job_id)
        if base is not None and base.state.ended and base.owner.version == version - 1:
            self._waiting.setdefault(job_id, _WaitingRedrive(event, offset))
            return []
        finished = self._finished.get(job_id)
        if base is not None or (finished is not None and finished.version != version - 1):
            self.dropped["redrive-too-late"] += 1
            return []
        job = JobFold(event.opened, offset=offset, opened_ms=self.log_ms, redriven=event)
        self._jobs[job_id] = job
        self._changed.add(job_id)
        return [LoadBase(job, event.origin, offset)]

    def _begin_waiting(self, waiting: "_WaitingRedrive") -> list[Instruction]:
        instructions = self._redrive(waiting.redriven, waiting.offset)
        job = self._jobs.get(waiting.redriven.owner.job_id)
        if instructions and job is not None:
            for event in waiting.events:
                instructions += self.advance(job, event)
        return instructions

    def _overdue(self) -> Iterator[Instruction]:
        for job in list(self._jobs.values()):
            reason = self._why_overdue(job)
            if reason:
                yield from self.advance(job, reason)

    def _why_overdue(self, job: JobFold) -> JobBroken | None:
        if job.state.ended:
            return None
        if job.opened_ms + job.opened.deadline_ms <= self.log_ms:
            return JobBroken(Reason.DEADLINE, f"the deadline of {job.opened.deadline_ms} ms has passed")
        silent_ms = self.log_ms - job.last_sign_ms
        if job.state is JobState.SPLITTING and silent_ms >= self._policy.silence_ms:
            return JobBroken(Reason.NOT_SEALED, f"not sealed: no sign of the upload for {silent_ms} ms")
        return None


def reopenable(reason: Reason | None) -> bool:
    """Whether a job that ended for this reason may be submitted again under the same id."""
    return reason is Reason.NOT_SEALED


__all__ = ["EmitFinal", "Finished", "FoldPolicy", "PartitionFold", "reopenable"]
