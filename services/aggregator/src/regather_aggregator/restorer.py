"""Restores a partition: reads its finals, then checkpoints of open jobs, then sets the offset to read events from.

Source: docs/protocol.md#restore.
"""

from regather.core.errors import NewerRecord, WireError
from regather.core.model import Opened, Redriven, Tick
from regather.core.reassembly import Instruction
from regather.core.retention import lost_before
from regather.service.logs import get_logger
from regather.service.tailer import Handler
from regather.transport.base import Committed, Record
from regather.wire.checkpoints import decode_checkpoint
from regather_aggregator.epoch import Epoch
from regather_aggregator.owner_deps import OwnerDeps
from regather_aggregator.start import point_of

log = get_logger()


class Restorer:
    """Restores the epochs of one partition."""

    def __init__(self, partition: int, deps: OwnerDeps) -> None:
        self._partition = partition
        self._topics = deps.topics
        self._finals = deps.output_readers.results
        self._checkpoints = deps.output_readers.checkpoints
        self._counts = deps.counts

    async def restore(
        self, epoch: Epoch, committed: Committed | None, beginning: int, on_final: Handler
    ) -> list[Instruction]:
        """Restore an epoch to the commit `committed`; return the instructions that follow from the checkpoints.

        `beginning` is the first offset of job-events that is still in the log. `on_final` gets every final, including
        those that are written after the restore. Raises TransportError.
        """
        point = point_of(committed)
        await self._read_finals(point.results_from, on_final)
        instructions = await self._read_checkpoints(epoch, point.checkpoints_from)
        if committed is None and beginning > 0:
            log.warning("no-committed-offset", partition=self._partition, beginning=beginning)
        self._note_loss(self._topics.job_events, committed.offset if committed else None, beginning)
        epoch.next_offset = max(committed.offset, beginning) if committed else beginning
        return instructions

    async def _read_finals(self, first: int | None, on_final: Handler) -> None:
        beginning = await self._finals.beginning(self._partition)
        await self._finals.follow(self._partition, max(first or 0, beginning), on_final)
        if first is not None:
            self._note_loss(self._topics.results, first, beginning)

    async def _read_checkpoints(self, epoch: Epoch, first: int | None) -> list[Instruction]:
        """Read the checkpoints of open jobs; return their instructions, to carry out once everything is read."""
        if first is None:
            return []
        beginning = await self._checkpoints.beginning(self._partition)
        self._note_loss(self._topics.checkpoints, first, beginning)
        instructions: list[Instruction] = []

        def take(record: Record) -> None:
            instructions.extend(self._restored(epoch, record))

        try:
            await self._checkpoints.follow(self._partition, max(first, beginning), take)
        finally:
            self._checkpoints.leave(self._partition, take)
        epoch.fold.end_restore()
        return instructions

    def _restored(self, epoch: Epoch, record: Record) -> list[Instruction]:
        try:
            found = decode_checkpoint(record.headers, record.value)
        except NewerRecord as error:
            epoch.stop_at(record, error)
            return []
        except WireError as error:
            log.error("checkpoint-unreadable", partition=self._partition, offset=record.offset, error=str(error))
            return []
        if found is None:
            return []
        event, mark = found
        instructions = epoch.fold.restore(event, mark)
        if not isinstance(event, Tick):
            begins = isinstance(event, Opened | Redriven)
            epoch.checkpoints.saw(event.owner.job_id, record.offset, begins=begins)
        return instructions

    def _note_loss(self, topic: str, stood: int | None, beginning: int) -> None:
        lost = lost_before(stood, beginning)
        if lost:
            where = f"{topic}-{self._partition}"
            log.error("records-lost-to-retention", partition=where, committed=stood, beginning=beginning, lost=lost)
            self._counts.lost[topic] += lost
