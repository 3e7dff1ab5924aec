"""Dropping a job that is over, at every moment of a micro-batch: its slot is free and its places are settled."""

import asyncio
from typing import Any

import pytest

from regather.children.work import Work, WorkLimits
from regather.core.crash_attribution import Attribution, CrashTracker
from regather.core.execution import Done, Result
from regather.core.lanes import Lane
from regather.core.model import Identity, JobId, Shard, SubmissionId
from regather.core.watermark import Watermark
from regather.testing.waiting import eventually
from regather.transport.base import Record, TopicPartition
from regather_worker.dispatch import Dispatcher
from regather_worker.in_flight import Delivery, InFlight, QueuedShard
from regather_worker.ownership import Ownership

OWNER = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
OTHER = Identity(JobId("00000000-0000-7000-8000-000000000002"), SubmissionId("00" * 8))
TP = TopicPartition("shards.small", 0)


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


class World:
    def __init__(self) -> None:
        self.executor, self.publisher = HeldExecutor(), HeldPublisher()
        publisher: Any = self.publisher
        self.dispatcher = Dispatcher(self.executor, publisher, WorkLimits(), Ownership("here"))
        self.in_flight = InFlight(TP, Watermark(), CrashTracker("here", Attribution(), end=0))
        self.stop = asyncio.Event()

    def accept(self, owner: Identity, seq: int, *, delay_ms: int = 0) -> None:
        record = Record(TP.topic, TP.partition, seq, 0, None, b"payload", [])
        self.in_flight.watermark.deliver(seq)
        self.in_flight.took(record)
        shard = Shard(owner, seq, "k", b"{}", b"payload", delay_ms=delay_ms)
        self.dispatcher.accept(QueuedShard(shard, [Delivery(self.in_flight, record)]), Lane.SMALL)

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
    await eventually(lambda: world.open == (0, 0), what="a settled place")
    assert (world.dispatcher.busy, world.executor.started) == (0, 0)


async def test_a_batch_that_runs(world: World) -> None:
    world.accept(OWNER, 0)
    await eventually(lambda: world.executor.started == 1)
    world.dispatcher.drop(OWNER)
    await eventually(lambda: world.open == (0, 0), what="a settled place")
    assert world.dispatcher.busy == 0


async def test_a_batch_whose_outcomes_are_being_published(world: World) -> None:
    world.accept(OWNER, 0)
    world.executor.go_on.set()
    await eventually(lambda: world.publisher.settling == 1)
    assert world.dispatcher.busy == 0
    world.dispatcher.drop(OWNER)
    await eventually(lambda: world.open == (0, 0), what="a settled place")


async def test_what_waits_is_settled_and_others_go_on(world: World) -> None:
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


async def test_what_is_abandoned_neither_runs_nor_publishes_any_more(world: World) -> None:
    world.accept(OWNER, 0)
    world.executor.go_on.set()
    await eventually(lambda: world.publisher.settling == 1)
    world.in_flight.revoked = True
    await world.dispatcher.abandon()
    assert not any(task.get_name() == "micro-batch" for task in asyncio.all_tasks())
