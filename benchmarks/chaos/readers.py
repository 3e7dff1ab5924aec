"""Plain read_committed consumers, as anybody would write them: no part of Regather's own transport."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from chaos.records import Final, Letter, Line, Place, final_of, letter_of, line_of
from regather.topics.layout import Topics

_POLL_MS = 300
_PAUSE_S = 0.5
_READ_S = 60.0
_FETCH_BYTES = 64 * 1024 * 1024


class Readers:
    """Reads a cluster's topics. `servers` is called at each connection; `partitions` has the count of each topic."""

    def __init__(self, servers: Callable[[], str], topics: Topics, partitions: Mapping[str, int]) -> None:
        self._servers = servers
        self._topics = topics
        self._partitions = partitions
        self.seen: list[tuple[Place, str, int]] = []
        self.restarts = 0
        self._next: dict[TopicPartition, int] = {}

    async def follow_results(self) -> None:
        """Read finals beside the run until cancelled; after an error go on where it stood, as a consumer has to."""
        while True:
            with contextlib.suppress(Exception):  # whatever the client says of a broker that is gone
                await self._follow()
            self.restarts += 1
            await asyncio.sleep(_PAUSE_S)

    async def caught_up(self) -> bool:
        """Whether the concurrent reader has got all that stands in the topic now."""
        async with self._consumer(self._topics.results) as (consumer, partitions):
            ends = await consumer.end_offsets(partitions)
            starts = await consumer.beginning_offsets(partitions)
            return all(self._next.get(tp, starts[tp]) >= end for tp, end in ends.items())

    async def finals(self) -> list[Final]:
        """Every final in `results`, with its result, wherever that stands."""
        finals = [final_of(record) for record in await self._read_all(self._topics.results)]
        segmented = any((final.document["result"] or {}).get("segments") for final in finals)
        pieces = {
            Place(record.partition, record.offset): record.value
            for record in (await self._read_all(self._topics.segments) if segmented else ())
        }
        return [_whole(final, pieces) for final in finals]

    async def letters(self) -> list[Letter]:
        """Every record of `dead-letters`."""
        return [letter_of(record) for record in await self._read_all(self._topics.dead_letters)]

    async def lines(self) -> list[Line]:
        """Every event of `job-events`."""
        return [line_of(record) for record in await self._read_all(self._topics.job_events)]

    async def records_from(self, topic: str, offsets: dict[int, int]) -> int:
        """How many records stand at or above these offsets, transaction markers not counted."""
        async with self._consumer(topic) as (consumer, partitions):
            for tp in partitions:
                consumer.seek(tp, offsets.get(tp.partition, 0))
            return len([record async for record in _to_end(consumer, partitions)])

    async def hanging(self, topics: Iterable[str]) -> list[str]:
        """Partitions whose last stable offset stays behind their end: a transaction is open there."""
        found = []
        for topic in topics:
            async with (
                self._consumer(topic) as (stable, partitions),
                self._consumer(topic, "read_uncommitted") as (dirty, _),
            ):
                low, high = await stable.end_offsets(partitions), await dirty.end_offsets(partitions)
                found += [
                    f"{tp.topic}-{tp.partition} {low[tp]} < {high[tp]}" for tp in partitions if low[tp] < high[tp]
                ]
        return found

    async def _follow(self) -> None:
        async with self._consumer(self._topics.results) as (consumer, partitions):
            for tp in partitions:
                consumer.seek(tp, self._next.get(tp, 0))
            while True:
                for tp, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                    for record in records:
                        final = final_of(record)
                        self.seen.append((final.place, final.job_id, final.version))
                        self._next[tp] = record.offset + 1
                for tp in partitions:  # steps over transaction markers, which no record shows
                    self._next[tp] = max(self._next.get(tp, 0), await consumer.position(tp))

    async def _read_all(self, topic: str) -> Sequence[Any]:
        async with self._consumer(topic) as (consumer, partitions):
            await consumer.seek_to_beginning(*partitions)
            return [record async for record in _to_end(consumer, partitions)]

    @contextlib.asynccontextmanager
    async def _consumer(
        self, topic: str, isolation: str = "read_committed"
    ) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers(),
            client_id="chaos-reader",
            isolation_level=isolation,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_FETCH_BYTES // 4,
        )
        try:
            await consumer.start()
            partitions = [TopicPartition(topic, number) for number in range(self._partitions[topic])]
            consumer.assign(partitions)
            yield consumer, partitions
        finally:
            await consumer.stop()


async def _to_end(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> AsyncIterator[Any]:
    ends = await consumer.end_offsets(partitions)
    limit_s = time.monotonic() + _READ_S
    while any([await consumer.position(tp) < end for tp, end in ends.items()]):
        if time.monotonic() > limit_s:
            raise TimeoutError(f"{partitions[0].topic} could not be read to its end within {_READ_S:g} s")
        for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
            for record in records:
                yield record


def _whole(final: Final, pieces: dict[Place, bytes]) -> Final:
    segments = (final.document["result"] or {}).get("segments")
    if not segments:
        return final
    parts = [pieces.get(Place(final.place.partition, offset), b"") for offset, _ in segments]
    return replace(final, value=b"".join(parts))
