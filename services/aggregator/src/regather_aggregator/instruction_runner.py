"""Carries out the instructions of one epoch's fold.

What is to be written waits in the epoch's queue. Merges, and loads of inherited outcomes, run in tasks beside the fold;
what they find is the next event of their job, from which further instructions may follow.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from regather.core.job_events import Assembled, InheritedLoaded, JobBroken
from regather.core.model import Reason
from regather.core.reassembly import Assemble, EmitFinal, Instruction, JobFold, LoadInherited, Release
from regather.service.logs import get_logger
from regather_aggregator.emission import plan_final
from regather_aggregator.epoch import Epoch
from regather_aggregator.inherited_outcomes import InheritedOutcomes
from regather_aggregator.merge_guard import MergeGuard

log = get_logger()


class InstructionRunner:
    """Belongs to one epoch of one partition."""

    def __init__(self, partition: int, epoch: Epoch, merges: MergeGuard, inherited: InheritedOutcomes) -> None:
        self._partition = partition
        self._epoch = epoch
        self._merges = merges
        self._inherited = inherited
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, instructions: Iterable[Instruction]) -> None:
        """Begin to carry out the instructions. It never waits."""
        for instruction in instructions:
            if isinstance(instruction, Assemble):
                self._begin(self._assemble(instruction), f"assemble-{self._partition}")
            elif isinstance(instruction, Release):
                self._epoch.queue.add_release(instruction)
            elif isinstance(instruction, LoadInherited):
                self._begin(self._load_inherited(instruction), f"inherited-{self._partition}")
            else:
                self._queue_final(instruction)

    def cancel(self) -> None:
        """Cancel the merges and loads that still run: their epoch is over."""
        for task in list(self._tasks):
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _queue_final(self, instruction: EmitFinal) -> None:
        plan, job = plan_final(instruction, self._partition), instruction.job
        log.info("job-ends", job=job.owner.job_id, state=job.state, shards=len(job.shards), retries=job.retries)
        self._epoch.queue.add_final(plan)

    async def _assemble(self, instruction: Assemble) -> None:
        job = instruction.job
        try:
            event = await self._merges.assemble(job)
        except Exception as error:  # the barrier: an error in one job ends only that job
            log.exception("assembly-broken", job=job.owner.job_id)
            text = f"internal error of the aggregator ({type(error).__name__}); its log has the cause"
            event = JobBroken(Reason.INTERNAL, text)
        self._go_on(job, event)

    async def _load_inherited(self, instruction: LoadInherited) -> None:
        job = instruction.job
        event = await self._inherited.load(self._partition, instruction)
        if event is not None:
            self._go_on(job, event)
        else:
            log.error("redrive-unfounded", job=job.owner.job_id, version=job.owner.version)
            self._epoch.fold.unfounded(job)

    def _go_on(self, job: JobFold, event: Assembled | InheritedLoaded | JobBroken) -> None:
        """Pass the job its next event. The fold of an epoch that has ended has no open job."""
        if self._epoch.fold.is_open(job):
            self.run(self._epoch.fold.advance(job, event))
