"""Reading single records and stretches of a log on demand, apart from the view's own consumer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from regather.core.errors import BrokerUnavailable, OffsetOutOfRange, TransportError
from regather.transport.base import Consumer, Record, TopicPartition, Transport

_POLL_S = 0.2

GoOn = Callable[[Record], bool]
"""Takes a record; False ends the scan."""


class LogReader:
    """One consumer, one reader at a time; made at first use and replaced after an error. A scan takes at most `limit_s`."""

    def __init__(self, transport: Transport, *, fetch_max_bytes: int, limit_s: float = 10.0) -> None:
        self._transport = transport
        self._fetch_max_bytes = fetch_max_bytes
        self._limit_s = limit_s
        self._consumer: Consumer | None = None
        self._turn = asyncio.Lock()

    async def read(self, tp: TopicPartition, offset: int) -> Record:
        """Return the record at exactly this offset; OffsetOutOfRange where it is gone."""
        found: list[Record] = []

        def first(record: Record) -> bool:
            found.append(record)
            return False

        await self.scan(tp, offset, first)
        if not found or found[0].offset != offset:
            raise OffsetOutOfRange(f"{tp.topic}-{tp.partition} holds no record at offset {offset} any more")
        return found[0]

    async def scan(self, tp: TopicPartition, start: int, take: GoOn) -> None:
        """Give records from `start` to the present end to `take`; BrokerUnavailable where that takes too long."""
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
        """Yield the records from `start` up to `end`, which may be taken slowly; OffsetOutOfRange where they are gone.

        BrokerUnavailable where none comes for as long as a scan may take.
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
        """Return the next records, or none where only transaction markers were stepped over."""
        before = await consumer.position(tp)
        try:
            async with asyncio.timeout(self._limit_s):
                while True:
                    records = (await consumer.poll(_POLL_S)).get(tp, [])
                    if records or await consumer.position(tp) > before:
                        return records
        except TimeoutError as error:
            raise BrokerUnavailable(f"{tp.topic}-{tp.partition} gave nothing for {self._limit_s} s") from error

    async def stop(self) -> None:
        """Disconnect; the next read connects again."""
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
        consumer.pause([tp])  # else the client goes on fetching what nobody reads

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
