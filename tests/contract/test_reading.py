"""Readers without a group on both transports: positions, pauses, ends, times, and records that are gone."""

import asyncio

import pytest

from regather.core.errors import BrokerUnavailable, OffsetOutOfRange
from regather.testing.contract import World
from regather.testing.waiting import eventually
from regather.transport.base import TopicPartition


async def test_a_seek_goes_anywhere(world: World) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, *[str(n).encode() for n in range(10)])
    reader = await world.reader(tp)
    reader.seek(tp, 7)
    assert [record.value for record in await world.read(reader, 3)] == [b"7", b"8", b"9"]
    reader.seek(tp, 2)
    assert (await world.read(reader, 8))[0].value == b"2"


async def test_a_seek_after_a_poll_drops_what_was_prefetched(world: World) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, *[str(n).encode() for n in range(10)])
    reader = await world.reader(tp)
    await world.read(reader, 1, max_records=1)
    reader.seek(tp, 9)
    assert [record.value for record in await world.read(reader, 1)] == [b"9"]


async def test_a_reader_starts_at_the_earliest_record_by_itself(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"a", b"b")
    reader = await world.reader()
    reader.assign([TopicPartition(topic, 0)])
    assert [record.value for record in await world.read(reader, 2)] == [b"a", b"b"]


async def test_every_partition_of_a_reader_has_a_position_after_one_poll(world: World) -> None:
    topic = await world.topic(partitions=4)
    tps = [TopicPartition(topic, number) for number in range(4)]
    reader = await world.reader()
    reader.assign(tps)
    await reader.poll(0.05)
    async with asyncio.timeout(5):
        assert [await reader.position(tp) for tp in tps] == [0, 0, 0, 0]


async def test_a_position_is_the_next_offset(world: World) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, b"a", b"b", b"c")
    reader = await world.reader(tp)
    assert await reader.position(tp) == 0
    await world.read(reader, 3)
    assert await reader.position(tp) == 3


async def test_max_records_bounds_a_poll_and_loses_nothing(world: World) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, *[str(n).encode() for n in range(25)])
    reader = await world.reader(tp)
    sizes: list[int] = []
    values: list[bytes | None] = []

    async def all_read() -> bool:
        for records in (await reader.poll(0.05, max_records=10)).values():
            sizes.append(len(records))
            values.extend(record.value for record in records)
        return len(values) >= 25

    await eventually(all_read, what="25 records")
    assert max(sizes) <= 10
    assert values == [str(n).encode() for n in range(25)]


async def test_a_poll_without_records_returns_within_its_time(world: World) -> None:
    topic = await world.topic()
    reader = await world.reader(TopicPartition(topic, 0))
    assert await reader.poll(0.05) == {}


async def test_a_poll_wakes_up_for_a_record(world: World) -> None:
    topic = await world.topic()
    reader = await world.reader(TopicPartition(topic, 0))
    assert await world.quiet(reader)
    await world.write(topic, b"late")
    assert [record.value for record in await world.read(reader, 1)] == [b"late"]


async def test_a_paused_partition_delivers_nothing_until_it_is_resumed(world: World) -> None:
    topic = await world.topic(2)
    paused, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    reader = await world.reader(paused, other)
    reader.pause([paused])
    await world.write(topic, b"held", partition=0)
    await world.write(topic, b"free", partition=1)
    assert [record.value for record in await world.read(reader, 1)] == [b"free"]
    assert await world.quiet(reader)
    reader.resume([paused])
    assert [record.value for record in await world.read(reader, 1)] == [b"held"]


async def test_a_pause_in_the_middle_loses_nothing(world: World) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, *[str(n).encode() for n in range(10)])
    reader = await world.reader(tp)
    first = await world.read(reader, 4, max_records=4)
    reader.pause([tp])
    assert await world.quiet(reader)
    reader.resume([tp])
    rest = await world.read(reader, 6)
    assert [record.value for record in first + rest] == [str(n).encode() for n in range(10)]


async def test_a_seek_while_paused_counts(world: World) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, b"a", b"b", b"c")
    reader = await world.reader(tp)
    reader.pause([tp])
    reader.seek(tp, 2)
    reader.resume([tp])
    assert [record.value for record in await world.read(reader, 1)] == [b"c"]


async def test_a_new_assignment_keeps_the_positions_of_partitions_kept(world: World) -> None:
    topic = await world.topic(2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await world.write(topic, b"a", b"b", partition=0)
    reader = await world.reader(zero)
    await world.read(reader, 2)
    await world.write(topic, b"c", partition=0)
    await world.write(topic, b"d", partition=1)
    reader.assign([zero, one])
    reader.seek(one, 0)
    assert {record.value for record in await world.read(reader, 2)} == {b"c", b"d"}
    assert await world.quiet(reader)


async def test_a_partition_taken_out_of_the_assignment_is_not_read(world: World) -> None:
    topic = await world.topic(2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    reader = await world.reader(zero, one)
    reader.assign([one])
    await world.write(topic, b"no", partition=0)
    await world.write(topic, b"yes", partition=1)
    assert [record.value for record in await world.read(reader, 1)] == [b"yes"]


async def test_ends_and_beginnings_of_an_empty_partition_are_zero(world: World) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    reader = await world.reader(tp)
    assert await reader.end_offsets([tp]) == {tp: 0}
    assert await reader.beginning_offsets([tp]) == {tp: 0}


async def test_the_end_is_behind_the_last_record(world: World) -> None:
    topic = await world.topic(2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await world.write(topic, b"a", b"b", partition=1)
    reader = await world.reader(zero)
    assert await reader.end_offsets([zero, one]) == {zero: 0, one: 2}


@pytest.mark.parametrize("before", [4, 7, 10])
async def test_truncation_moves_the_beginning_and_leaves_every_offset_as_it_was(world: World, before: int) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, *[str(n).encode() for n in range(10)])
    await world.delete_records(tp, before)
    reader = await world.reader(tp)
    assert await reader.beginning_offsets([tp]) == {tp: before}
    assert await reader.end_offsets([tp]) == {tp: 10}
    await world.write(topic, b"10")
    reader.seek(tp, before)
    assert [(record.offset, record.value) for record in await world.read(reader, 11 - before)] == [
        (n, str(n).encode()) for n in range(before, 11)
    ]


@pytest.mark.parametrize("offset", [0, 99], ids=["truncated", "beyond the end"])
async def test_a_position_outside_the_log_is_an_error_and_not_a_silent_jump(world: World, offset: int) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, *[b"x"] * 10)
    await world.delete_records(tp, 4)
    reader = await world.reader(tp)
    reader.seek(tp, offset)

    async def polled() -> None:
        for _ in range(100):
            await reader.poll(0.05)

    with pytest.raises(OffsetOutOfRange):
        await polled()


async def test_an_error_in_one_partition_loses_no_record_of_another(world: World) -> None:
    topic = await world.topic(2)
    good, bad = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await world.write(topic, *[str(n).encode() for n in range(5)], partition=0)
    await world.write(topic, b"gone", b"here", partition=1)
    await world.delete_records(bad, 1)
    reader = await world.reader(good, bad)
    values: list[bytes | None] = []
    errors = 0

    async def everything() -> bool:
        nonlocal errors
        try:
            for records in (await reader.poll(0.05)).values():
                values.extend(record.value for record in records)
        except OffsetOutOfRange:
            errors += 1
            reader.seek(bad, 1)
        return len(values) >= 6

    await eventually(everything, what="six records")
    assert errors >= 1
    assert sorted(values, key=str) == sorted([b"0", b"1", b"2", b"3", b"4", b"here"], key=str)


async def test_a_stopped_reader_cannot_be_used(world: World) -> None:
    topic = await world.topic()
    reader = await world.reader(TopicPartition(topic, 0))
    await reader.stop()
    await reader.stop()
    with pytest.raises(BrokerUnavailable):
        await reader.poll(0.05)
