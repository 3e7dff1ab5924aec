"""Reads single records and ranges of a log on demand, with a consumer of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from regather.core.errors import BrokerUnavailable, NotReadableYet, OffsetOutOfRange, TransportError
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
        """Return the record at exactly this offset.

        Raise NotReadableYet while an open transaction hides it, OffsetOutOfRange if the log has no such record.
        """
        found: list[Record] = []

        def first(record: Record) -> bool:
            found.append(record)
            return False

        async with self._limited(tp) as consumer:
            stable_end = await self._scan(consumer, tp, offset, first)
            written_end = stable_end if offset < stable_end else (await consumer.written_offsets([tp]))[tp]
        if found and found[0].offset == offset:
            return found[0]
        if stable_end <= offset < written_end:
            raise NotReadableYet(f"an open transaction still hides {tp.topic}-{tp.partition} at offset {offset}")
        raise OffsetOutOfRange(f"{tp.topic}-{tp.partition} has no record at offset {offset}")

    async def scan(self, tp: TopicPartition, start: int, take: GoOn) -> None:
        """Call `take` with the records from `start` to the present end; raise BrokerUnavailable after `limit_s`."""
        async with self._limited(tp) as consumer:
            await self._scan(consumer, tp, start, take)

    @contextlib.asynccontextmanager
    async def _limited(self, tp: TopicPartition) -> AsyncIterator[Consumer]:
        """Yield the consumer to one reader, for at most `limit_s`; drop it after an error."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._limit_s):
                    yield await self._ready()
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
    async def _scan(consumer: Consumer, tp: TopicPartition, start: int, take: GoOn) -> int:
        """Return the end up to which it read, the last stable offset."""
        consumer.assign([tp])
        consumer.seek(tp, start)
        consumer.resume([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        more = True
        while more and await consumer.position(tp) < end:
            for record in (await consumer.poll(_POLL_S)).get(tp, ()):
                more = more and record.offset < end and take(record)
        consumer.pause([tp])  # else the client goes on fetching records that nobody reads
        return end

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
