"""Producers on both transports: order, placement, sizes, and death."""

import socket

import pytest

from regather.core.errors import BrokerUnavailable, ProducerDead, RecordTooLarge, TransportError
from regather.testing.contract import World
from regather.topics.rules import TopicSpec
from regather.transport.base import TopicPartition
from regather.transport.kafka import KafkaTransport


async def test_records_of_a_partition_keep_their_order(world: World) -> None:
    topic = await world.topic()
    values = [str(n).encode() for n in range(200)]
    await world.write(topic, *values)
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 200)
    assert [record.value for record in records] == values


async def test_offsets_are_without_gaps(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"a", b"b", b"c")
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 3)
    assert [record.offset for record in records] == [0, 1, 2]


async def test_an_ack_says_where_the_record_stands(world: World) -> None:
    topic = await world.topic(3)
    producer = await world.producer()
    first = await (await producer.send(topic, value=b"x", partition=2))
    second = await (await producer.send(topic, value=b"y", partition=2))
    assert (first.topic, first.partition, first.offset) == (topic, 2, 0)
    assert second.offset == 1


async def test_an_ack_and_the_record_carry_the_brokers_append_time(world: World) -> None:
    topic = await world.topic()
    producer = await world.producer()
    address = await (await producer.send(topic, value=b"x", partition=0))
    (record,) = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert record.timestamp_ms == address.timestamp_ms > 1_600_000_000_000


async def test_append_times_never_go_back(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, *[b"x"] * 50)
    times = [record.timestamp_ms for record in await world.read(await world.reader(TopicPartition(topic, 0)), 50)]
    assert times == sorted(times)


async def test_key_and_headers_come_back_as_they_were(world: World) -> None:
    topic = await world.topic()
    producer = await world.producer()
    headers = [("one", b"1"), ("umlaut-ü", bytes(range(256))), ("empty", b""), ("one", b"again")]
    await (await producer.send(topic, value=b"v", key=b"\x00key", headers=headers, partition=0))
    (record,) = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert record.key == b"\x00key"
    assert list(record.headers) == headers


async def test_a_record_without_key_and_headers_has_none(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"v")
    (record,) = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert (record.key, list(record.headers)) == (None, [])


@pytest.mark.parametrize("value", [b"", None], ids=["empty", "tombstone"])
async def test_an_empty_value_is_not_a_tombstone(world: World, value: bytes | None) -> None:
    topic = await world.topic()
    producer = await world.producer()
    await (await producer.send(topic, value=value, key=b"k", partition=0))
    (record,) = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert record.value == value


async def test_the_same_key_always_goes_to_the_same_partition(world: World) -> None:
    topic = await world.topic(4)
    producer = await world.producer()
    addresses = [await (await producer.send(topic, value=b"v", key=b"job-1")) for _ in range(5)]
    assert len({address.partition for address in addresses}) == 1


async def test_records_without_key_and_partition_are_all_delivered(world: World) -> None:
    topic = await world.topic(4)
    producer = await world.producer()
    for acked in [await producer.send(topic, value=str(n).encode()) for n in range(40)]:
        await acked
    reader = await world.reader(*(TopicPartition(topic, n) for n in range(4)))
    assert {record.value for record in await world.read(reader, 40)} == {str(n).encode() for n in range(40)}


async def test_a_named_partition_is_used(world: World) -> None:
    topic = await world.topic(4)
    await world.write(topic, b"v", partition=3)
    (record,) = await world.read(await world.reader(*(TopicPartition(topic, n) for n in range(4))), 1)
    assert record.partition == 3


async def test_a_record_just_below_the_topics_limit_is_taken(world: World) -> None:
    topic = await world.topic(max_record_bytes=100_000)
    await world.write(topic, b"x" * 99_000)
    (record,) = await world.read(await world.reader(TopicPartition(topic, 0)), 1)
    assert record.value == b"x" * 99_000


async def test_a_record_of_ten_mebibytes_is_delivered(world: World) -> None:
    size = 10 * 1024 * 1024
    topic = await world.topic(max_record_bytes=size + 1024 * 1024)
    producer = await world.producer(max_record_bytes=size)
    await (await producer.send(topic, value=b"x" * size, partition=0))
    await (await producer.send(topic, value=b"after", partition=0))
    records = await world.read(await world.reader(TopicPartition(topic, 0)), 2)
    assert [len(record.value or b"") for record in records] == [size, 5]


async def test_a_record_above_the_topics_limit_fails_its_ack_and_the_producer(world: World) -> None:
    topic = await world.topic(max_record_bytes=100_000)
    producer = await world.producer()
    acked = await producer.send(topic, value=b"x" * 150_000, partition=0)
    with pytest.raises(RecordTooLarge):
        await acked
    assert producer.dead
    with pytest.raises(ProducerDead):
        await producer.send(topic, value=b"small", partition=0)


async def test_a_record_above_the_clients_limit_is_refused_and_the_producer_dead(world: World) -> None:
    topic = await world.topic()
    producer = await world.producer()
    with pytest.raises(RecordTooLarge):
        await producer.send(topic, value=b"x" * 300_000, partition=0)
    assert producer.dead


async def test_a_stopped_producer_sends_nothing(world: World) -> None:
    topic = await world.topic()
    producer = await world.producer()
    await producer.stop()
    with pytest.raises(ProducerDead):
        await producer.send(topic, value=b"x", partition=0)


async def test_stopping_a_producer_twice_is_harmless(world: World) -> None:
    producer = await world.producer()
    await producer.stop()
    await producer.stop()
    assert producer.dead


async def test_a_living_producer_is_not_dead(world: World) -> None:
    topic = await world.topic()
    producer = await world.producer()
    await (await producer.send(topic, value=b"x", partition=0))
    assert not producer.dead


async def test_an_ack_may_be_awaited_late_and_in_any_order(world: World) -> None:
    topic = await world.topic()
    producer = await world.producer()
    acks = [await producer.send(topic, value=str(n).encode(), partition=0) for n in range(20)]
    offsets = [(await acked).offset for acked in reversed(acks)]
    assert offsets == list(range(19, -1, -1))


async def test_many_records_are_in_flight_at_once(world: World) -> None:
    topic = await world.topic(2, max_record_bytes=1024 * 1024)
    producer = await world.producer()
    acks = [await producer.send(topic, value=b"x" * 1024, partition=n % 2) for n in range(4000)]
    addresses = [await acked for acked in acks]
    assert [max(a.offset for a in addresses if a.partition == n) for n in (0, 1)] == [1999, 1999]


async def test_topics_are_created_once(world: World) -> None:
    topic = await world.topic(3)
    spec = TopicSpec(topic, 3, 100_000, {})
    assert await world.transport.create_topics([spec]) == []
    assert await world.transport.partition_counts([topic]) == {topic: 3}


async def test_a_topic_that_is_missing_has_no_partition_count(world: World) -> None:
    assert await world.transport.partition_counts(["no-such-topic"]) == {}


async def test_no_broker_is_an_error_and_not_a_wait(world: World, transport_name: str, memory_broker: object) -> None:
    transport = world.transport
    if transport_name == "kafka":
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            transport = KafkaTransport(f"127.0.0.1:{closed.getsockname()[1]}", client_id="nobody")
    else:
        memory_broker.faults.unavailable = True  # type: ignore[attr-defined] # the fixture's own type is above
    for client in (transport.producer(max_record_bytes=1000), transport.consumer()):
        with pytest.raises(BrokerUnavailable):
            await client.start()
        await client.stop()
    with pytest.raises(TransportError):
        await transport.partition_counts(["any"])
