"""Following one partition without a group, from its beginning: for topics whose newest records are a small state."""

import asyncio
from collections.abc import Callable

from regather.core.errors import TransportError
from regather.service.logs import get_logger
from regather.transport.base import Consumer, Record, TopicPartition, Transport

log = get_logger()
_POLL_S = 0.2
_RETRY_S = 1.0


class Follower:
    """Gives every record to `take`, in order. `loaded` is set while the reader lives and has reached the end once."""

    def __init__(self, transport: Transport, partition: TopicPartition, take: Callable[[Record], None]) -> None:
        self._transport = transport
        self._tp = partition
        self._take = take
        self._next_offset = 0
        self.loaded = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; a broken reader is replaced and goes on where it stood."""
        while True:
            consumer = self._transport.consumer()
            try:
                await self._follow(consumer)
            except TransportError as error:
                log.warning("follower-restarts", topic=self._tp.topic, error=repr(error))
            finally:
                self.loaded.clear()
                await consumer.stop()
            await asyncio.sleep(_RETRY_S)

    async def _follow(self, consumer: Consumer) -> None:
        await consumer.start()
        consumer.assign([self._tp])
        beginning = (await consumer.beginning_offsets([self._tp]))[self._tp]
        consumer.seek(self._tp, max(beginning, self._next_offset))
        end = (await consumer.end_offsets([self._tp]))[self._tp]
        while True:
            for record in (await consumer.poll(_POLL_S)).get(self._tp, ()):
                self._next_offset = record.offset + 1
                self._take(record)
            if not self.loaded.is_set() and await consumer.position(self._tp) >= end:
                self.loaded.set()
