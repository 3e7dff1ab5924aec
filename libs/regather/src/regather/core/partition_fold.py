"""The fold of one partition of job-events: which jobs are open, which are done, and how far the log is settled.

Only `opened` and `redriven` create a version of a job, and the first `opened` in log order owns the job. Events of
another submission, of an unknown job or of a job that is done are dropped and counted. Source:
docs/protocol.md#identity.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass

from regather.core.checkpoint import CheckpointMark
from regather.core.errors import NoRoom
from regather.core.job_events import JobBroken, JobEvent, Restored
from regather.core.model import Event, Identity, JobId, JobState, Opened, Reason, Redriven, SubmissionId, Tick
from regather.core.reassembly import EmitFinal, Instruction, JobFold, LoadInherited

MakeOutputs = Callable[[], MutableMapping[int, bytes]]
"""Makes the mapping that holds one job's outputs, in memory or in a spill file."""


@dataclass(frozen=True, slots=True)
class FoldPolicy:
    """Limits at which the fold ends a job.

    `heartbeat_timeout_ms` is how long an unsealed upload may be without a heartbeat. `max_output_bytes` is how many
    bytes the outputs of one job may have in total, because the aggregator has to keep them.
    """

    heartbeat_timeout_ms: int = 60_000
    max_output_bytes: int = 1024**3


@dataclass(frozen=True, slots=True)
class Finished:
    """A final that was read back: its version, whether a new upload may open the next one, its submission if known."""

    version: int
    reopenable: bool
    submission: SubmissionId | None = None


class PartitionFold:
    """Mutable, without IO. `dropped` counts dropped events by reason, and may be shared with other folds."""

    def __init__(
        self, policy: FoldPolicy, dropped: Counter[str] | None = None, make_outputs: MakeOutputs = dict
    ) -> None:
        self._policy = policy
        self._make_outputs = make_outputs
        self._jobs: dict[JobId, JobFold] = {}
        self._ending: dict[tuple[JobId, int], JobFold] = {}
        """Versions that ended and whose final was not read back before the next version was opened."""
        self._finished: dict[JobId, Finished] = {}
        self._changed: set[JobId] = set()
        self._log_bytes = 0
        self._saved_at: dict[JobId, int] = {}
        """How many bytes of the log were folded when an open job began or was last saved."""
        self.log_ms = 0
        self.dropped = Counter[str]() if dropped is None else dropped

    @property
    def open_jobs(self) -> int:
        """How many jobs there are whose final was not read back yet."""
        return len(self._jobs) + len(self._ending)

    def handle(self, event: Event, *, offset: int, append_ms: int, size_bytes: int = 0) -> list[Instruction]:
        """Fold one record; return the instructions that the shell has to carry out now."""
        self.log_ms = max(self.log_ms, append_ms)
        self._log_bytes += size_bytes
        if isinstance(event, Tick):
            return list(self._overdue())
        if isinstance(event, Opened):
            self._open(event, offset)
            return []
        if isinstance(event, Redriven):
            return self._redrive(event, offset)
        job = self._jobs.get(event.owner.job_id)
        if job is None:
            self.dropped["unknown-job"] += 1
            return []
        if event.owner != job.owner:
            self.dropped["foreign-submission"] += 1
            return []
        if offset < job.needed_from:  # the checkpoint that this job was restored from contains the event
            return []
        return self.advance(job, event)

    def advance(self, job: JobFold, event: JobEvent) -> list[Instruction]:
        """Apply one event to one job, behind a barrier: an error ends that job, never the partition."""
        self._changed.add(job.owner.job_id)
        try:
            instruction = job.handle(event, self.log_ms)
            if job.shards.output_bytes > self._policy.max_output_bytes and not job.state.ended:
                raise NoRoom(f"the job's outputs have more than {self._policy.max_output_bytes} bytes in total")
        except NoRoom as error:
            instruction = job.handle(JobBroken(Reason.RESULT_TOO_LARGE, str(error)), self.log_ms)
        except Exception as error:  # docs/protocol.md#barrier
            self.dropped["broken-job"] += 1
            broken = JobBroken(Reason.INTERNAL, f"internal error: {error!r}")
            instruction = job.handle(broken, self.log_ms)
        return [instruction] if instruction else []

    def is_saved(self, job_id: JobId) -> bool:
        """Whether this job is open and has a checkpoint."""
        job = self._jobs.get(job_id)
        return job is not None and job.saved_to is not None

    def is_open(self, job: JobFold) -> bool:
        """Whether `job` is still the current fold of its job."""
        return self._jobs.get(job.owner.job_id) is job

    def final_seen(
        self, job_id: JobId, version: int, *, reopenable: bool, submission: SubmissionId | None = None
    ) -> bool:
        """Note that a final was read back from `results`: this version of the job is done.

        Return False, and count it, for a final to which this fold cannot have led: of another submission of an open
        job, or of a later version. Then the job stays open.
        """
        held = self._ending.get((job_id, version)) or self._jobs.get(job_id)
        if held is not None and submission is not None and _contradicts(held.owner, submission, version):
            self.dropped["foreign-final"] += 1
            return False
        self._finished[job_id] = Finished(version, reopenable, submission)
        job = self._ending.pop((job_id, version), None)
        if job is None and job_id in self._jobs and self._jobs[job_id].owner.version <= version:
            job = self._jobs.pop(job_id)
            self._saved_at.pop(job_id, None)
            self._changed.discard(job_id)
        if job is not None:
            job.shards.release()
            self.dropped["after-end"] += job.dropped
            self.dropped["duplicate-outcome"] += job.duplicates
        return True

    def unfounded(self, job: JobFold) -> None:
        """Drop a redriven job whose base is not in the log: nobody opened it, so there is no such job."""
        if self.is_open(job):
            del self._jobs[job.owner.job_id]
            self._saved_at.pop(job.owner.job_id, None)
            self._changed.discard(job.owner.job_id)
            job.shards.release()
            self.dropped["unknown-job"] += 1

    def forget(self, versions: Iterable[tuple[JobId, int]]) -> None:
        """Forget the finals of these jobs and versions. The final of a newer version stays.

        An event of a forgotten version is folded as if the job were new, so the caller names only finals that are older
        than any event that it may still fold.
        """
        for job_id, version in versions:
            finished = self._finished.get(job_id)
            if finished is not None and finished.version <= version:
                del self._finished[job_id]

    def low_offset(self, next_offset: int) -> int:
        """Return where a restart has to begin reading: the lowest offset that an open job needs, at most `next_offset`.

        A checkpoint may reach beyond the offset from which a restored fold reads on. Then `next_offset` is the lower one.
        """
        jobs = (*self._ending.values(), *self._jobs.values())
        return min(next_offset, *(job.needed_from for job in jobs)) if jobs else next_offset

    def unsaved_jobs(self, most_log_bytes: int) -> list[JobFold]:
        """Return the open jobs that make a restart read more than this of the log. A checkpoint of each prevents it."""
        folded = self._log_bytes
        late = [self._jobs[job_id] for job_id, at in self._saved_at.items() if folded - at > most_log_bytes]
        return [job for job in late if job.may_be_saved]

    def saved(self, job: JobFold, next_offset: int, log_bytes: int) -> None:
        """Note that a checkpoint of all events of the job below `next_offset` was read back.

        `log_bytes` is how much of the log was folded when the checkpoint was begun.
        """
        if self.is_open(job):
            job.saved_to = next_offset
            self._saved_at[job.owner.job_id] = log_bytes

    @property
    def log_bytes(self) -> int:
        """How many bytes of the log were folded."""
        return self._log_bytes

    def restore(self, event: Event, mark: CheckpointMark) -> list[Instruction]:
        """Apply one record of a checkpoint. Call it in log order, and after final_seen() for all finals."""
        if isinstance(event, Tick):
            return []
        owner = event.owner
        finished = self._finished.get(owner.job_id)
        if finished is not None and finished.version >= owner.version:
            return []
        if isinstance(event, Opened | Redriven):
            self._begin(event, mark.first_offset, mark.opened_ms)
        job = self._jobs.get(owner.job_id)
        if job is None or job.owner != owner:
            return []
        if isinstance(event, Opened | Redriven):
            job.restored(mark)
            return []
        return self.advance(job, Restored(event, mark))

    def end_restore(self) -> None:
        """Drop the jobs without a whole checkpoint: the log still has all of their events."""
        for job_id in [job_id for job_id, job in self._jobs.items() if job.saved_to is None]:
            self._jobs.pop(job_id).shards.release()
            self._saved_at.pop(job_id)
            self._changed.discard(job_id)

    def close(self) -> None:
        """Release the outputs of all jobs."""
        for job in (*self._ending.values(), *self._jobs.values()):
            job.shards.release()
        self._ending.clear()
        self._jobs.clear()

    def jobs_older_than(self, age_ms: int) -> int:
        """Return how many open jobs were opened more than `age_ms` ago, by the log's time."""
        return sum(self.log_ms - job.opened_ms > age_ms for job in self._jobs.values())

    def pop_changed(self) -> list[JobFold]:
        """Return the open jobs that changed since the last call and have not ended."""
        changed = [self._jobs[job_id] for job_id in self._changed if job_id in self._jobs]
        self._changed.clear()
        return [job for job in changed if not job.state.ended]

    def _open(self, event: Opened, offset: int) -> None:
        job_id = event.owner.job_id
        present, finished = self._jobs.get(job_id), self._finished.get(job_id)
        if present is not None:
            if not self._is_followed_by(present, event):
                self.dropped["repeated-opened" if present.owner == event.owner else "foreign-submission"] += 1
                return
            self._ending[job_id, present.owner.version] = present
        elif finished and not (finished.reopenable and event.owner.version == finished.version + 1):
            self.dropped["already-done"] += 1
            return
        self._begin(event, offset, self.log_ms)

    def _begin(self, event: Opened | Redriven, offset: int, opened_ms: int) -> JobFold:
        opened, redriven = (event, None) if isinstance(event, Opened) else (event.opened, event)
        job_id = event.owner.job_id
        job = JobFold(opened, offset=offset, opened_ms=opened_ms, redriven=redriven, outputs=self._make_outputs())
        before = self._jobs.get(job_id)
        if before is not None:
            before.shards.release()
        self._jobs[job_id] = job
        self._saved_at[job_id] = self._log_bytes
        self._changed.add(job_id)
        return job

    def _redrive(self, event: Redriven, offset: int) -> list[Instruction]:
        """Open the next version of a job that has ended; the first redrive in log order wins."""
        job_id, version = event.owner.job_id, event.owner.version
        base, finished = self._jobs.get(job_id), self._finished.get(job_id)
        if self._is_foreign(event, base, finished):
            self.dropped["foreign-submission"] += 1
            return []
        if base is not None and base.state.ended and base.owner.version == version - 1:
            self._ending[job_id, version - 1] = base  # a client can see its end before we read it back
        elif base is not None or (finished is not None and finished.version != version - 1):
            self.dropped["redrive-too-late"] += 1
            return []
        return [LoadInherited(self._begin(event, offset, self.log_ms), event.origin, offset)]

    @staticmethod
    def _is_foreign(event: Redriven, base: JobFold | None, finished: Finished | None) -> bool:
        """Whether this redrive belongs to another submission than the job that it would run again."""
        known = base.owner.submission if base is not None else finished.submission if finished is not None else None
        return known is not None and known != event.owner.submission

    @staticmethod
    def _is_followed_by(job: JobFold, event: Opened) -> bool:
        """Whether the job has ended and this event opens its next version. A client can see the end before we do."""
        again = job.state.ended and job.broken is not None and reopenable(job.broken.reason)
        return again and event.owner.version == job.owner.version + 1

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
        if job.state is JobState.SPLITTING and silent_ms >= self._policy.heartbeat_timeout_ms:
            return JobBroken(Reason.NOT_SEALED, f"not sealed: no heartbeat of the upload for {silent_ms} ms")
        return None


def _contradicts(owner: Identity, submission: SubmissionId, version: int) -> bool:
    return owner.version < version or (owner.version == version and owner.submission != submission)


def reopenable(reason: Reason | None) -> bool:
    """Whether a job that ended for this reason may be submitted again under the same id."""
    return reason is Reason.NOT_SEALED


__all__ = ["EmitFinal", "Finished", "FoldPolicy", "PartitionFold", "reopenable"]
