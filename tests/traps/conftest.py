"""The traps of the Kafka client, on a real broker behind a fault proxy: worlds, raw clients, whole services.

`direct` reaches the broker itself, `through` goes through the proxy under the client id "through" and with short time
limits. A session lasts two seconds.
"""

import asyncio
import contextlib
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from regather.children.work import Executor
from regather.core.ids import uuid7
from regather.core.model import Event, Identity, OnError, Opened, Outcome, Outcomes, Sealed, SubmissionId
from regather.embedded.embedded_kafka import EmbeddedKafka
from regather.processors.base import ShardView
from regather.processors.registry import all_kinds
from regather.testing.contract import World
from regather.testing.fault_proxy import FaultProxy
from regather.testing.inline_executor import InlineExecutor
from regather.testing.waiting import eventually
from regather.topics.layout import EVENT_RECORD_BYTES, SHARD_RECORD_BYTES, Size, Topics, topic_specs
from regather.transport.base import Record, TopicPartition, Transport
from regather.transport.kafka import KafkaTransport, Limits
from regather.wire.events import encode_event
from regather.wire.identity import HEADER, header_map, unpack_identity
from regather.wire.shards import ShardEncoder
from regather_aggregator.app import Aggregator
from regather_aggregator.app import build as build_aggregator
from regather_aggregator.settings import AggregatorSettings
from regather_worker.app import Worker
from regather_worker.app import build as build_worker
from regather_worker.settings import WorkerSettings

SESSION_MS = 2_000
SHORT = Limits(call_s=3.0, ack_s=3.0, poll_slack_s=1.0, stop_s=1.0)


@pytest.fixture(scope="session")
def kafka(proxied_kafka: EmbeddedKafka) -> EmbeddedKafka:
    """The broker with its internal topics made, so that nobody's time limit is spent on that."""
    asyncio.run(_warm_up(proxied_kafka.bootstrap_servers))
    return proxied_kafka


async def _warm_up(servers: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="warm-up", transaction_timeout_ms=10_000)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id="warm-up")
    async with producer, consumer:
        consumer.subscribe(["nothing"])


@pytest_asyncio.fixture
async def direct(kafka: EmbeddedKafka) -> AsyncIterator[World]:
    transport = KafkaTransport(kafka.bootstrap_servers, client_id="direct", session_timeout_ms=SESSION_MS)
    async with _world(kafka, transport) as world:
        yield world


@pytest.fixture
def proxied_transport(kafka: EmbeddedKafka, fault_proxy: FaultProxy) -> Callable[..., KafkaTransport]:
    """Clients of a name of their own, for rules that are meant for them only."""

    def make(client_id: str, limits: Limits = SHORT) -> KafkaTransport:
        return KafkaTransport(kafka.proxied_servers, client_id=client_id, session_timeout_ms=SESSION_MS, limits=limits)

    return make


@pytest_asyncio.fixture
async def through(
    kafka: EmbeddedKafka, fault_proxy: FaultProxy, proxied_transport: Callable[..., KafkaTransport]
) -> AsyncIterator[World]:
    async with _world(kafka, proxied_transport("through")) as world:
        yield world
        fault_proxy.disarm()


@contextlib.asynccontextmanager
async def _world(kafka: EmbeddedKafka, transport: Transport) -> AsyncIterator[World]:
    async def delete(tp: TopicPartition, before: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_records({ClientPartition(*tp): RecordsToDelete(before)})
        finally:
            await admin.close()

    world = World(transport, delete)
    yield world
    await world.stop()


class RawClients:
    """Clients as the library makes them, for what the traps are without us; stopped at the end."""

    def __init__(self, kafka: EmbeddedKafka) -> None:
        self._kafka = kafka
        self._started: list[Any] = []

    async def producer(self, *, proxied: bool = False, **settings: Any) -> AIOKafkaProducer:
        if "transactional_id" in settings:
            settings = {"transaction_timeout_ms": 10_000} | settings
        producer = AIOKafkaProducer(bootstrap_servers=self._servers(proxied), acks="all", **settings)
        self._started.append(producer)
        await producer.start()
        return producer

    async def consumer(self, *, proxied: bool = False, **settings: Any) -> AIOKafkaConsumer:
        settings = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "client_id": "raw"} | settings
        if "group_id" in settings:
            settings = {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": 200} | settings
        consumer = AIOKafkaConsumer(bootstrap_servers=self._servers(proxied), **settings)
        self._started.append(consumer)
        await consumer.start()
        return consumer

    async def stop(self) -> None:
        for client in reversed(self._started):
            async with asyncio.timeout(20):
                await client.stop()

    def _servers(self, proxied: bool) -> str:
        return self._kafka.proxied_servers if proxied else self._kafka.bootstrap_servers


@pytest_asyncio.fixture
async def raw(kafka: EmbeddedKafka, fault_proxy: FaultProxy) -> AsyncIterator[RawClients]:
    clients = RawClients(kafka)
    yield clients
    fault_proxy.disarm()
    await clients.stop()


def _job(number: int) -> Identity:
    return Identity(uuid7(number, bytes(10)), SubmissionId("00" * 8))


class Installation:
    """Topics of its own, services over them, a hand that writes events and shards, and eyes for what comes out."""

    def __init__(self, direct: World, topics: Topics) -> None:
        self.topics = topics
        self._direct = direct
        self._running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    async def aggregator(self, transport: Transport, executor: Executor | None = None) -> Aggregator:
        """Run an aggregator; it need not be ready yet."""
        settings = AggregatorSettings(topic_prefix=self.topics.prefix, progress_s=0.05, tick_s=0.05, drain_s=1)
        kinds = all_kinds()
        aggregator = build_aggregator(settings, transport, executor or InlineExecutor(kinds), kinds)
        self._run(aggregator)
        return aggregator

    async def worker(self, transport: Transport, executor: Executor | None = None, **settings: Any) -> Worker:
        """Run a worker; it need not be ready yet."""
        made = WorkerSettings(topic_prefix=self.topics.prefix, commit_s=0.05, drain_s=1, **settings)
        worker = build_worker(made, transport, executor or InlineExecutor(all_kinds()))
        self._run(worker)
        return worker

    def _run(self, service: Aggregator | Worker) -> None:
        stop = asyncio.Event()
        self._running.append((stop, asyncio.create_task(service.run(stop))))

    async def stop(self) -> None:
        """Stop every service."""
        for stop, task in self._running:
            stop.set()
            await task
        self._running.clear()

    async def tell(self, *events: Event) -> None:
        producer = await self._direct.producer(max_record_bytes=EVENT_RECORD_BYTES)
        for event in events:
            headers, value = encode_event(event)
            await (await producer.send(self.topics.job_events, value=value, headers=headers, partition=0))
        await producer.stop()

    async def job(self, number: int) -> None:
        """All events of a job of one shard."""
        owner = _job(number)
        processor = all_kinds()["diagnostics"]
        output = processor.process(ShardView(b"0000", b"", 0, 0), processor.options_model())
        outcome = Outcomes(owner, "w", [Outcome(0, 1, 4, 0, 1, output=output)])
        await self.tell(self.opened(number), outcome, Sealed(owner, 1, 4, "sha256:x"))

    @staticmethod
    def opened(number: int) -> Opened:
        return Opened(_job(number), "diagnostics", b"{}", "", 3_600_000, OnError.FAIL)

    async def shards(self, count: int, *, first: int = 0) -> None:
        """Shards of a job each, so that none shares a micro-batch, all in partition 0 of `shards.small`."""
        producer = await self._direct.producer(max_record_bytes=SHARD_RECORD_BYTES)
        for number in range(first, first + count):
            headers = ShardEncoder(_job(number), "diagnostics", b"{}", 15_000).headers(0)
            await (await producer.send(self.topics.shards_small, value=b"x", headers=headers, partition=0))
        await producer.stop()

    async def records(self, topic: str, partition: int = 0) -> list[Record]:
        """What a read_committed reader sees from the start to the present end."""
        tp = TopicPartition(topic, partition)
        reader = await self._direct.reader(tp)
        end = (await reader.end_offsets([tp]))[tp]
        found: list[Record] = []
        while await reader.position(tp) < end:
            found += (await reader.poll(0.05)).get(tp, [])
        await reader.stop()
        return found

    async def finals(self) -> Counter[int]:
        """How many finals there are of each job, by its number."""
        found: Counter[int] = Counter()
        for record in await self.records(self.topics.results):
            job_id = unpack_identity(header_map(record.headers)[HEADER]).job_id
            found[next(number for number in range(1_000) if _job(number).job_id == job_id)] += 1
        return found

    async def ended(self, *numbers: int) -> None:
        """Wait until each of these jobs has a final."""

        async def all_there() -> bool:
            return set(numbers) <= set(await self.finals())

        await eventually(all_there, timeout_s=15, what=f"the finals of jobs {numbers}")


@pytest_asyncio.fixture
async def installation(direct: World, fault_proxy: FaultProxy) -> AsyncIterator[Installation]:
    topics = Topics(f"trap-{os.urandom(4).hex()}.")
    await direct.transport.create_topics(topic_specs(topics, Size.EMBEDDED))
    found = Installation(direct, topics)
    yield found
    fault_proxy.disarm()
    await found.stop()


class _WatchedConsumer:
    def __init__(self, inner: Any, notes: "WatchedTransport") -> None:
        self._inner = inner
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Any:
        found = await self._inner.poll(timeout_s, max_records)
        self._notes.polls += 1
        self._notes.delivered += [record for records in found.values() for record in records]
        return found

    def pause(self, partitions: Any) -> None:
        self._notes.paused |= set(partitions)
        self._inner.pause(partitions)

    def resume(self, partitions: Any) -> None:
        self._notes.paused -= set(partitions)
        self._inner.resume(partitions)


class WatchedTransport:
    """A transport that notes what its group members were given, which partitions they paused, and who was made when."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.polls = 0
        self.delivered: list[Record] = []
        self.paused: set[TopicPartition] = set()
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def consumer(self, *, group: str | None = None, **settings: Any) -> Any:
        self.made.append("consumer")
        consumer = self._inner.consumer(group=group, **settings)
        return _WatchedConsumer(consumer, self) if group else consumer

    def producer(self, **settings: Any) -> Any:
        self.made.append("producer")
        return self._inner.producer(**settings)


@pytest.fixture
def watch() -> type[WatchedTransport]:
    return WatchedTransport


def new_name() -> str:
    return uuid.uuid4().hex[:10]


@pytest.fixture
def names() -> Iterator[str]:
    """Names that nobody else has."""
    return iter(new_name, "")


def partitions(topic: str, numbers: Sequence[int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in numbers]
