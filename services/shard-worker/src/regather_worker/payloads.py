"""Reads the payloads of released shards: their record has only the position of the payload in the log."""

import asyncio
from collections.abc import Callable

from regather.core.errors import OffsetOutOfRange, TransportError
from regather.core.model import RecordPlace
from regather.service.logs import get_logger
from regather.topics.layout import SHARD_RECORD_BYTES
from regather.transport.base import TopicPartition, Transport
from regather.transport.log_reader import LogReader

log = get_logger()
_RETRY_S = 1.0


class PayloadReader:
    """Reads payloads, one at a time, over a consumer of its own."""

    def __init__(self, transport: Transport) -> None:
        self._log = LogReader(transport, fetch_max_bytes=2 * SHARD_RECORD_BYTES)

    async def read(self, source: RecordPlace, wanted: Callable[[], bool]) -> bytes | None:
        """Return the payload at this place, retrying while no broker answers and the payload is `wanted`.

        Return None if retention has deleted it, or if it is no longer wanted.
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
                await asyncio.sleep(_RETRY_S)
            else:
                return record.value or b""
        return None

    async def stop(self) -> None:
        """Disconnect."""
        await self._log.stop()
