"""The next version of a job, decided from its history: which shards run again, and what refuses a redrive."""

from dataclasses import dataclass, replace

from regather.core.model import Identity, JobId, JobState, Opened, Redriven, Sealed
from regather.core.redrive import VersionHistory
from regather.core.seq_ranges import SeqRanges, count, numbers, ranges
from regather.core.status import JobStatus
from regather_gateway.problems import Problem


@dataclass(frozen=True, slots=True)
class RedrivePlan:
    """What opens the next version, what seals it, and the execution limit of its shards if it is new.

    `first` is the version whose records hold the payloads; `base` the version that the redrive follows.
    """

    redriven: Redriven
    sealed: Sealed
    first: Identity
    base: Identity
    timeout_ms: int | None

    @property
    def owner(self) -> Identity:
        """The next version."""
        return self.redriven.owner

    @property
    def seal(self) -> Sealed:
        """The seal of the next version: that of the first one, whose shard records it names no second time."""
        return replace(self.sealed, owner=self.owner, shard_ranges=())


def plan_redrive(status: JobStatus, history: VersionHistory, wanted: SeqRanges, timeout_ms: int | None) -> RedrivePlan:
    """Plan a redrive of the `wanted` shards, by default of all that failed, have bad rows or never ran.

    Raises Problem 409 if the job was never sealed, has nothing to run again, or another redrive came first; 422 for
    shards that do not exist.
    """
    owner, opened, sealed = status.owner, history.opened, history.sealed
    if opened is None or sealed is None or not sealed.shard_ranges:
        raise never_sealed(status)
    if history.newest != owner.version:
        raise redrive_conflict(owner.job_id, history.newest)
    seqs = _chosen(owner.job_id, history, opened, sealed.shards, wanted)
    again = replace(opened, owner=owner._replace(version=owner.version + 1))
    redriven = Redriven(again, seqs, status.events_offset or 0, status.created_ms)
    return RedrivePlan(redriven, sealed, opened.owner, owner, timeout_ms)


def accepted_again(status: JobStatus, plan: RedrivePlan, now_ms: int) -> JobStatus:
    """Return the next version's status, which views show until the aggregator writes one."""
    stays = plan.sealed.shards - count(plan.redriven.seqs)
    return replace(
        status,
        owner=plan.owner,
        state=JobState.ACCEPTED,
        updated_ms=now_ms,
        deadline_ms=now_ms + plan.redriven.opened.deadline_ms,
        total=plan.sealed.shards,
        size_bytes=plan.sealed.size_bytes,
        digest=plan.sealed.digest,
        done=stays,
        failed=0,
        retries=0,
        frontier=0,
        bad_rows=0,
        gaps=(),
        errors=(),
        reason=None,
        error="",
        result=None,
        redriven=True,
    )


def redrive_conflict(job_id: JobId, version: int) -> Problem:
    """Build the Problem 409 of a job that is open, or for which another redrive came first."""
    detail = f"version {version} of the job is running or was begun first; get the job before you redrive it again"
    return Problem(409, "redrive-conflict", detail, job_id=job_id)


def never_sealed(status: JobStatus) -> Problem:
    """Build the Problem 409 of a job whose upload did not end."""
    detail = "the job's upload did not finish, so it has no shards to run again; submit the job again"
    return Problem(409, "never-sealed", detail, job_id=status.owner.job_id)


def redrive_too_late(job_id: JobId, why: str) -> Problem:
    """Build the Problem 410 of a job whose records are past their retention."""
    detail = f"the job's records are no longer in the log ({why}); submit the job again"
    return Problem(410, "redrive-too-late", detail, job_id=job_id)


def _chosen(job_id: JobId, history: VersionHistory, opened: Opened, shards: int, wanted: SeqRanges) -> SeqRanges:
    if wanted and wanted[-1][1] >= shards:
        raise Problem(422, "unknown-shard", f"the job has shards 0 to {shards - 1}", job_id=job_id)
    chosen = {*numbers(wanted), *history.never_ran()} if wanted else history.to_run()
    seqs = ranges(sorted(chosen))
    if not seqs:
        detail = "no shard failed or has bad rows; name the shards to run again with the parameter shards"
        raise Problem(409, "nothing-to-redrive", detail, job_id=job_id)
    # In a chain every shard after the first one that runs again runs again too: it had another carry.
    return ((seqs[0][0], shards - 1),) if opened.chained else seqs
