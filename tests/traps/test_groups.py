"""Traps 8, 10, 11, 13, 15: what a rebalance does to members, their commits and their clocks."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRebalanceListener
from aiokafka import TopicPartition as ClientPartition
from aiokafka.admin import AIOKafkaAdminClient

from regather.core.errors import BrokerUnavailable, CommitRejected
from regather.embedded.embedded_kafka import EmbeddedKafka
from regather.testing.contract import Member, World
from regather.testing.fault_proxy import FaultProxy, Rule
from regather.testing.waiting import eventually
from regather.transport.base import Committed, Consumer, TopicPartition, Transport
from regather.transport.kafka import Limits
from regather_worker.ownership import Ownership

pytestmark = pytest.mark.kafka
HELD_S = 3.5
"""Longer than a session, which lasts two seconds."""

MakeTransport = Callable[..., Transport]


class RawListener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Waits in on_partitions_assigned, and commits in on_partitions_revoked, as it is told to."""

    def __init__(self) -> None:
        self.assigned = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.consumer: Any = None
        self.commit_on_revoke: dict[ClientPartition, int] = {}
        self.revoked = 0

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.assigned.set()
        await self.go_on.wait()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        if self.commit_on_revoke:
            await self.consumer.commit(self.commit_on_revoke)
        self.revoked += 1


async def test_trap_8_a_member_whose_callback_takes_long_sends_no_heartbeat_and_is_thrown_out(
    direct: World, raw: Any, fault_proxy: FaultProxy, names: Iterator[str]
) -> None:
    topic, group = await direct.topic(), next(names)
    listener = RawListener()
    listener.go_on.clear()
    consumer = await raw.consumer(proxied=True, group_id=group, rebalance_timeout_ms=60_000)
    consumer.subscribe([topic], listener=listener)
    await listener.assigned.wait()
    heir = await direct.member(group, topic)
    await eventually(lambda: heir.owned, timeout_s=10, what="the heir's share while the callback still runs")
    assert fault_proxy.passed("Heartbeat", "request").frames == 0
    listener.go_on.set()


async def test_trap_8_an_aggregator_that_restores_for_longer_than_its_session_stays_in_its_group(
    installation: Any, proxied_transport: MakeTransport, fault_proxy: FaultProxy
) -> None:
    slow = fault_proxy.arm(Rule("InitProducerId", "request", "hold", hold_s=HELD_S, count=1))
    aggregator = await installation.aggregator(proxied_transport("slow", Limits()))
    await eventually(lambda: aggregator.not_ready_because is None, what="a ready aggregator")
    assert slow.fired == 1
    await stays(fault_proxy)
    await installation.job(1)
    await installation.ended(1)


async def test_trap_8_nor_does_a_worker_lose_its_place_while_it_finds_out_where_it_begins(
    installation: Any, proxied_transport: MakeTransport, fault_proxy: FaultProxy
) -> None:
    joining = fault_proxy.arm(Rule("JoinGroup", "request", "hold"))
    worker = await installation.worker(proxied_transport("slow", Limits()))
    await eventually(lambda: joining.fired, what="a worker that joins")
    slow = fault_proxy.arm(Rule("ListOffsets", "request", "hold", hold_s=HELD_S, count=1))
    joining.release()
    await eventually(lambda: worker.not_ready_because is None, what="a ready worker")
    assert slow.fired == 1
    await stays(fault_proxy)


async def stays(proxy: FaultProxy) -> None:
    """The broker knows the proxy's one member of a group still under its first generation."""
    heartbeats = proxy.passed("Heartbeat", "reply").frames
    await eventually(lambda: proxy.passed("Heartbeat", "reply").frames > heartbeats + 1, what="two more heartbeats")
    assert proxy.passed("SyncGroup", "request").frames == 1, "it was thrown out and joined anew"


class SlowToLeave(Member):
    """Asks something that takes long before it commits and lets go."""

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            await self.consumer.end_offsets(partitions)
        await super().on_revoked(partitions)


async def test_trap_10_a_member_may_take_longer_than_its_session_to_let_go_and_its_commit_counts(
    direct: World, through: World, proxied_transport: MakeTransport, fault_proxy: FaultProxy, names: Iterator[str]
) -> None:
    topic, group = await direct.topic(2), next(names)
    tp = TopicPartition(topic, 0)
    one = await through.adopt(SlowToLeave(proxied_transport("slow", Limits()).consumer(group=group), [topic]))
    await eventually(lambda: len(one.owned) == 2, what="the whole share")
    one.commit_on_revoke = {tp: Committed(7, "on the way out")}
    slow = fault_proxy.arm(Rule("ListOffsets", "request", "hold", hold_s=HELD_S, count=1))
    two = await direct.member(group, topic)
    await eventually(lambda: len(one.owned) == len(two.owned) == 1, what="an even share")
    assert slow.fired == 1
    assert await two.consumer.committed([tp]) == {tp: Committed(7, "on the way out")}
    assert fault_proxy.passed("SyncGroup", "request").frames == 2, "it was thrown out in between"


async def test_trap_11_a_groups_partitions_are_dealt_round_robin_under_the_classic_protocol(
    direct: World, kafka: EmbeddedKafka, names: Iterator[str]
) -> None:
    topic, group = await direct.topic(3), next(names)
    members = [await direct.member(group, topic) for _ in range(3)]
    await eventually(lambda: [len(member.owned) for member in members] == [1, 1, 1], what="an even share")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        ((_error, _group, _state, protocol_type, protocol, *_rest),) = answer.groups
    finally:
        await admin.close()
    assert (protocol_type, protocol) == ("consumer", "roundrobin")


async def test_trap_11_a_partition_that_is_being_restored_delivers_nothing_however_often_it_is_assigned(
    installation: Any, direct: World, proxied_transport: MakeTransport, fault_proxy: FaultProxy, watch: Any
) -> None:
    await installation.job(1)
    fence = fault_proxy.arm(Rule("InitProducerId", "request", "hold"))
    watched = watch(proxied_transport("watched", Limits()))
    aggregator = await installation.aggregator(watched)

    async def nothing_comes() -> None:
        polls = watched.polls
        await eventually(lambda: watched.polls > polls + 3, what="polls")
        assert watched.delivered == []

    await eventually(lambda: fence.fired, what="the fence")
    await nothing_comes()
    guest = await direct.member(installation.topics.group("aggregators"), installation.topics.job_events)
    await eventually(lambda: guest.assigned, what="a rebalance")
    await guest.leave()
    await eventually(lambda: aggregator.events.owners, what="the partition's return")
    await nothing_comes()
    fence.release()
    await installation.ended(1)


async def thrown_out(
    member_of: World, heirs: World, group: str, topic: str, proxy: FaultProxy, take_over: Callable[[Member], Any]
) -> None:
    """Silence a member until an heir had its partition, has committed and has left; then let it find out."""
    silence = proxy.arm(Rule("Heartbeat", "request", "hold"))
    heir = await heirs.member(group, topic)
    await eventually(lambda: heir.owned, timeout_s=10, what="the heir's share")
    await take_over(heir)
    await heir.leave()
    silence.release()


async def test_trap_13_the_broker_takes_a_commit_of_a_member_that_was_thrown_out_and_offsets_go_back(
    direct: World, raw: Any, fault_proxy: FaultProxy, names: Iterator[str]
) -> None:
    topic, group = await direct.topic(), next(names)
    tp = TopicPartition(topic, 0)
    listener = RawListener()
    listener.consumer = await raw.consumer(proxied=True, group_id=group, rebalance_timeout_ms=60_000)
    listener.consumer.subscribe([topic], listener=listener)
    await listener.assigned.wait()
    before, listener.commit_on_revoke = listener.revoked, {ClientPartition(topic, 0): 1}
    await thrown_out(
        direct, direct, group, topic, fault_proxy, lambda heir: heir.consumer.commit({tp: Committed(5, "")})
    )
    await eventually(lambda: listener.revoked > before, timeout_s=10, what="the revocation")
    assert (await listener.consumer.committed(ClientPartition(*tp))) == 1


async def test_trap_13_a_commit_of_a_generation_that_is_over_is_refused(
    direct: World, through: World, proxied_transport: MakeTransport, fault_proxy: FaultProxy, names: Iterator[str]
) -> None:
    topic, group = await direct.topic(), next(names)
    tp = TopicPartition(topic, 0)
    refused: list[BaseException] = []

    class Zombie(Member):
        async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
            if tp in partitions:
                try:
                    await self.consumer.commit({tp: Committed(1, "")})
                except CommitRejected as error:
                    refused.append(error)
            await super().on_revoked(partitions)

    zombie = await through.adopt(Zombie(proxied_transport("zombie", Limits()).consumer(group=group), [topic]))
    await eventually(lambda: zombie.owned, what="the share")
    await thrown_out(
        direct, direct, group, topic, fault_proxy, lambda heir: heir.consumer.commit({tp: Committed(5, "")})
    )
    await eventually(lambda: zombie.revoked[1:], timeout_s=10, what="the revocation")
    assert len(refused) == 1
    assert await zombie.consumer.committed([tp]) == {tp: Committed(5, "")}


class Bookkeeper(Member):
    """A member that keeps book as the worker does."""

    def __init__(self, consumer: Consumer, topics: Sequence[str]) -> None:
        super().__init__(consumer, topics)
        self.book = Ownership("tester")
        self.book.use(consumer)

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        await super().on_assigned(partitions)
        self.book.assign(partitions)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        await super().on_revoked(partitions)
        self.book.revoke(partitions)


async def test_trap_13_what_is_settled_late_moves_no_offset_of_a_later_assignment(
    direct: World, names: Iterator[str]
) -> None:
    topic, group = await direct.topic(), next(names)
    tp = TopicPartition(topic, 0)
    await direct.write(topic, b"a", b"b", b"c")
    keeper = await direct.adopt(Bookkeeper(direct.transport.consumer(group=group), [topic]))
    book = keeper.book
    first = await eventually(lambda: book.owned.get(tp), what="the first assignment")
    for offset in range(3):
        first.watermark.deliver(offset)
    guest = await direct.member(group, topic)
    await eventually(lambda: guest.assigned, what="a rebalance")
    await guest.leave()
    await eventually(lambda: keeper.owned and book.owned.get(tp), what="the second assignment")
    for offset in range(3):
        first.watermark.ack(offset)
    await book.commit()
    found = (await keeper.consumer.committed([tp]))[tp]
    assert found is not None
    assert found.offset == 0


async def test_trap_15_a_poll_of_the_client_outlasts_its_time_out_while_a_rebalance_is_under_way(
    direct: World, raw: Any, fault_proxy: FaultProxy, names: Iterator[str]
) -> None:
    topic = await direct.topic()
    fault_proxy.arm(Rule("JoinGroup", "request", "hold"))
    consumer = await raw.consumer(proxied=True, group_id=next(names))
    consumer.subscribe([topic])
    poll = asyncio.create_task(consumer.getmany(timeout_ms=50))
    done, _ = await asyncio.wait([poll], timeout=1)
    assert not done
    fault_proxy.disarm()
    await poll


async def test_trap_15_a_poll_that_does_not_end_is_an_error(
    through: World, fault_proxy: FaultProxy, names: Iterator[str]
) -> None:
    topic = await through.topic()
    fault_proxy.arm(Rule("JoinGroup", "request", "hold"))
    consumer = through.transport.consumer(group=next(names))
    await consumer.start()
    consumer.subscribe([topic], Member(consumer, [topic]))
    try:
        with pytest.raises(BrokerUnavailable):
            async with asyncio.timeout(5):
                await consumer.poll(0.05)
    finally:
        fault_proxy.disarm()
        await consumer.stop()


async def test_trap_15_log_time_goes_on_while_the_poll_waits_for_a_rebalance(
    installation: Any, direct: World, proxied_transport: MakeTransport, fault_proxy: FaultProxy
) -> None:
    aggregator = await installation.aggregator(proxied_transport("waiting", Limits()))
    await eventually(lambda: aggregator.not_ready_because is None, what="a ready aggregator")
    await installation.tell(installation.opened(1))
    await eventually(lambda: sum(owner.open_jobs for owner in aggregator.events.owners.values()), what="an open job")
    joining = fault_proxy.arm(Rule("JoinGroup", "request", "hold"))
    guest = await direct.member(installation.topics.group("aggregators"), installation.topics.job_events)
    await eventually(lambda: joining.fired, what="a rebalance that does not end")
    tp = TopicPartition(installation.topics.job_events, 0)
    reader = await direct.reader(tp)
    before = (await reader.end_offsets([tp]))[tp]

    async def ticks() -> bool:
        return (await reader.end_offsets([tp]))[tp] >= before + 5

    await eventually(ticks, timeout_s=5, what="five ticks")
    assert guest.assigned == []
    joining.release()
