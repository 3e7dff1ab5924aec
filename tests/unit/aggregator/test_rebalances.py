"""Owners of partitions and the rebalances of their group."""

import asyncio
from collections.abc import Mapping
from typing import Any

from unit.aggregator.world import SETTINGS, TOPICS, World, job, whole

from regather.processors.registry import all_kinds
from regather.testing.inline_executor import InlineExecutor
from regather.testing.waiting import eventually
from regather.transport.base import Committed, Consumer, TopicPartition, TransactionalProducer
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.transport.memory.clients import MemoryConsumer
from regather_aggregator.app import build


class WatchedMembers(MemoryTransport):
    """Remembers the members of groups."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.members: list[Consumer] = []

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        made = super().consumer(group=group, fetch_max_bytes=fetch_max_bytes)
        if group is not None:
            self.members.append(made)
        return made


async def test_an_owner_outlives_a_rebalance_in_which_its_process_takes_part(world: World) -> None:
    aggregator = await world.start()
    owner = aggregator.events.owners[0]
    await world.start()
    await world.tell(*whole(job()))
    await world.final()
    assert aggregator.events.owners[0] is owner


async def test_an_owner_does_not_outlive_a_generation_that_its_process_has_missed(world: World) -> None:
    world.transport = watched = WatchedMembers(world.broker)
    aggregator = await world.start()
    owner = aggregator.events.owners[0]
    watched.members[0].expire()  # type: ignore[attr-defined] # of the memory's own class
    await eventually(
        lambda: aggregator.events.owners.get(0) not in (None, owner) and aggregator.events.ready, what="a new owner"
    )
    await world.tell(*whole(job()))
    await world.final()


class HeldConsumer(MemoryConsumer):
    """Its first commit after `hold` is set arrives only once `let_go` is set."""

    hold = False

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        super().__init__(broker, broker.group(group))
        self.held, self.let_go = asyncio.Event(), asyncio.Event()

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        if self.hold and not self.held.is_set():
            self.held.set()
            await self.let_go.wait()
        await super().commit(offsets)


class HeldCommits(MemoryTransport):
    """Its one member of a group holds a commit."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self._held_broker = broker
        self.member: HeldConsumer | None = None

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        if group is None:
            return super().consumer(group=group, fetch_max_bytes=fetch_max_bytes)
        self.member = HeldConsumer(self._held_broker, group)
        return self.member


async def test_a_commit_that_is_under_way_does_not_overtake_the_last_one_before_a_revocation(world: World) -> None:
    world.transport = held = HeldCommits(world.broker)
    aggregator = await world.start()
    tp = TopicPartition(TOPICS.job_events, 0)
    member = held.member
    assert member is not None
    await world.tell(*whole(job()))
    await world.committed()
    member.hold = True
    await world.tell(*whole(job(2)))
    await member.held.wait()
    revoked = asyncio.create_task(aggregator.events.on_revoked([tp]))
    await asyncio.wait([revoked], timeout=0.05)
    member.let_go.set()
    await revoked
    loop_turns = aggregator.events.turns
    await eventually(lambda: aggregator.events.turns > loop_turns + 1, what="the turn that committed")
    assert '"farewell":true' in world.broker.group(TOPICS.group("aggregators")).committed[tp].metadata


class SlowFences(WatchedMembers):
    """The first transactional producer never starts, and takes until `let_go` to stop."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.let_go = asyncio.Event()
        self.fences: list[str] = []

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        made = super().transactional_producer(transactional_id, max_record_bytes=max_record_bytes)
        return SlowProducer(self) if not self.fences else made  # type: ignore[return-value] # it never gets further


class SlowProducer:
    """A producer whose broker does not answer."""

    def __init__(self, transport: SlowFences) -> None:
        self._transport = transport

    async def start(self) -> None:
        self._transport.fences.append("begun")
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self._transport.fences.append("stopping")
        await self._transport.let_go.wait()
        self._transport.fences.append("stopped")


async def test_an_owner_begins_only_when_the_former_one_of_its_process_has_ended(world: World) -> None:
    world.transport = slow = SlowFences(world.broker)
    aggregator = build(SETTINGS, slow, InlineExecutor(all_kinds()), all_kinds())
    stop = asyncio.Event()
    running = asyncio.create_task(aggregator.run(stop))
    await eventually(lambda: slow.fences == ["begun"], what="the first fence")
    former = aggregator.events.owners[0]
    slow.members[0].expire()  # type: ignore[attr-defined] # of the memory's own class
    await eventually(lambda: slow.fences[-1] == "stopping", what="the end of the former owner")
    await eventually(lambda: aggregator.events.owners.get(0) not in (None, former), what="a new owner")
    assert not aggregator.events.ready
    slow.let_go.set()
    await eventually(lambda: aggregator.events.ready, what="the new owner's restore")
    await world.tell(*whole(job()))
    await world.final()
    await eventually(lambda: aggregator.counts.finals == 1, what="the final read back")
    stop.set()
    await running
