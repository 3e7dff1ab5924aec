"""Follows one partition from its beginning, without a group: for topics whose newest records are a small state."""

import asyncio
from collections.abc import Callable

from regather.core.errors import TransportError
from regather.runtime.logs import get_logger
from regather.transport.base import Consumer, Record, TopicPartition, Transport

log = get_logger()
_POLL_S = 0.2
_RETRY_S = 1.0


class Follower:
    """Calls `take` with every record, in order. `loaded` is set while the reader has reached the end."""

    def __init__(self, transport: Transport, partition: TopicPartition, take: Callable[[Record], None]) -> None:
        self._transport = transport
        self._tp = partition
        self._take = take
        self._next_offset = 0
        self.loaded = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled. A new reader replaces a broken one and continues at the same offset."""
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
