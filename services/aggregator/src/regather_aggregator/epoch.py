"""The state of one ownership epoch: from the fence of a partition's producer to its loss."""

from regather.core.errors import NewerRecord, WireError
from regather.core.model import Identity
from regather.core.partition_fold import PartitionFold, reopenable
from regather.core.reassembly import Instruction
from regather.service.logs import get_logger
from regather.transport.base import Record
from regather.wire.documents import decode_final
from regather.wire.events import decode_event
from regather.wire.identity import HEADER, header_map, required, unpack_identity
from regather_aggregator.checkpoints import Checkpoints
from regather_aggregator.emission_queue import EmissionQueue
from regather_aggregator.own_finals import OwnFinals

log = get_logger()


class Epoch:
    """Discarded as a whole when the producer fails; the log has everything that the next epoch needs.

    `accepting` is true once the epoch is restored; it then folds the records from `next_offset` on.
    """

    def __init__(self, fold: PartitionFold) -> None:
        self.fold = fold
        self.queue = EmissionQueue()
        self.own_finals = OwnFinals()
        self.checkpoints = Checkpoints()
        self.next_offset = 0
        self.accepting = False
        self.newer_at: int | None = None
        """Offset of the first record of a later release, in whichever topic: from then on nothing is folded."""

    def stop_at(self, record: Record, error: NewerRecord) -> None:
        """Fold nothing from now on: an upgraded aggregator goes on at the last commit."""
        self.newer_at = record.offset
        log.error(
            "record-of-a-later-release",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=str(error),
        )

    def fold_event(self, record: Record) -> list[Instruction]:
        """Fold a record of job-events, unless it was folded before; return the instructions that follow from it."""
        if not self.accepting or self.newer_at is not None or record.offset < self.next_offset:
            return []
        try:
            event = decode_event(record.headers, record.value)
        except NewerRecord as error:
            self.stop_at(record, error)
            return []
        except WireError as error:
            self.next_offset = record.offset + 1
            self.fold.dropped["unreadable"] += 1
            log.warning("event-unreadable", partition=record.partition, offset=record.offset, error=str(error))
            return []
        self.next_offset = record.offset + 1
        size_bytes = len(record.value or b"")
        return self.fold.handle(event, offset=record.offset, append_ms=record.timestamp_ms, size_bytes=size_bytes)

    def note_final(self, record: Record) -> Identity | None:
        """Note a final that was read back, and forget those of long ago; return its owner, None if it is unreadable."""
        headers = header_map(record.headers)
        try:
            owner = unpack_identity(required(headers, HEADER))
            again = headers.get("state") == b"failed" and reopenable(decode_final(record.headers).reason)
        except NewerRecord as error:
            self.stop_at(record, error)
            return None
        except WireError as error:
            log.error("final-unreadable", partition=record.partition, offset=record.offset, error=str(error))
            return None
        if not self.fold.final_seen(owner.job_id, owner.version, reopenable=again, submission=owner.submission):
            log.error("final-of-another", job=owner.job_id, partition=record.partition, offset=record.offset)
            return None
        self.own_finals.add(owner, record.offset, record.timestamp_ms)
        # Not past the time of the folded events: a restore that begins far back folds events of old jobs again.
        self.fold.forget(self.own_finals.forget_old(min(record.timestamp_ms, self.fold.log_ms)))
        return owner

    def end(self) -> None:
        """Stop accepting records and free the fold's memory and spill files."""
        self.accepting = False
        self.fold.close()
