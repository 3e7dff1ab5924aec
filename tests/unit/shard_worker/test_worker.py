"""The worker over the broker in memory: what becomes of shards, what is committed, what a takeover repeats."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import pytest
import pytest_asyncio

from regather.children.work import Work
from regather.core.execution import Failed, NotRun, Result
from regather.core.model import (
    AttemptFailed,
    Identity,
    JobId,
    JobState,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    RecordPlace,
    Shard,
    SubmissionId,
)
from regather.processors.registry import all_kinds
from regather.processors.splitting.rows import Band
from regather.testing.inline_executor import InlineExecutor
from regather.testing.waiting import eventually
from regather.topics.layout import SHARD_RECORD_BYTES, Size, Topics, topic_specs
from regather.transport.base import Consumer, Record, TopicPartition
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.transport.memory.clients import MemoryConsumer
from regather.wire.control import encode_ended
from regather.wire.events import decode_event
from regather.wire.identity import header_map, required
from regather.wire.shards import ShardEncoder, decode_history, released_record, shard_headers
from regather.wire.worker_reports import decode_report
from regather_worker.app import Worker, build
from regather_worker.settings import WorkerSettings

TOPICS = Topics()
EventT = TypeVar("EventT")
OWNER = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
OTHER = Identity(JobId("00000000-0000-7000-8000-000000000002"), SubmissionId("00" * 8))
FAST_RETRY = WorkerSettings(commit_s=0.02, retry_base_ms=1, retry_cap_ms=2, drain_s=5)


class World:
    """A broker in memory with the installation's topics, and workers over it."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.transport = MemoryTransport(self.broker)

    async def send(
        self, count: int, *, options: bytes = b"{}", topic: str = TOPICS.shards_small, first: int = 0
    ) -> None:
        producer = self.transport.producer(max_record_bytes=SHARD_RECORD_BYTES)
        await producer.start()
        headers = ShardEncoder(OWNER, "diagnostics", options, 15_000).headers
        for seq in range(first, first + count):
            await (await producer.send(topic, value=b"shard %d" % seq, headers=headers(seq), partition=seq % 8))
        await producer.stop()

    def records(self, topic: str) -> list[Record]:
        found = []
        for partition in range(self.broker.partition_counts()[topic]):
            log = self.broker.log(TopicPartition(topic, partition))
            found += log.read(log.beginning, None)[0]
        return found

    def outcomes(self) -> list[Outcome]:
        events = [decode_event(record.headers, record.value) for record in self.records(TOPICS.job_events)]
        return [outcome for event in events if isinstance(event, Outcomes) for outcome in event.outcomes]

    def events(self, sort: type[EventT]) -> list[EventT]:
        found = [decode_event(record.headers, record.value) for record in self.records(TOPICS.job_events)]
        return [event for event in found if isinstance(event, sort)]

    def lag(self) -> int:
        """Shards that no commit covers."""
        committed = self.broker.group(TOPICS.group("workers")).committed
        topics = (TOPICS.shards_small, TOPICS.shards_bulk, TOPICS.shards_retry)
        tps = [TopicPartition(t, n) for t in topics for n in range(self.broker.partition_counts()[t])]
        return sum(self.broker.log(tp).end - (committed[tp].offset if tp in committed else 0) for tp in tps)


Start = Callable[..., Worker]


@pytest_asyncio.fixture
async def world() -> World:
    found = World()
    await found.transport.create_topics(topic_specs(TOPICS, Size.EMBEDDED))
    return found


@pytest_asyncio.fixture
async def workers(world: World) -> AsyncIterator["Workers"]:
    running = Workers(world)
    yield running
    await running.stop_all()


class Workers:
    """Starts workers and stops them, or kills them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []
        self._latest: Worker | None = None

    async def start(
        self,
        executor: InlineExecutor | None = None,
        transport: MemoryTransport | None = None,
        dead: asyncio.Event | None = None,
    ) -> InlineExecutor:
        executor = executor or InlineExecutor(all_kinds(), slots=2)
        settings = FAST_RETRY.model_copy(update={"drain_s": 0.01}) if transport else FAST_RETRY
        self._latest = worker = build(settings, transport or self._world.transport, executor)
        stop = asyncio.Event()
        self._running.append((stop, asyncio.create_task(worker.run(stop))))
        await eventually(
            lambda: worker.not_ready_because is None or (dead and dead.is_set()), what="a ready worker, or a dead one"
        )
        return executor

    def sample(self, name: str) -> float:
        """A metric of the worker that was started last."""
        assert self._latest is not None
        return sum(sample.value for sample in self._latest.samples() if sample.name == name)

    async def bury(self) -> None:
        """End what is left of workers that were cut off."""
        for _, task in self._running:
            task.cancel()
        await self.stop_all()

    async def stop_all(self) -> None:
        for stop, task in self._running:
            stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._running.clear()


async def test_every_shard_gives_one_outcome_and_is_committed(world: World, workers: Workers) -> None:
    await world.send(20)
    await world.send(50, topic=TOPICS.shards_bulk, first=20)
    await workers.start()
    await eventually(lambda: len(world.outcomes()) == 70 and world.lag() == 0, what="70 settled shards")
    assert sorted(outcome.seq for outcome in world.outcomes()) == list(range(70))
    assert {outcome.attempts for outcome in world.outcomes()} == {1}


async def test_a_shard_that_always_fails_runs_four_times_and_becomes_a_dead_letter(
    world: World, workers: Workers
) -> None:
    await world.send(4, options=b'{"do":"raise","only":"2"}')
    executor = await workers.start()
    await eventually(lambda: len(world.outcomes()) == 4, what="four outcomes")
    (failed,) = [outcome for outcome in world.outcomes() if outcome.failure]
    assert failed.seq == 2
    assert failed.attempts == 4
    assert [attempt for seq, attempt in executor.executions if seq == 2] == [0, 1, 2, 3]
    (letter,) = world.records(TOPICS.dead_letters)
    assert letter.value == b"shard 2"
    history = decode_history(required(header_map(letter.headers), "history"))
    assert [(error.attempt, error.reason) for error in history] == [(n, Reason.RAISED) for n in range(4)]
    assert failed.failure is not None
    assert failed.failure.dead_letter is not None
    assert (failed.failure.dead_letter.partition, failed.failure.dead_letter.offset) == (
        letter.partition,
        letter.offset,
    )


async def test_a_shard_that_fails_twice_succeeds_with_its_third_execution(world: World, workers: Workers) -> None:
    await world.send(1, options=b'{"do":"raise","attempts_below":2}')
    await workers.start()
    await eventually(lambda: len(world.outcomes()) == 1, what="the outcome")
    (outcome,) = world.outcomes()
    assert (outcome.failure, outcome.attempts) == (None, 3)
    assert world.records(TOPICS.dead_letters) == []


async def test_a_permanent_error_is_not_retried(world: World, workers: Workers) -> None:
    await world.send(1, options=b'{"do":"permanent"}')
    executor = await workers.start()
    await eventually(lambda: len(world.outcomes()) == 1, what="the outcome")
    assert world.outcomes()[0].attempts == 1
    assert executor.executions == [(0, 0)]
    assert len(world.records(TOPICS.dead_letters)) == 1


async def test_an_unreadable_record_becomes_a_dead_letter_and_the_offset_moves_on(
    world: World, workers: Workers
) -> None:
    producer = world.transport.producer(max_record_bytes=1000)
    await producer.start()
    await (await producer.send(TOPICS.shards_small, value=b"junk", headers=[("who", b"knows")], partition=0))
    await world.send(1)
    await workers.start()
    await eventually(lambda: len(world.outcomes()) == 1 and world.lag() == 0, what="the shard behind the junk")
    (letter,) = world.records(TOPICS.dead_letters)
    headers = header_map(letter.headers)
    assert (letter.value, headers["reason"], headers["who"]) == (b"junk", b"unreadable", b"knows")
    assert (headers["kafka_dlt-original-topic"], headers["kafka_dlt-original-offset"]) == (b"shards.small", b"0")


@pytest.mark.parametrize("fault", ["fail_sends", "lose_acks"])
async def test_nothing_is_committed_before_its_ack_and_nothing_is_lost(
    world: World, workers: Workers, fault: str
) -> None:
    await world.send(8)
    setattr(world.broker.faults, fault, 3)
    await workers.start()
    await eventually(lambda: world.lag() == 0, what="everything committed")
    assert {outcome.seq for outcome in world.outcomes()} == set(range(8))


class LosingExecutor(InlineExecutor):
    """Loses the first batch with its child: one item was the guilty one, the others did not run."""

    def __init__(self) -> None:
        super().__init__(all_kinds())
        self.batches: list[list[tuple[int, int]]] = []

    async def run(self, work: Work) -> list[Result]:
        self.batches.append([(item.seq, item.attempt) for item in work.items])
        if len(self.batches) == 1:
            results: list[Result] = [NotRun() for _ in work.items]
            results[0] = Failed(Reason.CRASHED, "died", 0, 0)
            return results
        return await super().run(work)


async def test_only_the_guilty_member_of_a_lost_batch_spends_an_attempt_and_the_rest_runs_alone(
    world: World, workers: Workers
) -> None:
    producer = world.transport.producer(max_record_bytes=SHARD_RECORD_BYTES)
    await producer.start()
    headers = ShardEncoder(OWNER, "diagnostics", b"{}", 15_000).headers
    for seq in range(5):
        await (await producer.send(TOPICS.shards_small, value=b"x", headers=headers(seq), partition=0))
    executor = LosingExecutor()
    await workers.start(executor)
    await eventually(lambda: len(world.outcomes()) == 5, what="five outcomes")
    attempts = {outcome.seq: outcome.attempts for outcome in world.outcomes()}
    guilty = executor.batches[0][0][0]
    assert attempts == {seq: 2 if seq == guilty else 1 for seq in range(5)}
    assert all(len(batch) == 1 for batch in executor.batches[1:])


class UnluckyExecutor(InlineExecutor):
    """Loses the child of the first `lost` pieces of work, before or after it began with an item."""

    def __init__(self, lost: int, not_run: NotRun) -> None:
        super().__init__(all_kinds())
        self._lost = lost
        self._not_run = not_run

    async def run(self, work: Work) -> list[Result]:
        self._lost -= 1
        return [self._not_run for _ in work.items] if self._lost >= 0 else await super().run(work)


async def test_a_shard_that_no_child_began_spends_nothing_however_often_its_child_is_lost(
    world: World, workers: Workers
) -> None:
    await world.send(1)
    executor = await workers.start(UnluckyExecutor(50, NotRun()))
    await eventually(world.outcomes, what="the outcome")
    assert [(outcome.failure, outcome.attempts) for outcome in world.outcomes()] == [(None, 1)]
    assert executor.executions == [(0, 0)]


@pytest.mark.parametrize(("lost", "attempts"), [(20, 1), (21, 2)])
async def test_a_shard_whose_child_is_lost_while_it_runs_spends_an_attempt_at_the_21st_time(
    world: World, workers: Workers, lost: int, attempts: int
) -> None:
    await world.send(1)
    await workers.start(UnluckyExecutor(lost, NotRun(begun=True)))
    await eventually(world.outcomes, what="the outcome")
    assert [(outcome.failure, outcome.attempts) for outcome in world.outcomes()] == [(None, attempts)]
    assert [failed.error.reason for failed in world.events(AttemptFailed)] == [Reason.CRASHED] * (attempts - 1)


class HeldExecutor(InlineExecutor):
    """Holds every batch until it is released."""

    def __init__(self) -> None:
        super().__init__(all_kinds())
        self.release = asyncio.Event()
        self.begun = False
        self.cancelled = False

    async def run(self, work: Work) -> list[Result]:
        self.begun = True
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return await super().run(work)


class BrokenExecutor(HeldExecutor):
    """Has an error of its own at a shard, and holds the others."""

    @property
    def slots(self) -> int:
        return 2

    async def run(self, work: Work) -> list[Result]:
        if work.items[0].seq == 1:
            raise OSError("no descriptors are left")
        return await super().run(work)


async def test_a_worker_that_ends_with_an_error_leaves_nothing_running(world: World) -> None:
    await world.send(2)
    executor = BrokenExecutor()
    worker = build(FAST_RETRY.model_copy(update={"drain_s": 0.01}), world.transport, executor)
    with pytest.raises(RuntimeError, match="running a shard or publishing its result failed"):
        await worker.run(asyncio.Event())
    assert executor.begun
    assert not {task.get_name() for task in asyncio.all_tasks()} & {"micro-batch", "beside-the-loop"}


async def test_a_stop_lets_running_shards_end_and_spends_no_attempt(world: World, workers: Workers) -> None:
    await world.send(3)
    executor = HeldExecutor()
    await workers.start(executor)
    stopping = asyncio.create_task(workers.stop_all())
    await asyncio.sleep(0)
    executor.release.set()
    await stopping
    heir = await workers.start()
    await eventually(lambda: {outcome.seq for outcome in world.outcomes()} == {0, 1, 2}, what="all outcomes")
    assert {attempt for _, attempt in executor.executions + heir.executions} == {0}
    assert world.records(TOPICS.shards_retry) == []


async def test_a_successor_repeats_only_what_was_not_settled(world: World, workers: Workers) -> None:
    await world.send(40)
    await workers.start()
    await eventually(lambda: world.lag() == 0, what="everything committed")
    await workers.stop_all()
    await world.send(5, first=40)
    heir = await workers.start()
    await eventually(lambda: len(world.outcomes()) == 45, what="the new shards")
    assert sorted(seq for seq, _ in heir.executions) == list(range(40, 45))


async def test_two_workers_share_the_shards(world: World, workers: Workers) -> None:
    one, two = await workers.start(), await workers.start()
    await world.send(80)
    await eventually(lambda: len(world.outcomes()) >= 80 and world.lag() == 0, what="80 settled shards")
    seen: Sequence[int] = [seq for seq, _ in one.executions + two.executions]
    assert set(seen) == set(range(80))
    assert one.executions
    assert two.executions


async def test_a_worker_reports_while_it_lives_and_says_goodbye(world: World, workers: Workers) -> None:
    await workers.start()
    await eventually(lambda: world.records(TOPICS.workers), what="a report")
    report = decode_report(world.records(TOPICS.workers)[0].value or b"")
    assert (report.slots, "diagnostics" in report.kinds) == (2, True)
    await workers.stop_all()
    last = world.records(TOPICS.workers)[-1]
    assert (last.key, last.value) == (report.worker.encode(), None)


async def test_a_shard_of_a_chain_is_parked_and_runs_when_it_is_released(world: World, workers: Workers) -> None:
    headers = ShardEncoder(OWNER, "frames.track", b'{"height":2,"width":2}', 15_000, chained=True).headers
    producer = world.transport.producer(max_record_bytes=SHARD_RECORD_BYTES)
    await producer.start()
    for seq, payload in enumerate((b"\1\2\3\4", b"\5\6\7\x08")):
        meta = Band(seq, 1, 0, 0, 4, 1, "uint8", None).encode()
        await (await producer.send(TOPICS.shards_bulk, value=payload, headers=headers(seq, meta), partition=seq))
    await workers.start()
    events = await eventually(lambda: [*world.events(Parked), *world.events(Outcomes)][1:], what="two events")
    (parked,) = world.events(Parked)
    assert (parked.seq, parked.place) == (1, RecordPlace(TOPICS.shards_bulk, 1, 0))
    (first,) = world.outcomes()
    assert (first.seq, len(first.carry)) == (0, 16), events

    released = Shard(
        OWNER, 1, "frames.track", b'{"height":2,"width":2}', b"", parked.meta, parked.timeout_ms,
        chained=True, carry=first.carry, source=parked.place,
    )  # fmt: skip
    release, value = released_record(released)
    for partition in (0, 1):  # an aggregator that was restored may say it twice
        await (await producer.send(TOPICS.shards_retry, value=value, headers=release, partition=partition))
    await producer.stop()
    await eventually(lambda: len(world.outcomes()) >= 2 and world.lag() == 0, what="the second outcome")
    second = world.outcomes()[1]
    assert json.loads(second.output)["frame"] == 1
    assert second.carry != first.carry


async def test_a_released_shard_whose_payload_is_gone_becomes_a_dead_letter(world: World, workers: Workers) -> None:
    released = Shard(OWNER, 1, "frames.track", b"{}", b"", chained=True, source=RecordPlace(TOPICS.shards_bulk, 0, 5))
    headers, value = released_record(released)
    producer = world.transport.producer(max_record_bytes=SHARD_RECORD_BYTES)
    await producer.start()
    await (await producer.send(TOPICS.shards_retry, value=value, headers=headers, partition=0))
    await producer.stop()
    await workers.start()
    (outcome,) = await eventually(world.outcomes, what="the outcome")
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.UNREADABLE
    assert len(world.records(TOPICS.dead_letters)) == 1


@pytest.mark.parametrize(
    ("place", "letters"),
    [
        (RecordPlace(TOPICS.job_events, 0, 0), "holds no shards"),
        (RecordPlace(TOPICS.shards_bulk, 99, 0), "is wrong"),
        (RecordPlace(TOPICS.shards_bulk, 0, 0), "is wrong"),
    ],
)
async def test_a_released_shard_that_names_a_place_of_others_becomes_a_dead_letter(
    world: World, workers: Workers, place: RecordPlace, letters: str
) -> None:
    stranger = Shard(OTHER, 0, "bytes.digest", b"{}", b"secret")
    producer = world.transport.producer(max_record_bytes=SHARD_RECORD_BYTES)
    await producer.start()
    await (
        await producer.send(TOPICS.shards_bulk, value=stranger.payload, headers=shard_headers(stranger), partition=0)
    )
    forged = Shard(OWNER, 1, "bytes.digest", b"{}", b"", chained=True, source=place)
    headers, value = released_record(forged)
    await (await producer.send(TOPICS.shards_retry, value=value, headers=headers, partition=0))
    await producer.stop()
    await workers.start()
    (letter,) = await eventually(lambda: world.records(TOPICS.dead_letters), what="the dead letter")
    assert letters in required(header_map(letter.headers), "error").decode()
    await eventually(lambda: world.lag() == 0, what="the commit past the forged record")
    assert [outcome.failure for outcome in world.outcomes() if outcome.seq == 0] == [None]


class HeldReader(MemoryConsumer):
    """A consumer without a group, which learns where a shard topic ends only when it is told to."""

    def __init__(self, broker: MemoryBroker, transport: "HeldReads") -> None:
        super().__init__(broker, None)
        self._transport = transport

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        if any(tp.topic == TOPICS.shards_bulk for tp in partitions):
            self._transport.held += 1
            await self._transport.go_on.wait()
        return await super().end_offsets(partitions)


class HeldReads(MemoryTransport):
    """Holds every read of a payload."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self._broker_here = broker
        self.held = 0
        self.go_on = asyncio.Event()

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 2**24) -> Consumer:
        return super().consumer(group=group) if group else HeldReader(self._broker_here, self)


@pytest.mark.parametrize("gone", [False, True])
async def test_a_released_shard_whose_job_is_cancelled_while_its_payload_is_read_neither_runs_nor_has_an_outcome(
    world: World, workers: Workers, gone: bool
) -> None:
    producer = world.transport.producer(max_record_bytes=SHARD_RECORD_BYTES)
    await producer.start()
    await (await producer.send(TOPICS.shards_bulk, value=b"\1\2\3\4", headers=[("who", b"knows")], partition=0))
    source = RecordPlace(TOPICS.shards_bulk, 0, 5 if gone else 0)
    headers, value = released_record(Shard(OWNER, 1, "frames.track", b"{}", b"", chained=True, source=source))
    transport, executor = HeldReads(world.broker), HeldExecutor()
    await workers.start(executor, transport)
    await (await producer.send(TOPICS.shards_retry, value=value, headers=headers, partition=0))
    await world.send(1)  # a shard of the same job, which runs meanwhile
    await eventually(lambda: transport.held and executor.begun, what="a read of the payload, and a running shard")
    ended, state = encode_ended(OWNER, JobState.CANCELLED)
    await (await producer.send(TOPICS.control, value=state, headers=ended, key=b"job", partition=0))
    await producer.stop()
    await eventually(lambda: executor.cancelled, what="the end of the running shard")
    executor.begun = False
    transport.go_on.set()
    await eventually(lambda: world.lag() == 0, what="everything committed")
    assert not executor.begun
    assert (world.outcomes(), world.events(AttemptFailed)) == ([], [])
    assert workers.sample("regather_shards_dropped_total") == 2
    assert len(world.records(TOPICS.dead_letters)) == 1  # the record in the place of the payload is no shard


class LethalExecutor(InlineExecutor):
    """Running one of the shards in `killers` takes the whole worker along: nothing of it reaches the broker any more."""

    def __init__(self, transport: MemoryTransport, killers: set[int]) -> None:
        super().__init__(all_kinds(), slots=2)
        self._transport = transport
        self._killers = killers
        self.dead = asyncio.Event()
        self._buried = asyncio.Event()

    async def run(self, work: Work) -> list[Result]:
        if self._killers & {item.seq for item in work.items}:
            self._transport.sever()
            self.dead.set()
        if self.dead.is_set():
            await self._buried.wait()
            return [NotRun() for _ in work.items]
        return await super().run(work)

    async def stop(self, timeout_s: float) -> None:
        self._buried.set()


async def run_until_settled(world: World, workers: Workers, killers: set[int], count: int) -> int:
    """One worker after the other, until every shard has its outcome; how many were lost."""

    def over(executor: LethalExecutor) -> bool:
        return executor.dead.is_set() or {o.seq for o in world.outcomes()} == set(range(count))

    for lost in range(40):
        transport = MemoryTransport(world.broker)
        executor = LethalExecutor(transport, killers)
        await workers.start(executor, transport, executor.dead)
        await eventually(partial(over, executor), what="a death, or every outcome")
        if not executor.dead.is_set():
            return lost
        await workers.bury()
    raise AssertionError("workers are lost without end")


async def test_of_500_shards_only_the_one_that_kills_its_worker_is_charged(world: World, workers: Workers) -> None:
    await world.send(500)
    lost = await run_until_settled(world, workers, {123}, 500)
    assert lost == 6  # seen, watched, alone; then alone three times more
    attempts = {outcome.seq: outcome.attempts for outcome in world.outcomes()}
    assert {seq: spent for seq, spent in attempts.items() if spent != 1} == {123: 4}
    (letter,) = world.records(TOPICS.dead_letters)
    headers = header_map(letter.headers)
    assert (letter.value, headers["reason"]) == (b"shard 123", b"worker-lost")
    history = decode_history(required(headers, "history"))
    assert [(error.attempt, error.reason) for error in history] == [(n, Reason.WORKER_LOST) for n in range(4)]
    assert len({error.worker for error in history}) == 4
    assert {error.seq for error in world.events(AttemptFailed)} == {123}
    await eventually(lambda: world.lag() == 0, what="everything committed")


async def test_two_shards_that_kill_their_workers_are_both_found(world: World, workers: Workers) -> None:
    await world.send(60)
    lost = await run_until_settled(world, workers, {8, 17}, 60)
    assert lost <= 12
    attempts = {outcome.seq: outcome.attempts for outcome in world.outcomes()}
    assert {seq: spent for seq, spent in attempts.items() if spent != 1} == {8: 4, 17: 4}


async def test_workers_that_are_lost_for_other_reasons_cost_no_attempt(world: World, workers: Workers) -> None:
    await world.send(64)
    for _ in range(2):
        transport = MemoryTransport(world.broker)
        executor = HeldExecutor()
        await workers.start(executor, transport)
        await eventually(partial(getattr, executor, "begun"), what="a batch")
        transport.sever()
        await workers.bury()
    await workers.start()
    await eventually(lambda: len({o.seq for o in world.outcomes()}) == 64 and world.lag() == 0, what="64 settled")
    assert {outcome.attempts for outcome in world.outcomes()} == {1}


class CountingExecutor(InlineExecutor):
    """Gives way while it runs, and remembers how many ran at once with a retry among them."""

    def __init__(self) -> None:
        super().__init__(all_kinds(), slots=4)
        self.running = 0
        self.beside_a_retry: list[int] = []

    async def run(self, work: Work) -> list[Result]:
        self.running += 1
        if work.items[0].attempt:
            self.beside_a_retry.append(self.running)
        first = [item for item in work.items if item.attempt == 0 and item.seq % 10 == 3]
        for _ in range(20):
            await asyncio.sleep(0)
        self.running -= 1
        if first:
            lost = Failed(Reason.OUT_OF_MEMORY, "too much", 0, 0)
            return [lost if item in first else NotRun() for item in work.items]
        return await super().run(work)


async def test_after_out_of_memory_the_next_attempt_runs_alone(world: World, workers: Workers) -> None:
    await world.send(100)
    executor = CountingExecutor()
    await workers.start(executor)
    await eventually(lambda: len({outcome.seq for outcome in world.outcomes()}) == 100, what="100 outcomes")
    assert executor.beside_a_retry == [1] * 10
    assert Counter(outcome.attempts for outcome in world.outcomes()) == {1: 90, 2: 10}
