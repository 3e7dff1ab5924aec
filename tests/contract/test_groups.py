"""Groups on both transports: shares, rebalances, and commits of generations that are over."""

import uuid
from collections.abc import Sequence

import pytest

from regather.core.errors import CommitRejected, TransportError
from regather.testing.contract import World
from regather.testing.waiting import eventually
from regather.transport.base import Committed, TopicPartition


def new_group() -> str:
    return f"g-{uuid.uuid4().hex[:10]}"


async def test_a_lone_member_gets_everything_from_the_beginning(world: World) -> None:
    topic = await world.topic(3)
    for partition in range(3):
        await world.write(topic, str(partition).encode(), partition=partition)
    member = await world.member(new_group(), topic)
    await eventually(lambda: len(member.records) == 3, what="all records")
    assert member.owned == {TopicPartition(topic, n) for n in range(3)}
    assert member.assigned == [[TopicPartition(topic, n) for n in range(3)]]


async def test_two_members_share_the_partitions(world: World) -> None:
    topic, group = await world.topic(4), new_group()
    one, two = await world.member(group, topic), await world.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 2, what="an even share")
    assert not one.owned & two.owned


async def test_a_member_that_leaves_gives_its_share_back(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    one, two = await world.member(group, topic), await world.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 1, what="an even share")
    await two.leave()
    await eventually(lambda: len(one.owned) == 2, what="the whole share")


async def test_more_members_than_partitions_leave_some_without(world: World) -> None:
    topic, group = await world.topic(1), new_group()
    members = [await world.member(group, topic) for _ in range(2)]
    await eventually(
        lambda: sorted(len(member.owned) for member in members) == [0, 1] and all(m.assigned for m in members),
        what="one owner",
    )


async def test_a_rebalance_revokes_everything_and_assigns_anew(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    one = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == 2, what="the whole share")
    two = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 1, what="an even share")
    assert one.revoked[-1] == [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    assert len(one.assigned[-1]) == 1


async def test_a_member_that_takes_part_in_every_rebalance_sees_every_generation(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    one = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == 2, what="the whole share")
    two = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 1, what="an even share")
    await two.leave()
    await eventually(lambda: len(one.owned) == 2, what="the whole share again")
    assert two.generations[-1] in one.generations
    first = one.generations[0]
    assert first is not None
    assert one.generations == list(range(first, first + len(one.generations)))


async def test_a_reader_without_a_group_has_no_generation(world: World) -> None:
    consumer = world.transport.consumer()
    await consumer.start()
    try:
        consumer.assign([TopicPartition(await world.topic(), 0)])
        assert consumer.generation is None
    finally:
        await consumer.stop()


async def test_one_member_may_follow_several_topics(world: World) -> None:
    first, second = await world.topic(1), await world.topic(2)
    member = await world.member(new_group(), first, second)
    await eventually(lambda: len(member.owned) == 3, what="partitions of both topics")


async def test_groups_are_independent(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"a", b"b")
    one, two = await world.member(new_group(), topic), await world.member(new_group(), topic)
    await eventually(lambda: one.values() == two.values() == [b"a", b"b"], what="both groups' records")


async def test_a_committed_offset_and_its_metadata_come_back(world: World) -> None:
    topic, group = await world.topic(), new_group()
    tp = TopicPartition(topic, 0)
    member = await world.member(group, topic)
    await eventually(lambda: member.owned, what="the assignment")
    assert await member.consumer.committed([tp]) == {tp: None}
    await member.consumer.commit({tp: Committed(5, "bitmap=/+==")})
    assert await member.consumer.committed([tp]) == {tp: Committed(5, "bitmap=/+==")}


async def test_metadata_of_three_and_a_half_kilobytes_is_kept(world: World) -> None:
    topic, group = await world.topic(), new_group()
    tp = TopicPartition(topic, 0)
    member = await world.member(group, topic)
    await eventually(lambda: member.owned, what="the assignment")
    await member.consumer.commit({tp: Committed(1, "x" * 3500)})
    assert await member.consumer.committed([tp]) == {tp: Committed(1, "x" * 3500)}


async def test_the_next_member_begins_at_the_committed_offset(world: World) -> None:
    topic, group = await world.topic(), new_group()
    await world.write(topic, *[str(n).encode() for n in range(5)])
    one = await world.member(group, topic)
    await eventually(lambda: len(one.records) == 5, what="all records")
    await one.consumer.commit({TopicPartition(topic, 0): Committed(3, "")})
    await one.leave()
    two = await world.member(group, topic)
    await eventually(lambda: two.values() == [b"3", b"4"], what="the uncommitted records")


async def test_a_commit_may_move_back(world: World) -> None:
    topic, group = await world.topic(), new_group()
    tp = TopicPartition(topic, 0)
    member = await world.member(group, topic)
    await eventually(lambda: member.owned, what="the assignment")
    await member.consumer.commit({tp: Committed(5, "")})
    await member.consumer.commit({tp: Committed(2, "")})
    assert await member.consumer.committed([tp]) == {tp: Committed(2, "")}


async def test_a_commit_inside_the_revocation_is_taken(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    tp = TopicPartition(topic, 0)
    one = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == 2, what="the whole share")
    one.commit_on_revoke = {tp: Committed(7, "on the way out")}
    two = await world.member(group, topic)
    await eventually(lambda: len(two.owned) == 1, what="the newcomer's share")
    assert await two.consumer.committed([tp]) == {tp: Committed(7, "on the way out")}


async def test_a_commit_of_a_partition_that_was_taken_away_is_rejected(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    one = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == 2, what="the whole share")
    two = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 1, what="an even share")
    (lost,) = two.owned
    with pytest.raises(CommitRejected):
        await one.consumer.commit({lost: Committed(1, "")})
    assert await two.consumer.committed([lost]) == {lost: None}


async def test_a_commit_of_a_partition_of_another_topic_is_rejected(world: World) -> None:
    topic, other = await world.topic(), await world.topic()
    member = await world.member(new_group(), topic)
    await eventually(lambda: member.owned, what="the assignment")
    with pytest.raises(CommitRejected):
        await member.consumer.commit({TopicPartition(other, 0): Committed(1, "")})


async def test_records_that_were_read_and_not_committed_come_again_after_a_rebalance(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    for partition in range(2):
        await world.write(topic, b"%d-0" % partition, b"%d-1" % partition, partition=partition)
    one = await world.member(group, topic)
    await eventually(lambda: len(one.records) == 4, what="all records")
    await one.consumer.commit({TopicPartition(topic, 0): Committed(1, ""), TopicPartition(topic, 1): Committed(1, "")})
    two = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 1, what="an even share")
    (tp,) = two.owned
    await eventually(lambda: two.values() == [b"%d-1" % tp.partition], what="the undone record")


async def test_a_pause_does_not_survive_a_rebalance(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    one = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == 2, what="the whole share")
    one.consumer.pause(one.owned)
    two = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 1, what="an even share")
    (kept,) = one.owned
    await world.write(topic, b"x", partition=kept.partition)
    await eventually(lambda: one.values() == [b"x"], what="the record of the partition that was paused")


async def test_a_partition_paused_at_its_assignment_delivers_only_after_a_resume(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    one = await world.member(group, topic)
    one.pause_when_assigned = True
    two = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 1, what="an even share")
    (kept,) = one.owned
    one.records.clear()
    one.consumer.seek(kept, 0)
    await world.write(topic, b"x", partition=kept.partition)
    await world.write(topic, b"y", partition=1 - kept.partition)
    await eventually(lambda: two.values() == [b"y"], what="the other member's record")
    assert one.values() == []
    one.consumer.resume([kept])
    await eventually(lambda: one.values() == [b"x"], what="the record after the resume")


async def test_everything_paused_still_takes_part_in_rebalances(world: World) -> None:
    topic, group = await world.topic(2), new_group()
    one = await world.member(group, topic)
    await eventually(lambda: len(one.owned) == 2, what="the whole share")
    one.consumer.pause(one.owned)
    two = await world.member(group, topic)
    await eventually(lambda: len(two.owned) == 1, what="the newcomer's share")


async def test_an_error_in_the_listener_comes_out_of_the_next_poll(world: World) -> None:
    topic = await world.topic()

    class Broken:
        async def on_assigned(self, partitions: object) -> None:
            raise RuntimeError("the listener is broken")

        async def on_revoked(self, partitions: object) -> None:
            return

    consumer = world.transport.consumer(group=new_group())
    await consumer.start()
    try:
        consumer.subscribe([topic], Broken())

        async def polled() -> None:
            for _ in range(200):
                await consumer.poll(0.05)

        with pytest.raises(TransportError, match="listener"):
            await polled()
    finally:
        await consumer.stop()


async def test_a_seek_inside_the_assignment_decides_where_reading_begins(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"a", b"b", b"c")

    class Seeker:
        async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
            for tp in partitions:
                consumer.seek(tp, 2)

        async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
            return

    consumer = world.transport.consumer(group=new_group())
    await consumer.start()
    try:
        consumer.subscribe([topic], Seeker())
        assert [record.value for record in await world.read(consumer, 1)] == [b"c"]
    finally:
        await consumer.stop()
