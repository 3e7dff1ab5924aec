"""Payloads of released shards: one that is not readable yet is awaited, one that is nowhere is not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from regather.core.model import Identity, JobId, RecordPlace, Shard, SubmissionId
from regather.topics.rules import TopicSpec
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.wire.shards import shard_headers
from regather_worker.payloads import PayloadReader

TOPIC = "shards"
SHARD = Shard(Identity(JobId("018f0000-0000-7000-8000-000000000000"), SubmissionId("00" * 8)), 0, "k", b"{}", b"bytes")


@pytest.fixture
async def transport() -> MemoryTransport:
    transport = MemoryTransport(MemoryBroker())
    await transport.create_topics([TopicSpec(TOPIC, 1, 1024, {})])
    return transport


@pytest.fixture
async def payloads(transport: MemoryTransport) -> AsyncIterator[PayloadReader]:
    payloads = PayloadReader(transport)
    yield payloads
    await payloads.stop()


async def test_a_payload_behind_an_open_transaction_is_awaited(
    transport: MemoryTransport, payloads: PayloadReader
) -> None:
    other = transport.transactional_producer("other", max_record_bytes=1024)
    await other.start()
    await other.begin()
    await (await other.send(TOPIC, value=b"", partition=0))
    producer = transport.producer(max_record_bytes=1024)
    await producer.start()
    await (await producer.send(TOPIC, value=SHARD.payload, headers=shard_headers(SHARD), partition=0))

    reading = asyncio.create_task(payloads.read(SHARD, RecordPlace(TOPIC, 0, 1), lambda: True))
    await asyncio.wait([reading], timeout=0.2)
    early = reading.done()
    await other.commit()

    assert not early
    assert await reading == b"bytes"


async def test_a_place_beyond_the_written_end_has_no_payload(payloads: PayloadReader) -> None:
    async with asyncio.timeout(5):
        assert await payloads.read(SHARD, RecordPlace(TOPIC, 0, 7), lambda: True) is None
