"""Owners of partitions and the rebalances of their group."""

from typing import Any

from unit.aggregator.world import World, job, whole

from regather.testing.waiting import eventually
from regather.transport.base import Consumer
from regather.transport.memory import MemoryTransport


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
