"""Runs merges that may have crashed the previous owner: one at a time, each recorded in a commit before it begins."""

import asyncio
from collections.abc import Awaitable, Callable

from regather.core.job_events import Assembled, JobBroken
from regather.core.merge_attempts import Marks, MergeAttempts
from regather.core.model import Identity
from regather.core.reassembly import JobFold
from regather.service.logs import get_logger

log = get_logger()

Assemble = Callable[[JobFold], Awaitable[Assembled | JobBroken]]


class MergeGuard:
    """Runs the merges of one partition.

    All partitions of the process share the lock `alone`: only one marked merge runs at a time, so that a crash adds to
    the marks of one job at most. Merges of jobs that were opened later run beside it without a mark, and one of these
    may have caused the crash. So a job is given up only after several marks, not after the first.
    """

    def __init__(self, assemble: Assemble, alone: asyncio.Lock) -> None:
        self.begun = MergeAttempts()
        self._assemble = assemble
        self._alone = alone
        self._wanted: tuple[Identity, asyncio.Future[None]] | None = None
        self._announced = asyncio.Event()
        """Set while the group's last commit is ours and without the clean-shutdown flag. Else it carries the flag of the
        previous owner, or that of a revocation which we outlived, and our crash would look like a clean exit."""

    @property
    def waits_for_commit(self) -> bool:
        """True until this owner has committed without the flag, and while a merge waits for the commit of its mark."""
        return self._wanted is not None or not self._announced.is_set()

    async def assemble(self, job: JobFold) -> Assembled | JobBroken:
        """Assemble a job after this owner's first commit; a suspect's merge runs alone, after a commit of its mark.

        Returns JobBroken, without a merge, if earlier merges of this job and version crashed too many aggregators.
        """
        refused = self.begun.refused(job.owner)
        if refused is not None:
            log.error("merge-given-up", job=job.owner.job_id, version=job.owner.version, error=refused.error)
            return refused
        await self._announced.wait()
        if not self.begun.suspects(job.first_offset):
            return await self._assemble(job)
        async with self._alone:
            return await self._marked(job)

    def committed(self, marks: Marks, *, clean_shutdown: bool) -> None:
        """Note a commit with these marks, and start the merge that waits for it."""
        if clean_shutdown:
            self._announced.clear()
        else:
            self._announced.set()
        if self._wanted is not None:
            owner, there = self._wanted  # if the job has ended meanwhile, it has no mark on either side
            key = (owner.job_id, owner.version)
            if (
                marks.get(key) == self.begun.marks().get(key) and not there.done()
            ):  # the marks of a clean shutdown leave this run out, so that it does not start
                there.set_result(None)

    async def _marked(self, job: JobFold) -> Assembled | JobBroken:
        self.begun.begin(job.owner)
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted = (job.owner, there)
        try:
            await there
            self._wanted = None
            assembled = await self._assemble(job)
        except asyncio.CancelledError:
            self.begun.withdraw(job.owner)
            raise
        except Exception:
            self.begun.ended(job.owner)
            raise
        finally:
            self._wanted = None
        self.begun.ended(job.owner)
        return assembled
