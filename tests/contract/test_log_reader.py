"""Single records by their offset on both transports: there, not readable yet, gone, never written."""

import uuid
from collections.abc import AsyncIterator

import pytest

from regather.core.errors import NotReadableYet, OffsetOutOfRange
from regather.testing.contract import World
from regather.testing.waiting import eventually
from regather.transport.base import Record, TopicPartition
from regather.transport.log_reader import LogReader


@pytest.fixture
async def log_reader(world: World) -> AsyncIterator[LogReader]:
    reader = LogReader(world.transport, fetch_max_bytes=1024 * 1024)
    yield reader
    await reader.stop()


async def test_a_record_behind_an_open_transaction_is_not_readable_yet(world: World, log_reader: LogReader) -> None:
    tp = TopicPartition(await world.topic(), 0)
    await world.write(tp.topic, b"before")
    producer = await world.transactional(f"tx-{uuid.uuid4().hex[:10]}")
    await producer.begin()
    await (await producer.send(tp.topic, value=b"open", partition=0))
    await world.write(tp.topic, b"after")

    assert (await log_reader.read(tp, 0)).value == b"before"
    for hidden in (1, 2):
        with pytest.raises(NotReadableYet):
            await log_reader.read(tp, hidden)
    with pytest.raises(OffsetOutOfRange):
        await log_reader.read(tp, 3)

    await producer.commit()

    async def opened() -> Record | None:
        try:
            return await log_reader.read(tp, 1)
        except NotReadableYet:
            return None

    assert (await eventually(opened, what="the record of the transaction")).value == b"open"
    with pytest.raises(OffsetOutOfRange):
        await log_reader.read(tp, 3)  # the marker


async def test_a_deleted_record_is_out_of_range(world: World, log_reader: LogReader) -> None:
    tp = TopicPartition(await world.topic(), 0)
    await world.write(tp.topic, b"gone", b"here")
    await world.delete_records(tp, 1)

    with pytest.raises(OffsetOutOfRange):
        await log_reader.read(tp, 0)
    assert (await log_reader.read(tp, 1)).value == b"here"
