"""The floor: the least that a fan-out over Kafka can do on this machine, so that figures become ratios of one run.

One process, bare client: records go to one topic, an echo takes them and answers on another, with acks=all. There is no
HTTP, no job, no child process, no retry, no transaction in it.
"""

import asyncio
import statistics
import time
import uuid
from collections.abc import Sequence
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PARTITIONS = 4


class Echo:
    """A pair of topics and what moves records from the first to the second, in an `async with`."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers
        tag = uuid.uuid4().hex[:8]
        self._there, self._back = f"floor-{tag}-in", f"floor-{tag}-out"
        settings = {"bootstrap_servers": bootstrap_servers}
        self._producer = AIOKafkaProducer(acks="all", max_batch_size=256 * 1024, **settings)
        self._inner = AIOKafkaConsumer(auto_offset_reset="earliest", **settings)
        self._outer = AIOKafkaConsumer(auto_offset_reset="earliest", **settings)

    async def __aenter__(self) -> Self:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (self._there, self._back)])
        await admin.close()
        for client in (self._producer, self._inner, self._outer):
            await client.start()
        self._inner.assign([TopicPartition(self._there, number) for number in range(PARTITIONS)])
        self._outer.assign([TopicPartition(self._back, number) for number in range(PARTITIONS)])
        self._echo = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._echo.cancel()
        for client in (self._producer, self._inner, self._outer):
            await client.stop()

    async def round_trip(self, values: Sequence[bytes]) -> float:
        """Seconds until every value has come back."""
        started = time.perf_counter()
        acks = [
            await self._producer.send(self._there, value, partition=at // 64 % PARTITIONS)
            for at, value in enumerate(values)
        ]
        missing = len(values)
        while missing:
            missing -= sum(map(len, (await self._outer.getmany(timeout_ms=1000)).values()))
        for ack in acks:
            await ack
        return time.perf_counter() - started

    async def _run(self) -> None:
        while True:
            found = await self._inner.getmany(timeout_ms=1000)
            acks = [
                await self._producer.send(self._back, record.value[:4], partition=tp.partition)
                for tp, records in found.items()
                for record in records
            ]
            for ack in acks:
                await ack


async def measure(bootstrap_servers: str, *, shards: int, shard_bytes: int, calls: int) -> dict[str, float]:
    """Records per second there and back, and milliseconds of single ones, both as medians after a warm-up."""
    async with Echo(bootstrap_servers) as echo:
        many = [bytes(shard_bytes)] * shards
        rates = [shards / await echo.round_trip(many) for _ in range(5)]
        single = [await echo.round_trip([bytes(shard_bytes)]) * 1e3 for _ in range(calls)]
    return {
        "floor_shards_s": round(statistics.median(rates[2:])),
        "floor_p50_ms": round(statistics.median(single[calls // 2 :]), 2),
    }
