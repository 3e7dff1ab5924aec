"""What both transports say of topics and brokers, and what may be done to topics, beside creating them."""

import pytest

from regather.core.errors import TransportError
from regather.testing.contract import RECORD_BYTES, World
from regather.testing.waiting import eventually
from regather.topics.rules import VERIFICATION
from regather.transport.base import TopicPartition


async def test_a_topic_has_its_partitions_brokers_and_settings(world: World) -> None:
    topic = await world.topic(3)
    states = await world.transport.topic_states([topic, "no-such-topic"])
    assert list(states) == [topic]
    state = states[topic]
    assert (state.partitions, state.replication) == (3, 1)
    assert state.config["message.timestamp.type"] == "LogAppendTime"
    assert state.config["max.message.bytes"] == str(RECORD_BYTES)


async def test_a_topic_that_grew_takes_records_in_its_new_partitions_and_keeps_the_old_ones(world: World) -> None:
    topic = await world.topic(1)
    await world.write(topic, b"old")
    await world.transport.grow_topic(topic, 3)

    async def grown() -> bool:
        return (await world.transport.partition_counts([topic]))[topic] == 3

    await eventually(grown, what="three partitions")
    await world.write(topic, b"new", partition=2)
    reader = await world.reader(TopicPartition(topic, 0), TopicPartition(topic, 2))
    assert sorted(record.value or b"" for record in await world.read(reader, 2)) == [b"new", b"old"]


@pytest.mark.parametrize("partitions", [1, 2])
async def test_a_topic_never_shrinks(world: World, partitions: int) -> None:
    topic = await world.topic(2)
    with pytest.raises(TransportError):
        await world.transport.grow_topic(topic, partitions)
    assert await world.transport.partition_counts([topic]) == {topic: 2}


async def test_every_broker_tells_the_settings_that_are_asked_for(world: World) -> None:
    settings = await world.transport.broker_settings([VERIFICATION, "no.such.setting"])
    assert settings
    assert all(told == {VERIFICATION: "true"} for told in settings.values())
