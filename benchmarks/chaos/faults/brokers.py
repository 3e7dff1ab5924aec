"""Faults of brokers. One at a time, and each is over when every partition has all its replicas in sync again."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chaos.faults.base import Context, Victim, picked
from chaos.plan import PlannedFault
from regather.core.errors import BrokerUnavailable
from regather.embedded.embedded_cluster import ClusterNode
from regather.testing.waiting import eventually

_SYNC_S = 90.0
_HALT_S = 40.0
_CLEAN_EXITS = (0, 143)
_SESSION_S = 5.0
"""broker.session.timeout.ms of the cluster."""

Choose = Callable[[Context, PlannedFault], Awaitable[tuple[int, str] | None]]
"""Which broker, and what it has."""


async def some_leader(context: Context, planned: PlannedFault) -> tuple[int, str] | None:
    """A broker that leads partitions."""
    led = await context.view.leaderships()
    node = picked(sorted(number for number in led if number > 0), planned.pick)
    return None if node is None else (node, f"leader of {led[node]} partitions")


async def transaction_coordinator(context: Context, planned: PlannedFault) -> tuple[int, str]:
    """The broker through which an aggregator's partition commits."""
    partitions = [spec.partitions for spec in context.stack.topic_specs() if spec.name == context.stack.topics.results]
    identity = context.stack.topics.transactional_id("aggregator", int(planned.pick * partitions[0]))
    return await context.view.transaction_coordinator(identity), f"coordinator of {identity}"


async def group_coordinator(context: Context, planned: PlannedFault) -> tuple[int, str]:
    """The broker through which workers or aggregators commit and rebalance."""
    group = context.stack.topics.group("workers" if planned.pick < 0.5 else "aggregators")
    return await context.view.group_coordinator(group), f"coordinator of {group}"


async def broker_victim(context: Context, planned: PlannedFault, choose: Choose) -> Victim | None:
    """The broker that is chosen, if no other is away, all are in sync, and a job is open."""
    if context.brokers.locked() or not any(context.ledger.open()):
        return None
    try:
        if await context.view.out_of_sync():
            return None
        chosen = await choose(context, planned)
    except BrokerUnavailable:
        return None
    return None if chosen is None else Victim(f"broker-{chosen[0]}", chosen[1])


async def in_sync(context: Context) -> None:
    """Wait until every partition has all its replicas."""

    async def synced() -> bool:
        try:
            return await context.view.out_of_sync() == 0
        except BrokerUnavailable:
            return False

    await eventually(synced, timeout_s=_SYNC_S, what="all replicas in sync", interval_s=0.5)


async def start_again(context: Context, node: ClusterNode) -> None:
    """Start a broker and wait until it is one of three again."""
    await asyncio.to_thread(node.start)
    await asyncio.to_thread(node.wait_ready, brokers=len(context.cluster.nodes))
    await in_sync(context)


def _node(context: Context, victim: Victim) -> ClusterNode:
    return context.cluster.node(int(victim.name.rpartition("-")[2]))


@dataclass(frozen=True, slots=True)
class KillBroker:
    """kill -9, and a start some seconds later."""

    choose: Choose = some_leader
    executions: int = 6

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        return await broker_victim(context, planned, self.choose)

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        async with context.brokers:
            node, began_s = _node(context, victim), time.monotonic()
            alive = node.running
            await asyncio.to_thread(node.kill)
            await asyncio.sleep(0.5 + planned.vigour * 6)
            await start_again(context, node)
            return f"{victim.had}; in sync again after {time.monotonic() - began_s:.1f} s" if alive else ""


class SuspendBroker:
    """SIGSTOP past the brokers' own session time-out, then SIGCONT: a leader that does not know that it is none."""

    executions = 6

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        return await broker_victim(context, planned, some_leader)

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        async with context.brokers:
            node, began_s, moved = _node(context, victim), time.monotonic(), False
            node.suspend()
            try:
                while time.monotonic() - began_s < _SESSION_S + 2 + planned.vigour * 6:
                    with contextlib.suppress(BrokerUnavailable):
                        moved = moved or not (await context.view.leaderships())[node.node_id]
                    await asyncio.sleep(0.5)
            finally:
                node.resume()
            paused_s = time.monotonic() - began_s
            await in_sync(context)
            return f"{victim.had}, which moved in {paused_s:.1f} s" if moved else ""


class RollingRestart:
    """Every broker in turn is stopped in order and started again, as an upgrade would."""

    executions = 12

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        return await broker_victim(context, planned, some_leader)

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        async with context.brokers:
            began_s, clean = time.monotonic(), 0
            for node in context.cluster.nodes:
                clean += await asyncio.to_thread(node.stop) in _CLEAN_EXITS
                await start_again(context, node)
            return f"{clean} clean restarts in {time.monotonic() - began_s:.1f} s" if clean else ""


class FillDisk:
    """A broker's volume runs full; it halts, gets room, and is started again."""

    executions = 6

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        return await broker_victim(context, planned, some_leader)

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        async with context.brokers:
            node, began_s = _node(context, victim), time.monotonic()
            await asyncio.to_thread(node.fill_disk)
            try:
                with contextlib.suppress(AssertionError):  # then it found nothing to do
                    await eventually(lambda: not node.running, timeout_s=_HALT_S, interval_s=0.2)
                halted, halted_s = not node.running, time.monotonic() - began_s
                await asyncio.sleep(planned.vigour * 3)
            finally:
                await asyncio.to_thread(node.free_disk)
            await start_again(context, node)
            return f"{victim.had}; halted after {halted_s:.1f} s" if halted else ""
