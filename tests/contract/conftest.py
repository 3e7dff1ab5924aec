"""One world per test, on each of the two transports."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import TopicPartition as ClientPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from regather.testing.contract import DeleteRecords, World
from regather.transport.base import TopicPartition
from regather.transport.kafka import KafkaTransport
from regather.transport.memory import MemoryBroker, MemoryTransport


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def transport_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def memory_broker() -> MemoryBroker:
    return MemoryBroker()


@pytest_asyncio.fixture
async def world(
    request: pytest.FixtureRequest, transport_name: str, memory_broker: MemoryBroker
) -> AsyncIterator[World]:
    if transport_name == "memory":
        found = World(MemoryTransport(memory_broker), _delete_in(memory_broker))
    else:
        bootstrap = request.getfixturevalue("kafka_bootstrap")
        found = World(KafkaTransport(bootstrap, client_id="contract", session_timeout_ms=6000), _delete_at(bootstrap))
    yield found
    await found.stop()


def _delete_in(broker: MemoryBroker) -> DeleteRecords:
    async def delete(tp: TopicPartition, before: int) -> None:
        broker.delete_records(tp, before)

    return delete


def _delete_at(bootstrap: str) -> DeleteRecords:
    async def delete(tp: TopicPartition, before: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.delete_records({ClientPartition(*tp): RecordsToDelete(before)})
        finally:
            await admin.close()

    return delete
