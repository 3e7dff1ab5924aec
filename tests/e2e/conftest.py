"""A whole stack of service processes over the shared broker, and what the end-to-end tests ask of it."""

import importlib.util
import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio

from regather.embedded.embedded_kafka import EmbeddedKafka
from regather.embedded.kafka_broker import Broker, Rung
from regather.transport.base import TopicPartition
from regather.transport.kafka import KafkaTransport
from regather.wire.identity import HEADER, header_map, unpack_identity
from regather_cli.client import Client
from regather_cli.stack import Stack, StackSettings

FAST = {
    "REGATHER_PROGRESS_S": "0.1",
    "REGATHER_TICK_S": "0.5",
    "REGATHER_HEARTBEAT_TIMEOUT_S": "2",
    "REGATHER_CHECKPOINT_LOG_BYTES": "20000",
    "REGATHER_DIAGNOSTICS": "true",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(kafka_broker: Broker) -> AsyncIterator[Stack]:
    """Two gateways, two workers with one slot each, two aggregators; topics of their own."""
    settings = StackSettings(
        gateways=2,
        workers=2,
        worker_slots=1,
        aggregators=2,
        topic_prefix=f"e2e-{uuid.uuid4().hex[:8]}.",
        environment=FAST | {"REGATHER_SESSION_TIMEOUT_MS": "6000"},
    )
    async with Stack(settings, broker=kafka_broker) as running:
        yield running
    assert running.leftover_pids() == []


@pytest_asyncio.fixture
async def kafka_and_stack(tmp_path: Path, stack_settings: StackSettings) -> AsyncIterator[tuple[EmbeddedKafka, Stack]]:
    """A Kafka that the test may kill, and a stack over it with the `stack_settings` of the test's own module."""
    with EmbeddedKafka(data_dir=tmp_path / "kafka") as kafka:
        broker = Broker(kafka.bootstrap_servers, Rung.EMBEDDED, kafka.version)
        async with Stack(stack_settings, broker=broker) as stack:
            yield kafka, stack


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.gateway_url) as connected:
        yield connected


@pytest.fixture(scope="session")
def reference(repository_root: Path) -> Callable[..., dict[str, Any]]:
    """Run an independent computation of tests/reference in a process of its own; its JSON answer."""

    def run(name: str, file: Path, *arguments: str) -> dict[str, Any]:
        script = repository_root / "tests" / "reference" / f"{name}.py"
        command = [sys.executable, str(script), str(file), *arguments]
        completed = subprocess.run(command, capture_output=True, text=True, check=True)
        answer: dict[str, Any] = json.loads(completed.stdout)
        return answer

    return run


@pytest.fixture(scope="session")
def hostile_shards(repository_root: Path) -> ModuleType:
    """The program `make hostile-shards`, which is in no package."""
    spec = importlib.util.spec_from_file_location(
        "hostile_shards", repository_root / "benchmarks" / "hostile_shards.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def count_finals(stack: Stack) -> Callable[[], Awaitable[Counter[tuple[str, int]]]]:
    """Read `results` from the start, as any read_committed consumer would: finals per (job, version)."""

    async def count() -> Counter[tuple[str, int]]:
        transport = KafkaTransport(stack.broker.bootstrap_servers, client_id="audit")
        consumer = transport.consumer()
        await consumer.start()
        try:
            partitions = (await transport.partition_counts([stack.topics.results]))[stack.topics.results]
            tps = [TopicPartition(stack.topics.results, number) for number in range(partitions)]
            consumer.assign(tps)
            for tp in tps:
                consumer.seek(tp, 0)
            ends = await consumer.end_offsets(tps)
            found: Counter[tuple[str, int]] = Counter()
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for records in (await consumer.poll(0.2)).values():
                    for record in records:
                        owner = unpack_identity(header_map(record.headers)[HEADER])
                        found[owner.job_id, owner.version] += 1
            return found
        finally:
            await consumer.stop()
            await transport.close()

    return count
