"""Reads the payloads of released shards: their record has only the position of the payload in the log."""

import asyncio
from collections.abc import Callable

from regather.core.errors import OffsetOutOfRange, TransportError, WireError
from regather.core.model import RecordPlace, Shard
from regather.service.logs import get_logger
from regather.topics.layout import SHARD_RECORD_BYTES
from regather.transport.base import Record, TopicPartition, Transport
from regather.transport.log_reader import LogReader
from regather.wire.shards import decode_shard

log = get_logger()
_RETRY_S = 1.0


class PayloadReader:
    """Reads payloads, one at a time, over a consumer of its own."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._log = LogReader(transport, fetch_max_bytes=2 * SHARD_RECORD_BYTES)

    async def read(self, shard: Shard, source: RecordPlace, wanted: Callable[[], bool]) -> bytes | None:
        """Return the shard's payload at this place, retrying while it cannot be read yet and is `wanted`.

        Return None if it is no longer wanted, or is not there: retention has deleted it, or it never was.
        """
        while wanted():
            try:
                record = await self._log.read(TopicPartition(source.topic, source.partition), source.offset)
            except OffsetOutOfRange:
                break
            except TransportError as error:
                log.warning(
                    "payload-unread",
                    topic=source.topic,
                    partition=source.partition,
                    offset=source.offset,
                    error=repr(error),
                )
                if await self._is_nowhere(source):
                    break
                await asyncio.sleep(_RETRY_S)
            else:
                return record.value or b"" if _is_of(record, shard) else None
        return None

    async def _is_nowhere(self, source: RecordPlace) -> bool:
        """Whether the topic has no such partition: nobody would ever answer for it."""
        try:
            counts = await self._transport.partition_counts([source.topic])
        except TransportError:
            return False
        return source.partition >= counts.get(source.topic, 0)

    async def stop(self) -> None:
        """Disconnect."""
        await self._log.stop()


def _is_of(record: Record, shard: Shard) -> bool:
    """Whether the record is of the same shard: anybody may write a record that names a place of another job."""
    try:
        found = decode_shard(record.headers, record.value)
    except WireError:
        return False
    return (found.owner.job_id, found.owner.submission, found.seq) == (
        shard.owner.job_id,
        shard.owner.submission,
        shard.seq,
    )
