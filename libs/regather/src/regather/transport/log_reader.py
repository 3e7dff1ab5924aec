"""Reads single records and ranges of a log on demand, with a consumer of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from regather.core.errors import BrokerUnavailable, OffsetOutOfRange, TransportError
from regather.transport.base import Consumer, Record, TopicPartition, Transport

_POLL_S = 0.2

GoOn = Callable[[Record], bool]
"""Called with each record; returns False to end the scan."""


class LogReader:
    """One consumer for one reader at a time. It is made at first use and replaced after an error.

    A scan takes at most `limit_s`.
    """

    def __init__(self, transport: Transport, *, fetch_max_bytes: int, limit_s: float = 10.0) -> None:
        self._transport = transport
        self._fetch_max_bytes = fetch_max_bytes
        self._limit_s = limit_s
        self._consumer: Consumer | None = None
        self._turn = asyncio.Lock()

    async def read(self, tp: TopicPartition, offset: int) -> Record:
        """Return the record at exactly this offset; raise OffsetOutOfRange if it is no longer in the log."""
        found: list[Record] = []

        def first(record: Record) -> bool:
            found.append(record)
            return False

        await self.scan(tp, offset, first)
        if not found or found[0].offset != offset:
            raise OffsetOutOfRange(f"{tp.topic}-{tp.partition} no longer has a record at offset {offset}")
        return found[0]

    async def scan(self, tp: TopicPartition, start: int, take: GoOn) -> None:
        """Call `take` with the records from `start` to the present end; raise BrokerUnavailable after `limit_s`."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._limit_s):
                    await self._scan(await self._ready(), tp, start, take)
            except TimeoutError as error:
                await self.stop()
                raise BrokerUnavailable(
                    f"reading {tp.topic}-{tp.partition} took longer than {self._limit_s} s"
                ) from error
            except TransportError:
                await self.stop()
                raise

    async def records(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
        """Yield the records from `start` up to `end`. The caller may take its time.

        Raise OffsetOutOfRange if they are no longer in the log, BrokerUnavailable if none arrives within `limit_s`.
        """
        async with self._turn:
            consumer = await self._ready()
            consumer.assign([tp])
            consumer.seek(tp, start)
            consumer.resume([tp])
            try:
                while await consumer.position(tp) < end:
                    for record in await self._next(consumer, tp):
                        if record.offset < end:
                            yield record
            except TransportError:
                await self.stop()
                raise
            consumer.pause([tp])

    async def _next(self, consumer: Consumer, tp: TopicPartition) -> Sequence[Record]:
        """Return the next records; none if the consumer only passed transaction markers."""
        before = await consumer.position(tp)
        try:
            async with asyncio.timeout(self._limit_s):
                while True:
                    records = (await consumer.poll(_POLL_S)).get(tp, [])
                    if records or await consumer.position(tp) > before:
                        return records
        except TimeoutError as error:
            raise BrokerUnavailable(f"{tp.topic}-{tp.partition} returned no record for {self._limit_s} s") from error

    async def stop(self) -> None:
        """Disconnect. The next read connects again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    @staticmethod
    async def _scan(consumer: Consumer, tp: TopicPartition, start: int, take: GoOn) -> None:
        consumer.assign([tp])
        consumer.seek(tp, start)
        consumer.resume([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        more = True
        while more and await consumer.position(tp) < end:
            for record in (await consumer.poll(_POLL_S)).get(tp, ()):
                more = more and record.offset < end and take(record)
        consumer.pause([tp])  # else the client goes on fetching records that nobody reads

    async def _ready(self) -> Consumer:
        if self._consumer is None:
            consumer = self._transport.consumer(fetch_max_bytes=self._fetch_max_bytes)
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer
