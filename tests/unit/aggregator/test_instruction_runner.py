"""The barrier around the instructions of a job: an unexpected error ends that job, and nothing else."""

import asyncio
from dataclasses import replace

from unit.aggregator.world import TOPICS, done, job, opened

from regather.core.job_events import Assembled, JobBroken
from regather.core.model import Event, JobState, Parked, Reason, RecordPlace, Redriven, Sealed
from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather.core.reassembly import JobFold
from regather.core.status import JobStatus
from regather.transport.base import Consumer
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather_aggregator.epoch import Epoch
from regather_aggregator.inherited_outcomes import InheritedOutcomes
from regather_aggregator.instruction_runner import InstructionRunner
from regather_aggregator.merge_guard import MergeGuard


class BrokenTransport(MemoryTransport):
    """Has an error in its own code."""

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        raise LookupError("a mistake")


async def end_of(*events: Event, result: Assembled | None = None) -> list[JobStatus]:
    """Return the finals that follow from these events; `result` is what a merge gives, which else raises."""

    async def assemble(_job: JobFold) -> Assembled | JobBroken:
        if result is None:
            raise LookupError("a mistake")
        return result

    epoch, merges = Epoch(PartitionFold(FoldPolicy())), MergeGuard(assemble, asyncio.Lock())
    merges.committed({}, clean_shutdown=False)
    inherited = InheritedOutcomes(BrokenTransport(MemoryBroker()), TOPICS.job_events)
    runner = InstructionRunner(0, epoch, merges, inherited)
    for offset, event in enumerate(events):
        runner.run(epoch.fold.handle(event, offset=offset, append_ms=1))
    async with asyncio.timeout(5):
        await epoch.queue.wait(5)
    return [plan.status for plan in epoch.queue.pop_finals()]


async def test_a_load_of_inherited_outcomes_that_raises_ends_its_job() -> None:
    again = replace(opened(job()), owner=job()._replace(version=2))
    (end,) = await end_of(Redriven(again, ((0, 0),), origin=0, created_ms=1))
    assert (end.owner.version, end.state, end.reason) == (2, JobState.FAILED, Reason.INTERNAL)
    assert "internal error of the aggregator (LookupError)" in end.error


async def test_a_merge_that_raises_ends_its_job() -> None:
    (end,) = await end_of(opened(job()), done(job(), 0), Sealed(job(), 1, 4, "d"))
    assert (end.state, end.reason) == (JobState.FAILED, Reason.INTERNAL)


async def test_a_final_that_cannot_be_encoded_becomes_a_minimal_one() -> None:
    no_text = Assembled(b"4", "text/\ud800")
    (end,) = await end_of(opened(job()), done(job(), 0), Sealed(job(), 1, 4, "d"), result=no_text)
    assert (end.state, end.reason, end.total, end.done) == (JobState.FAILED, Reason.INTERNAL, 1, 1)
    assert "internal error of the aggregator (UnicodeEncodeError)" in end.error


async def test_a_release_that_cannot_be_encoded_ends_its_job() -> None:
    parked = Parked(job(), 1, RecordPlace(TOPICS.shards_bulk, 0, 0), timeout_ms=2**32)
    (end,) = await end_of(replace(opened(job()), chained=True), done(job(), 0), parked)
    assert (end.state, end.reason) == (JobState.FAILED, Reason.INTERNAL)
    assert "internal error of the aggregator (error)" in end.error


async def test_an_error_after_the_end_of_a_job_gives_no_second_final() -> None:
    epoch = Epoch(PartitionFold(FoldPolicy()))
    guard = MergeGuard(_never, asyncio.Lock())
    runner = InstructionRunner(0, epoch, guard, InheritedOutcomes(MemoryTransport(MemoryBroker()), TOPICS.job_events))
    runner.run(epoch.fold.handle(opened(job()), offset=0, append_ms=1))
    (open_job,) = epoch.fold.pop_changed()
    for _ in range(2):
        runner.break_job(open_job, LookupError("a mistake"))
    assert len(epoch.queue.pop_finals()) == 1


async def _never(_job: JobFold) -> Assembled | JobBroken:
    raise AssertionError
