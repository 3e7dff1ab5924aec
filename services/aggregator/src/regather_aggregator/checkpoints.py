"""Checkpoints of open jobs with much log: written to their own topic, so that a restore need not read that log."""

from collections.abc import Iterator
from dataclasses import replace

from regather.core.model import JobId, Outcomes
from regather.core.partition_fold import PartitionFold
from regather.core.reassembly import JobFold
from regather.service.logs import get_logger
from regather.wire.checkpoints import encode_checkpoint
from regather_aggregator.segment_log import SegmentLog, SegmentRecord

log = get_logger()


class _Ended(Exception):
    """The job ended while its checkpoint was being written: the checkpoint is not needed."""


class Checkpoints:
    """The offsets at which the checkpoints of this partition's open jobs begin in their topic."""

    def __init__(self) -> None:
        self._begins: dict[JobId, int] = {}

    def first_offset(self, fold: PartitionFold) -> int | None:
        """Return the offset from which a restore must read checkpoints; None if no open job has one."""
        self._begins = {job_id: at for job_id, at in self._begins.items() if fold.is_saved(job_id)}
        return min(self._begins.values(), default=None)

    def saw(self, job_id: JobId, offset: int, *, begins: bool) -> None:
        """Note a checkpoint record at `offset`; `begins` marks the first record of its job."""
        if begins:
            self._begins[job_id] = offset

    async def save(self, saves: SegmentLog, fold: PartitionFold, job: JobFold, next_offset: int) -> bool:
        """Write a checkpoint of the job up to `next_offset`; return False if the job ended meanwhile.

        Raises TransportError or TimeoutError; the owner then begins a new epoch.
        """
        log_bytes, first = fold.log_bytes, job.saved_to is None
        try:
            offsets = await saves.write(_records(job, next_offset))
        except _Ended:
            return False
        fold.saved(job, next_offset, log_bytes)
        self.saw(job.owner.job_id, offsets[0], begins=first)
        log.info("checkpoint", job=job.owner.job_id, records=len(offsets), shards=len(job.shards), offset=next_offset)
        return True


def _records(job: JobFold, next_offset: int) -> Iterator[SegmentRecord]:
    """Yield the checkpoint's records; only the last one has the new `next_offset`, which completes the checkpoint."""
    mark, key = job.mark(), job.owner.job_id.encode()
    events = job.pop_unsaved()
    held = None
    while True:
        if not job.may_be_saved:
            raise _Ended
        event = next(events, None)
        if event is None:
            break
        if held is not None:
            yield (key, *encode_checkpoint(held, mark))
        held = event
    held = held if held is not None else Outcomes(job.owner, "", [])
    yield (key, *encode_checkpoint(held, replace(mark, next_offset=next_offset)))
