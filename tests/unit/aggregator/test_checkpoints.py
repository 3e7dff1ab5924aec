"""Checkpoints that are given up."""

from unit.aggregator.world import job, opened

from regather.core.job_events import JobBroken
from regather.core.model import Reason
from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather_aggregator.checkpoints import Checkpoints
from regather_aggregator.readback import ReadBack
from regather_aggregator.segment_log import SegmentLog


async def test_a_checkpoint_of_a_job_that_ended_meanwhile_is_not_written_and_not_counted() -> None:
    transport, fold = MemoryTransport(MemoryBroker()), PartitionFold(FoldPolicy())
    fold.handle(opened(job()), offset=0, append_ms=1)
    (ended,) = fold.pop_changed()
    fold.advance(ended, JobBroken(Reason.CANCELLED, "the job was cancelled"))
    producer = transport.transactional_producer("id", max_record_bytes=1_000)
    saves = SegmentLog(producer, 0, ReadBack(transport, "checkpoints"))
    checkpoints = Checkpoints()
    assert await checkpoints.save(saves, fold, ended, 1) is False
    assert checkpoints.first_offset(fold) is None
