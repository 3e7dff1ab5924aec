"""Two releases side by side: one writes wire version 2, the other reads version 1 only. Nothing is settled or lost.

There is no version 2 yet. A transport stands in for its release: it writes the number 2 into the header of each record,
and reads 2 as 1.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from functools import partial

import pytest
import pytest_asyncio

from regather.core.model import Identity, JobId, JobState, OnError, Opened, Sealed, SubmissionId
from regather.processors.registry import all_kinds
from regather.testing.inline_executor import InlineExecutor
from regather.testing.waiting import eventually
from regather.topics.layout import SHARD_RECORD_BYTES, Size, Topics, topic_specs
from regather.transport.base import Consumer, Headers, Producer, Record, RecordAddress, TopicPartition
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.transport.memory.clients import MemoryConsumer, MemoryProducer, MemoryTransactionalProducer
from regather.wire.documents import decode_final
from regather.wire.events import encode_event
from regather.wire.identity import HEADER
from regather.wire.shards import ShardEncoder
from regather_aggregator.app import Aggregator
from regather_aggregator.app import build as build_aggregator
from regather_aggregator.settings import AggregatorSettings
from regather_worker.app import Worker
from regather_worker.app import build as build_worker
from regather_worker.settings import WorkerSettings

TOPICS = Topics()
WORKER = WorkerSettings(commit_s=0.02, drain_s=1)
AGGREGATOR = AggregatorSettings(progress_s=0.02, tick_s=0.02)


def as_version(version: int, headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    return [(name, bytes([version]) + value[1:] if name == HEADER and value else value) for name, value in headers]


class NextProducer(MemoryProducer):
    """Writes wire version 2."""

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Awaitable[RecordAddress]:
        return await super().send(topic, value=value, key=key, headers=as_version(2, headers), partition=partition)


class NextTransactionalProducer(NextProducer, MemoryTransactionalProducer):
    """Writes wire version 2."""


class NextConsumer(MemoryConsumer):
    """Reads both versions."""

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Mapping[TopicPartition, list[Record]]:
        found = await super().poll(timeout_s, max_records)
        return {
            tp: [record._replace(headers=as_version(1, record.headers)) for record in records]
            for tp, records in found.items()
        }


class NextRelease(MemoryTransport):
    """The clients of a release that writes version 2 and reads both."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.broker = broker

    def producer(self, *, max_record_bytes: int) -> Producer:
        return NextProducer(self.broker, max_record_bytes)

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> MemoryTransactionalProducer:
        return NextTransactionalProducer(self.broker, transactional_id, max_record_bytes)

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 2**24) -> Consumer:
        return NextConsumer(self.broker, self.broker.group(group) if group else None)


Service = Worker | Aggregator


def waits_for_upgrade(service: Service) -> bool:
    return "upgrade" in (service.not_ready_because or "")


class Installation:
    """A broker, and services of either release."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.now, self.later = MemoryTransport(self.broker), NextRelease(self.broker)
        self._running: dict[Service, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    async def start(self, service: Service) -> Service:
        stop = asyncio.Event()
        self._running[service] = (stop, asyncio.create_task(service.run(stop)))
        await eventually(lambda: service.not_ready_because is None, what="a ready service")
        return service

    async def worker(self, transport: MemoryTransport) -> Service:
        return await self.start(build_worker(WORKER, transport, InlineExecutor(all_kinds(), slots=2)))

    async def aggregator(self, transport: MemoryTransport) -> Service:
        return await self.start(build_aggregator(AGGREGATOR, transport, InlineExecutor(all_kinds()), all_kinds()))

    async def stop(self, service: Service) -> None:
        stop, task = self._running.pop(service)
        stop.set()
        await task

    async def stop_all(self) -> None:
        for service in list(self._running):
            await self.stop(service)

    async def submit(self, transport: MemoryTransport, number: int, shards: int = 3) -> Identity:
        """Do what a gateway of this release does for a job."""
        owner = Identity(JobId(f"00000000-0000-7000-8000-{number:012}"), SubmissionId("00" * 8))
        opened = Opened(owner, "diagnostics", b"{}", "", 3_600_000, OnError.FAIL)
        producer = transport.producer(max_record_bytes=SHARD_RECORD_BYTES)
        await producer.start()
        headers, value = encode_event(opened)
        await (await producer.send(TOPICS.job_events, value=value, headers=headers, partition=0))
        shard_headers = ShardEncoder(owner, "diagnostics", b"{}", 15_000).headers
        for seq in range(shards):
            sent = await producer.send(TOPICS.shards_small, value=b"abcd", headers=shard_headers(seq), partition=0)
            await sent
        headers, value = encode_event(Sealed(owner, shards, 4 * shards, "sha256:x"))
        await (await producer.send(TOPICS.job_events, value=value, headers=headers, partition=0))
        await producer.stop()
        return owner

    def records(self, topic: str) -> list[Record]:
        logs = [self.broker.log(TopicPartition(topic, n)) for n in range(self.broker.partition_counts()[topic])]
        return [record for log in logs for record in log.read(log.beginning, None)[0]]

    def ended(self) -> dict[Identity, JobState]:
        finals = [decode_final(as_version(1, record.headers)) for record in self.records(TOPICS.results)]
        return {status.owner: status.state for status in finals}

    def committed(self, role: str, topic: str) -> int:
        found = self.broker.group(TOPICS.group(role)).committed.get(TopicPartition(topic, 0))
        return found.offset if found else 0


@pytest_asyncio.fixture
async def world() -> AsyncIterator[Installation]:
    found = Installation()
    await found.now.create_topics(topic_specs(TOPICS, Size.EMBEDDED))
    yield found
    await found.stop_all()


async def test_a_later_gateway_stops_older_services_and_their_upgrade_goes_on(world: Installation) -> None:
    worker, aggregator = await world.worker(world.now), await world.aggregator(world.now)
    before = await world.submit(world.now, 1)
    await eventually(lambda: world.ended() == {before: JobState.SUCCEEDED}, what="the end of the job before")
    await eventually(lambda: world.committed("workers", TOPICS.shards_small) == 3, what="the commit of its shards")
    events = len(world.records(TOPICS.job_events))
    newer = await world.submit(world.later, 2)
    for service in (worker, aggregator):
        await eventually(partial(waits_for_upgrade, service), what="a service that stands still")
    behind = await world.submit(world.now, 3)
    await world.stop(worker)
    await world.stop(aggregator)
    assert world.committed("workers", TOPICS.shards_small) == 3
    assert world.committed("aggregators", TOPICS.job_events) <= events
    assert (world.records(TOPICS.dead_letters), world.ended()) == ([], {before: JobState.SUCCEEDED})
    await world.worker(world.later)
    await world.aggregator(world.later)
    await eventually(lambda: set(world.ended()) == {before, newer, behind}, what="the end of all jobs")
    assert set(world.ended().values()) == {JobState.SUCCEEDED}
    assert world.records(TOPICS.dead_letters) == []


@pytest.mark.parametrize("first", ["worker", "aggregator"])
async def test_a_job_runs_across_an_upgrade_of_one_service_after_the_other(world: Installation, first: str) -> None:
    start = {"worker": world.worker, "aggregator": world.aggregator}
    second = "aggregator" if first == "worker" else "worker"
    older = {name: await start[name](world.now) for name in start}
    jobs = {await world.submit(world.now, 1)}
    await eventually(lambda: set(world.ended()) == jobs, what="the end of the first job")
    await world.stop(older[first])
    await start[first](world.later)
    jobs.add(await world.submit(world.now, 2))
    await world.stop(older[second])
    await start[second](world.later)
    jobs.add(await world.submit(world.later, 3))
    await eventually(lambda: set(world.ended()) == jobs, what="the end of all jobs")
    assert set(world.ended().values()) == {JobState.SUCCEEDED}
    assert world.records(TOPICS.dead_letters) == []
