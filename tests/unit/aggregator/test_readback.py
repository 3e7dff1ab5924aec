"""Reading our own output back: followers of one partition that overlap."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from regather.core.errors import BrokerUnavailable
from regather.testing.waiting import eventually
from regather.topics.rules import TopicSpec
from regather.transport.base import Consumer, Record, TopicPartition
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.transport.memory.clients import MemoryConsumer
from regather_aggregator.readback import ReadBack

TOPIC = "output"


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[MemoryTransport]:
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    await transport.create_topics([TopicSpec(TOPIC, 1, 1_000, {})])
    yield transport


@pytest_asyncio.fixture
async def read_back(transport: MemoryTransport) -> AsyncIterator[ReadBack]:
    made = ReadBack(transport, TOPIC)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.wait([running])


class DeafConsumer(MemoryConsumer):
    """Gets no record."""

    def __init__(self, broker: MemoryBroker, polled: asyncio.Event) -> None:
        super().__init__(broker, None)
        self._polled = polled

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Mapping[TopicPartition, list[Record]]:
        self._polled.set()
        await asyncio.Event().wait()
        return {}


class DeafTransport(MemoryTransport):
    """Its readers get no record."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self._deaf = broker
        self.polled = asyncio.Event()

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        return DeafConsumer(self._deaf, self.polled)


async def write(transport: MemoryTransport, value: bytes) -> None:
    producer = transport.producer(max_record_bytes=1_000)
    await producer.start()
    await (await producer.send(TOPIC, value=value, partition=0))
    await producer.stop()


async def test_a_late_leave_of_a_former_follower_leaves_its_successor_alone(
    transport: MemoryTransport, read_back: ReadBack
) -> None:
    former: list[Record] = []
    successor: list[Record] = []
    await read_back.follow(0, 0, former.append)
    await read_back.follow(0, 0, successor.append)
    read_back.leave(0, former.append)
    await write(transport, b"a")
    await eventually(lambda: successor, what="the record at the successor")
    read_back.leave(0, successor.append)
    assert (former, [record.value for record in successor]) == ([], [b"a"])


async def test_a_follower_that_is_left_while_it_waits_gets_an_error_and_is_not_cancelled() -> None:
    transport = DeafTransport(MemoryBroker())
    await transport.create_topics([TopicSpec(TOPIC, 1, 1_000, {})])
    await write(transport, b"a")
    read_back = ReadBack(transport, TOPIC)
    running = asyncio.create_task(read_back.run())
    waits = asyncio.create_task(read_back.follow(0, 0, print))
    await transport.polled.wait()
    read_back.leave(0, print)
    await asyncio.wait([waits])
    assert not waits.cancelled()
    with pytest.raises(BrokerUnavailable, match="no longer followed"):
        waits.result()
    running.cancel()
    await asyncio.wait([running])
