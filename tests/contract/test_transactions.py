"""Transactions on both transports: atomicity, fencing, and what a read_committed reader sees."""

import uuid

import pytest

from regather.core.errors import Fenced, ProducerDead, RecordTooLarge, TransportError
from regather.testing.contract import World
from regather.testing.waiting import eventually
from regather.transport.base import TopicPartition


def new_id() -> str:
    return f"tx-{uuid.uuid4().hex[:10]}"


async def test_a_committed_transaction_is_visible(world: World) -> None:
    topic = await world.topic()
    producer = await world.transactional(new_id())
    await producer.begin()
    await producer.send(topic, value=b"a", partition=0)
    await producer.send(topic, value=b"b", partition=0)
    await producer.commit()
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 2)
    assert [record.value for record in records] == [b"a", b"b"]


async def test_an_open_transaction_is_hidden_until_it_commits(world: World) -> None:
    topic = await world.topic()
    producer = await world.transactional(new_id())
    reader = await world.reader(TopicPartition(topic, 0))
    await producer.begin()
    await (await producer.send(topic, value=b"a", partition=0))
    assert await world.quiet(reader)
    await producer.commit()
    assert [record.value for record in await world.read(reader, 1)] == [b"a"]


async def test_an_aborted_transaction_is_never_visible(world: World) -> None:
    topic, name = await world.topic(), new_id()
    producer = await world.transactional(name)
    await producer.begin()
    await (await producer.send(topic, value=b"no", partition=0))
    await world.transactional(name)  # its start aborts what the first has left open
    await world.write(topic, b"yes")
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert [record.value for record in records] == [b"yes"]


async def test_a_transaction_spans_partitions_and_topics(world: World) -> None:
    one, two = await world.topic(2), await world.topic()
    producer = await world.transactional(new_id())
    await producer.begin()
    for topic, partition in ((one, 0), (one, 1), (two, 0)):
        await producer.send(topic, value=topic.encode(), partition=partition)
    await producer.commit()
    reader = await world.reader(TopicPartition(one, 0), TopicPartition(one, 1), TopicPartition(two, 0))
    assert {(r.topic, r.partition) for r in await world.read(reader, 3)} == {(one, 0), (one, 1), (two, 0)}


async def test_transactions_follow_one_another(world: World) -> None:
    topic = await world.topic()
    producer = await world.transactional(new_id())
    for number in range(10):
        await producer.begin()
        await producer.send(topic, value=str(number).encode(), partition=0)
        await producer.commit()
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 10)
    assert [record.value for record in records] == [str(n).encode() for n in range(10)]


async def test_an_empty_transaction_commits(world: World) -> None:
    topic = await world.topic()
    producer = await world.transactional(new_id())
    await producer.begin()
    await producer.commit()
    await producer.begin()
    await producer.send(topic, value=b"x", partition=0)
    await producer.commit()
    assert len(await world.read(await world.reader(TopicPartition(topic, 0)), 1)) == 1


async def test_control_records_take_offsets_that_no_reader_sees(world: World) -> None:
    topic = await world.topic()
    producer = await world.transactional(new_id())
    for value in (b"a", b"b"):
        await producer.begin()
        await producer.send(topic, value=value, partition=0)
        await producer.commit()
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 2)
    assert [record.offset for record in records] == [0, 2]


@pytest.mark.parametrize("end", ["commit", "abort"])
async def test_a_position_steps_over_a_marker_at_the_end(world: World, end: str) -> None:
    topic, name = await world.topic(), new_id()
    tp = TopicPartition(topic, 0)
    producer = await world.transactional(name)
    await producer.begin()
    await (await producer.send(topic, value=b"a", partition=0))
    await (producer.commit() if end == "commit" else world.transactional(name))  # which aborts what is open
    reader = await world.reader(tp)

    async def at_the_end() -> bool:
        await reader.poll(0.05)
        return await reader.position(tp) == (await reader.end_offsets([tp]))[tp] == 2

    assert await eventually(at_the_end, what="the position behind the marker")


async def test_the_end_for_a_reader_is_before_an_open_transaction(world: World) -> None:
    topic = await world.topic()
    tp = TopicPartition(topic, 0)
    await world.write(topic, b"before")
    producer = await world.transactional(new_id())
    await producer.begin()
    await (await producer.send(topic, value=b"open", partition=0))
    await world.write(topic, b"after")
    reader = await world.reader(tp)
    assert await reader.end_offsets([tp]) == {tp: 1}
    assert await reader.written_offsets([tp]) == {tp: 3}
    assert [record.value for record in await world.read(reader, 1)] == [b"before"]
    assert await world.quiet(reader)
    await producer.commit()
    assert [record.value for record in await world.read(reader, 2)] == [b"open", b"after"]


async def test_a_failed_record_makes_the_commit_fail_and_nothing_visible(world: World) -> None:
    topic, name = await world.topic(max_record_bytes=100_000), new_id()
    producer = await world.transactional(name)
    await producer.begin()
    await producer.send(topic, value=b"fine", partition=0)
    await producer.send(topic, value=b"x" * 150_000, partition=0)
    with pytest.raises((RecordTooLarge, ProducerDead)):
        await producer.commit()
    assert producer.dead
    await producer.stop()
    await world.transactional(name)
    await world.write(topic, b"next")
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert [record.value for record in records] == [b"next"]


async def test_nothing_can_be_begun_after_a_failed_commit(world: World) -> None:
    topic = await world.topic(max_record_bytes=100_000)
    producer = await world.transactional(new_id())
    await producer.begin()
    await producer.send(topic, value=b"x" * 150_000, partition=0)
    with pytest.raises(TransportError):
        await producer.commit()
    with pytest.raises(ProducerDead):
        await producer.begin()


async def test_a_record_outside_a_transaction_is_refused(world: World) -> None:
    topic = await world.topic()
    producer = await world.transactional(new_id())
    with pytest.raises(ProducerDead):
        await producer.send(topic, value=b"x", partition=0)


async def test_a_second_begin_inside_a_transaction_is_refused(world: World) -> None:
    producer = await world.transactional(new_id())
    await producer.begin()
    with pytest.raises(ProducerDead):
        await producer.begin()
    assert producer.dead


async def test_a_newer_producer_fences_the_older_ones_records(world: World) -> None:
    topic, name = await world.topic(), new_id()
    old = await world.transactional(name)
    await old.begin()
    await (await old.send(topic, value=b"zombie", partition=0))
    new = await world.transactional(name)
    with pytest.raises((Fenced, ProducerDead)):
        await (await old.send(topic, value=b"zombie again", partition=0))
    assert old.dead
    await new.begin()
    await new.send(topic, value=b"heir", partition=0)
    await new.commit()
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert [record.value for record in records] == [b"heir"]


async def test_a_newer_producer_fences_the_older_ones_commit(world: World) -> None:
    topic, name = await world.topic(), new_id()
    old = await world.transactional(name)
    await old.begin()
    await (await old.send(topic, value=b"zombie", partition=0))
    await world.transactional(name)
    with pytest.raises(ProducerDead):
        await old.commit()
    await world.write(topic, b"after")
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert [record.value for record in records] == [b"after"]


async def test_a_newer_producer_ends_the_open_transaction_so_that_readers_go_on(world: World) -> None:
    topic, name = await world.topic(), new_id()
    tp = TopicPartition(topic, 0)
    old = await world.transactional(name)
    await old.begin()
    await (await old.send(topic, value=b"hanging", partition=0))
    await world.write(topic, b"behind")
    reader = await world.reader(tp)
    assert await world.quiet(reader)
    await world.transactional(name)
    assert [record.value for record in await world.read(reader, 1)] == [b"behind"]


async def test_producers_of_different_ids_do_not_fence_each_other(world: World) -> None:
    topic = await world.topic()
    one, two = await world.transactional(new_id()), await world.transactional(new_id())
    for producer in (one, two, one):
        await producer.begin()
        await producer.send(topic, value=b"x", partition=0)
        await producer.commit()
    assert len(await world.read(await world.reader(TopicPartition(topic, 0)), 3)) == 3


async def test_an_ack_inside_a_transaction_gives_the_offset(world: World) -> None:
    topic = await world.topic()
    producer = await world.transactional(new_id())
    await producer.begin()
    address = await (await producer.send(topic, value=b"a", partition=0))
    await producer.commit()
    (record,) = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert record.offset == address.offset
