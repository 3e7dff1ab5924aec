"""Carries out the instructions of one epoch's fold.

What is to be written waits in the epoch's queue. Merges, and loads of inherited outcomes, run in tasks beside the fold;
what they find is the next event of their job, from which further instructions may follow. Every instruction stands behind
a barrier: an unexpected error ends its job, never the partition.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from regather.core.job_events import Assembled, InheritedLoaded, JobBroken
from regather.core.model import Reason
from regather.core.reassembly import Assemble, EmitFinal, Instruction, JobFold, LoadInherited, Release
from regather.service.logs import get_logger
from regather_aggregator.epoch import Epoch
from regather_aggregator.inherited_outcomes import InheritedOutcomes
from regather_aggregator.merge_guard import MergeGuard
from regather_aggregator.planned_records import minimal_final, plan_final, plan_release

log = get_logger()

NextEvent = Assembled | InheritedLoaded | JobBroken
"""What a job's fold gets when a merge or a load has ended."""


class InstructionRunner:
    """Belongs to one epoch of one partition."""

    def __init__(self, partition: int, epoch: Epoch, merges: MergeGuard, inherited: InheritedOutcomes) -> None:
        self._partition = partition
        self._epoch = epoch
        self._merges = merges
        self._inherited = inherited
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, instructions: Iterable[Instruction]) -> None:
        """Begin to carry out the instructions. It never waits, and an error ends only the job of the instruction."""
        for instruction in instructions:
            try:
                self._carry_out(instruction)
            except Exception as error:
                self.break_job(instruction.job, error)

    def break_job(self, job: JobFold, error: Exception) -> None:
        """End a job that met an unexpected error, and no other job (docs/protocol.md#barrier); nothing if it has ended."""
        log.error("job-broken", job=job.owner.job_id, error=repr(error), exc_info=error)
        self._go_on(job, JobBroken(Reason.INTERNAL, _internal(error)))

    def cancel(self) -> None:
        """Cancel the merges and loads that still run: their epoch is over."""
        for task in list(self._tasks):
            task.cancel()

    def _carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, Assemble):
            self._begin(instruction.job, partial(self._merges.assemble, instruction.job), f"assemble-{self._partition}")
        elif isinstance(instruction, Release):
            self._queue_release(instruction)
        elif isinstance(instruction, LoadInherited):
            self._begin(instruction.job, partial(self._load_inherited, instruction), f"inherited-{self._partition}")
        else:
            self._queue_final(instruction)

    def _begin(self, job: JobFold, work: Callable[[], Awaitable[NextEvent | None]], name: str) -> None:
        task = asyncio.create_task(self._behind_barrier(job, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _behind_barrier(self, job: JobFold, work: Callable[[], Awaitable[NextEvent | None]]) -> None:
        try:
            event = await work()
            if event is not None:
                self._go_on(job, event)
        except Exception as error:
            self.break_job(job, error)

    async def _load_inherited(self, instruction: LoadInherited) -> InheritedLoaded | JobBroken | None:
        job = instruction.job
        event = await self._inherited.load(self._partition, instruction)
        if event is None:
            log.error("redrive-unfounded", job=job.owner.job_id, version=job.owner.version)
            self._epoch.fold.unfounded(job)
        return event

    def _queue_release(self, instruction: Release) -> None:
        planned = plan_release(instruction)
        if isinstance(planned, JobBroken):
            log.error("release-too-large", job=instruction.job.owner.job_id, error=planned.error)
            self._go_on(instruction.job, planned)
        else:
            self._epoch.queue.add_release(planned)

    def _queue_final(self, instruction: EmitFinal) -> None:
        job = instruction.job
        log.info("job-ends", job=job.owner.job_id, state=job.state, shards=len(job.shards), retries=job.retries)
        try:
            plan = plan_final(instruction, self._partition)
        except Exception as error:  # the job has ended already, so that no further event can end it
            log.exception("final-broken", job=job.owner.job_id)
            plan = minimal_final(job, _internal(error))
        self._epoch.queue.add_final(plan)

    def _go_on(self, job: JobFold, event: NextEvent) -> None:
        """Pass the job its next event. The fold of an epoch that has ended has no open job."""
        if self._epoch.fold.is_open(job):
            self.run(self._epoch.fold.advance(job, event))


def _internal(error: Exception) -> str:
    return f"internal error of the aggregator ({type(error).__name__}); its log has the cause"
