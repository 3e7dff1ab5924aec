"""Loads the outcomes of a redriven job's earlier versions, by reading job-events again."""

from regather.core.errors import OffsetOutOfRange, WireError
from regather.core.job_events import InheritedLoaded, JobBroken
from regather.core.model import Identity, Reason
from regather.core.reassembly import LoadInherited
from regather.core.redrive import VersionHistory
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.transport.base import Record, TopicPartition, Transport
from regather.transport.log_reader import LogReader
from regather.wire.events import decode_event
from regather.wire.identity import belongs_to

log = get_logger()
_FETCH_BYTES = 16 * 1024 * 1024
_LIMIT_S = 600.0
_RETRY_S = 1.0


class InheritedOutcomes:
    """Reads a range of a partition for each redriven job, with a separate consumer."""

    def __init__(self, transport: Transport, topic: str) -> None:
        self._transport = transport
        self._topic = topic

    async def load(self, partition: int, instruction: LoadInherited) -> InheritedLoaded | JobBroken | None:
        """Return the outcomes that count, retrying while the broker fails; JobBroken if they are past their retention.

        None if the log has no `opened` of this submission: such a job cannot have been redriven.
        """
        tp = TopicPartition(self._topic, partition)
        owner = instruction.job.owner

        async def read() -> InheritedLoaded | JobBroken | None:
            try:
                return await self._read(tp, owner, instruction)
            except OffsetOutOfRange:
                text = f"the events of version {owner.version - 1} are older than the retention of {self._topic}"
                return JobBroken(Reason.PAST_RETENTION, text)

        return await retrying(read, "base-unread", first_s=_RETRY_S, job=owner.job_id)

    async def _read(self, tp: TopicPartition, owner: Identity, instruction: LoadInherited) -> InheritedLoaded | None:
        versions = VersionHistory(owner, keep_outputs=True)
        mine = belongs_to(owner, any_version=True)

        def take(record: Record) -> bool:
            if record.offset >= instruction.end:
                return False
            if mine(record.headers):
                _fold(versions, record)
            return True

        reader = LogReader(self._transport, fetch_max_bytes=_FETCH_BYTES, limit_s=_LIMIT_S)
        try:
            await reader.scan(tp, instruction.first, take)
        finally:
            await reader.stop()
        return InheritedLoaded(versions.outcomes, versions.sealed) if versions.opened is not None else None


def _fold(versions: VersionHistory, record: Record) -> None:
    try:
        versions.apply(decode_event(record.headers, record.value))
    except WireError as error:
        log.warning("event-unreadable", partition=record.partition, offset=record.offset, error=str(error))
