"""Batches that other programs write: the readers of a partition come past them, and lose no record beside them."""

import asyncio

import pytest
from raw_batches import CODECS, write_batch

from regather.testing.contract import World
from regather.testing.waiting import eventually
from regather.transport.base import Record, TopicPartition
from regather.transport.kafka import KafkaTransport

pytestmark = pytest.mark.kafka


async def deletes_nothing(_tp: TopicPartition, _before: int) -> None: ...


ODD = [(b"\xff\xfe", b"x")]


async def read_all(world: World, *tps: TopicPartition, count: int) -> list[Record]:
    reader = await world.reader(*tps)
    found: list[Record] = []

    async def enough() -> bool:
        for records in (await reader.poll(0.2)).values():
            found.extend(records)
        return len(found) >= count

    await eventually(enough, timeout_s=20, what=f"{count} records")
    return found


async def test_a_header_name_that_is_no_text_costs_its_record_only(kafka_bootstrap: str) -> None:
    world = World(KafkaTransport(kafka_bootstrap, client_id="odd"), deletes_nothing)
    try:
        topic = await world.topic(2)
        odd, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await world.write(topic, b"a", b"b", partition=0)
        await write_batch(kafka_bootstrap, odd, [b"odd", b"odder"], headers=ODD)
        await world.write(topic, b"c", partition=0)
        await write_batch(kafka_bootstrap, odd, [b"oddest"], headers=ODD)
        await world.write(topic, b"d", b"e", partition=1)
        found = await read_all(world, odd, other, count=8)
        assert [(r.offset, r.value) for r in found if r.partition == 0] == [
            (0, b"a"), (1, b"b"), (2, None), (3, None), (4, b"c"), (5, None),
        ]  # fmt: skip
        assert [r.value for r in found if r.partition == 1] == [b"d", b"e"]
        marks = {dict(record.headers)["unreadable"] for record in found if record.value is None}
        assert marks == {b"the name of a header is no UTF-8: b'\\xff\\xfe'"}
    finally:
        await world.stop()


@pytest.mark.parametrize("seek_to", [0, 1, 2, 3, 4])
async def test_a_seek_while_it_is_passed_counts(kafka_bootstrap: str, seek_to: int) -> None:
    world = World(KafkaTransport(kafka_bootstrap, client_id="odd"), deletes_nothing)
    try:
        tp = TopicPartition(await world.topic(), 0)
        await world.write(tp.topic, b"a", b"b")
        await write_batch(kafka_bootstrap, tp, [b"odd"], headers=ODD)
        await world.write(tp.topic, b"c")
        reader = await world.reader(tp)
        while not await reader.poll(0.2):
            assert await reader.position(tp) == 0
        reader.seek(tp, seek_to)
        found: list[Record] = []
        async with asyncio.timeout(30):
            while len(found) < 4 - seek_to:
                assert await reader.position(tp) == seek_to + len(found)
                found += [record for records in (await reader.poll(0.2)).values() for record in records]
        assert [(r.offset, r.value) for r in found] == [(0, b"a"), (1, b"b"), (2, None), (3, b"c")][seek_to:]
    finally:
        await world.stop()


@pytest.mark.parametrize("codec", CODECS)
async def test_a_batch_is_read_whatever_codec_wrote_it(kafka_bootstrap: str, codec: str) -> None:
    world = World(KafkaTransport(kafka_bootstrap, client_id="codecs"), deletes_nothing)
    try:
        tp = TopicPartition(await world.topic(), 0)
        values = [b"%d" % n * 100 for n in range(50)]
        await write_batch(kafka_bootstrap, tp, values, headers=[(b"name", b"x")], codec=codec)
        found = await read_all(world, tp, count=50)
        assert [record.value for record in found] == values
    finally:
        await world.stop()
