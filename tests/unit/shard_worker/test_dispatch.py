"""Dropping a job that is over, at every moment of a micro-batch: its slot is free and its deliveries are acknowledged."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from regather.children.work import Work, WorkLimits
from regather.core.crash_attribution import Attribution, CrashTracker
from regather.core.execution import Done, Result
from regather.core.lanes import Lane
from regather.core.model import AttemptError, Identity, JobId, Reason, Shard, SubmissionId
from regather.core.watermark import Watermark
from regather.testing.waiting import eventually
from regather.transport.base import Committed, Record, TopicPartition
from regather.transport.memory import MemoryBroker
from regather.transport.memory.clients import MemoryConsumer
from regather_worker.dispatch import Dispatcher
from regather_worker.in_flight import Delivery, InFlight, QueuedShard
from regather_worker.ownership import Ownership

OWNER = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
OTHER = Identity(JobId("00000000-0000-7000-8000-000000000002"), SubmissionId("00" * 8))
TP = TopicPartition("shards.small", 0)
OUT_OF_MEMORY = AttemptError(0, Reason.OUT_OF_MEMORY, "too much", "there", 0, 0)


class HeldExecutor:
    """Runs nothing until it is told to."""

    slots = 1
    kinds = ("k",)

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.started = 0

    async def start(self) -> None: ...

    async def stop(self, timeout_s: float) -> None: ...

    async def run(self, work: Work) -> list[Result]:
        self.started += 1
        await self.go_on.wait()
        return [Done(b"", 0, 0) for _ in work.items]


class HeldPublisher:
    """Publishes nothing until it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.settling = 0

    async def publish(self, batch: list[QueuedShard], _results: list[Result]) -> list[QueuedShard]:
        self.settling += 1
        await self.go_on.wait()
        for queued in batch:
            queued.ack()
        return []


class HeldCommits(MemoryConsumer):
    """Commits one time, and then not until it is told to."""

    def __init__(self) -> None:
        super().__init__(MemoryBroker(), None)
        self.commits = 0
        self.go_on = asyncio.Event()

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        self.commits += 1
        if self.commits > 1:
            await self.go_on.wait()


class World:
    def __init__(self) -> None:
        self.executor, self.publisher = HeldExecutor(), HeldPublisher()
        publisher: Any = self.publisher
        self.ownership = Ownership("here")
        self.dispatcher = Dispatcher(self.executor, publisher, WorkLimits(), self.ownership)
        self.in_flight = InFlight(TP, Watermark(), CrashTracker("here", Attribution(), end=0))
        self.stop = asyncio.Event()

    def accept(self, owner: Identity, seq: int, *, delay_ms: int = 0, history: tuple[AttemptError, ...] = ()) -> None:
        record = Record(TP.topic, TP.partition, seq, 0, None, b"payload", [])
        self.in_flight.deliver(record)
        shard = Shard(owner, seq, "k", b"{}", b"payload", delay_ms=delay_ms, history=history)
        self.dispatcher.accept(QueuedShard(shard, [Delivery(self.in_flight, record)]), Lane.PRIORITY)

    @property
    def open(self) -> tuple[int, int]:
        return self.in_flight.watermark.open_count, self.in_flight.open_bytes


@pytest.fixture
async def world() -> Any:
    made = World()
    running = asyncio.create_task(made.dispatcher.run(made.stop))
    yield made
    made.stop.set()
    made.dispatcher.stopped()
    made.executor.go_on.set()
    made.publisher.go_on.set()
    await running
    await made.dispatcher.drain(1)
    assert made.dispatcher.failed is None


async def test_a_batch_that_was_given_a_slot_and_has_not_begun(world: World) -> None:
    world.accept(OWNER, 0)
    world.dispatcher._start_batch()  # the task exists, and the event loop had no turn yet
    world.dispatcher.drop(OWNER)
    await eventually(lambda: world.open == (0, 0), what="an acknowledged delivery")
    assert (world.dispatcher.busy, world.executor.started) == (0, 0)


async def test_a_batch_that_runs(world: World) -> None:
    world.accept(OWNER, 0)
    await eventually(lambda: world.executor.started == 1)
    world.dispatcher.drop(OWNER)
    await eventually(lambda: world.open == (0, 0), what="an acknowledged delivery")
    assert world.dispatcher.busy == 0


async def test_a_batch_whose_outcomes_are_being_published(world: World) -> None:
    world.accept(OWNER, 0)
    world.executor.go_on.set()
    await eventually(lambda: world.publisher.settling == 1)
    assert world.dispatcher.busy == 0
    world.dispatcher.drop(OWNER)
    await eventually(lambda: world.open == (0, 0), what="an acknowledged delivery")


async def test_what_waits_is_acknowledged_and_others_go_on(world: World) -> None:
    world.accept(OTHER, 0)
    await eventually(lambda: world.executor.started == 1)
    for seq in range(1, 5):
        world.accept(OWNER, seq, delay_ms=60_000 if seq % 2 else 0)
    world.dispatcher.drop(OWNER)
    assert world.open == (1, len(b"payload"))
    assert (world.dispatcher.queued, world.dispatcher.delayed, world.dispatcher.dropped) == (0, 0, 4)
    world.executor.go_on.set()
    world.publisher.go_on.set()
    await eventually(lambda: world.open == (0, 0), what="the other job's shard")


async def test_a_shard_that_has_its_outcome_is_not_dropped_while_the_commit_after_it_is_under_way(world: World) -> None:
    commits = HeldCommits()
    world.ownership.use(commits)
    world.ownership.owned[TP] = world.in_flight
    world.accept(OWNER, 0, history=(OUT_OF_MEMORY,))
    world.executor.go_on.set()
    world.publisher.go_on.set()
    await eventually(lambda: commits.commits == 2, what="the commit that the shard no longer runs alone")
    world.dispatcher.drop(OWNER)
    commits.go_on.set()
    await eventually(lambda: world.dispatcher.busy == 0, what="a free slot")
    assert (world.open, world.dispatcher.dropped) == ((0, 0), 0)


async def test_what_is_abandoned_is_not_acknowledged_even_if_its_partition_is_not_given_up_first(world: World) -> None:
    world.accept(OWNER, 0)
    await eventually(lambda: world.executor.started == 1)
    await world.dispatcher.abandon()
    assert world.open == (1, len(b"payload"))


async def test_what_is_abandoned_neither_runs_nor_publishes_any_more(world: World) -> None:
    world.accept(OWNER, 0)
    world.executor.go_on.set()
    await eventually(lambda: world.publisher.settling == 1)
    await world.dispatcher.abandon()
    assert not any(task.get_name() == "micro-batch" for task in asyncio.all_tasks())
