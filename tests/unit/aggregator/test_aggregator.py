"""The aggregator over the broker in memory: one final per job, whatever is repeated, lost or taken over."""

import asyncio
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from unit.aggregator.world import SETTINGS, TOPICS, World, dead, done, job, opened, whole

from regather.children.work import Work
from regather.core.errors import UnsafeBroker
from regather.core.execution import Result
from regather.core.ids import event_partition
from regather.core.model import (
    Abandoned,
    Event,
    Identity,
    JobId,
    JobState,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Reason,
    Redriven,
    Sealed,
    SubmissionId,
    Uploading,
)
from regather.processors.registry import all_kinds
from regather.testing.inline_executor import InlineExecutor
from regather.testing.waiting import eventually
from regather.topics.layout import CONTROL_RECORD_BYTES
from regather.topics.rules import VERIFICATION
from regather.transport.base import Committed, Producer, TopicPartition, TransactionalProducer
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.wire.documents import decode_final
from regather.wire.events import encode_event
from regather.wire.identity import header_map
from regather_aggregator.app import Aggregator, build


class FirstFenceFails(MemoryTransport):
    """The broker goes away while the first transactional producer starts, and is back for the next."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.failed = False

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        producer = super().transactional_producer(transactional_id, max_record_bytes=max_record_bytes)
        if not self.failed:
            self.failed = True
            producer.sever()  # type: ignore[attr-defined] # of the memory's own class
        return producer


class WatchedTransport(MemoryTransport):
    """Remembers the producers of small records, which ticks are."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.producers: list[Producer] = []

    def producer(self, *, max_record_bytes: int) -> Producer:
        made = super().producer(max_record_bytes=max_record_bytes)
        if max_record_bytes == CONTROL_RECORD_BYTES:
            self.producers.append(made)
        return made


async def test_a_job_ends_with_one_final_and_a_status_that_carries_the_result(world: World) -> None:
    await world.start()
    await world.tell(*whole(job()))
    final = await world.final()
    assert json.loads(final.value or b"")["shards"] == 3
    status = decode_final(final.headers)
    assert (status.state, status.total, status.done, status.frontier) == (JobState.SUCCEEDED, 3, 3, 3)
    assert header_map(final.headers)["state"] == b"succeeded"
    assert world.statuses()[-1].state is JobState.SUCCEEDED


async def test_a_repeated_history_gives_no_second_final(world: World) -> None:
    await world.start()
    await world.tell(*whole(job()))
    await world.final()
    await world.tell(*whole(job()), *whole(job(submission="ff")), *whole(job(2)))
    await eventually(lambda: len(world.finals()) == 2, what="the second job's final")
    owners = [decode_final(record.headers).owner.job_id for record in world.finals()]
    assert owners == [job().job_id, job(2).job_id]


async def test_a_successor_restores_from_the_log_and_ends_the_open_job_once(world: World) -> None:
    await world.start()
    await world.tell(*whole(job()), opened(job(2)), done(job(2), 1))
    await world.final()
    await world.stop()
    await world.start()
    await world.tell(done(job(2), 0), Sealed(job(2), 2, 8, "d"), *whole(job()))
    await eventually(lambda: len(world.finals()) == 2, what="the open job's final")
    assert decode_final(world.finals()[1].headers).owner == job(2)
    await world.tell(*whole(job(3)))
    await eventually(lambda: len(world.finals()) == 3, what="a later job's final")
    assert [decode_final(r.headers).owner for r in world.finals()] == [job(), job(2), job(3)]


@pytest.mark.parametrize("fault", ["fail_sends", "lose_acks", "fail_commits"])
async def test_a_failed_transaction_is_done_again_and_visible_once(world: World, fault: str) -> None:
    await world.start()
    setattr(world.broker.faults, fault, 1)
    producer_faults = world.broker.faults
    owner = job()
    headers_values = [encode_event(event) for event in whole(owner)]
    log = world.broker.log(TopicPartition(TOPICS.job_events, 0))
    for headers, value in headers_values:  # written past the faults, which are meant for the aggregator
        log.append(None, value, headers, world.now_ms, None)
    world.broker.notify()
    await world.final()
    assert getattr(producer_faults, fault) == 0
    await world.tell(*whole(job(2)))
    await eventually(lambda: len(world.finals()) == 2, what="the next job's final")
    assert [decode_final(record.headers).owner for record in world.finals()] == [owner, job(2)]


async def test_two_aggregators_give_one_final_per_job_through_a_takeover(world: World) -> None:
    await world.start()
    await world.start()
    owners = [job(number) for number in range(1, 6)]
    for owner in owners:
        await world.tell(*whole(owner))
    await eventually(lambda: len(world.finals()) >= 5, what="five finals")
    assert sorted(decode_final(r.headers).owner.job_id for r in world.finals()) == sorted(o.job_id for o in owners)


async def test_a_kind_whose_result_has_no_gaps_gives_none_where_a_shard_was_skipped(world: World) -> None:
    await world.start()
    owner = job()
    options = b'{"operator":"invert","output":"raw"}'
    image = Opened(owner, "image.map", options, "", 3_600_000, OnError.SKIP)
    await world.tell(image, done(owner, 0, 2), dead(owner, 1), Sealed(owner, 3, 12, "d"))
    status = decode_final((await world.final()).headers)
    assert status.state is JobState.FAILED
    assert "1 of 3 shards failed, the first one is 1" in status.error


async def test_skipped_shards_make_a_partial_result_with_named_gaps(world: World) -> None:
    await world.start()
    owner = job()
    await world.tell(opened(owner, OnError.SKIP), done(owner, 0, 2), dead(owner, 1), Sealed(owner, 3, 12, "d"))
    status = decode_final((await world.final()).headers)
    assert (status.state, status.gaps, status.failed) == (JobState.PARTIAL, ((1, 1),), 1)
    assert [(error.seq, error.attempts, error.error) for error in status.errors] == [(1, 4, "boom")]


async def test_a_dead_shard_ends_a_job_that_may_not_fail(world: World) -> None:
    await world.start()
    owner = job()
    await world.tell(opened(owner), dead(owner, 1))
    status = decode_final((await world.final()).headers)
    assert (status.state, status.reason) == (JobState.FAILED, Reason.SHARD_FAILED)
    assert "shard 1 failed for good" in status.error


async def test_a_job_that_was_given_up_before_its_seal_fails_and_may_be_sent_again(world: World) -> None:
    await world.start()
    owner = job()
    await world.tell(opened(owner), done(owner, 0), Abandoned(owner, "the client went away"))
    status = decode_final((await world.final()).headers)
    assert (status.state, status.reason) == (JobState.FAILED, Reason.NOT_SEALED)
    again = Identity(owner.job_id, SubmissionId("aa" * 8), version=2)
    await world.tell(*whole(again))
    await eventually(lambda: len(world.finals()) == 2, what="the second version's final")
    assert decode_final(world.finals()[1].headers).owner == again


async def test_a_redrive_of_a_job_that_nobody_opened_has_no_final_and_holds_no_offset(world: World) -> None:
    aggregator = await world.start()
    await world.tell(*whole(job()))
    again = replace(opened(job(2)), owner=job(2)._replace(version=2))
    told_to = await world.tell(
        Redriven(again, ((0, 0),), origin=0, created_ms=1), Sealed(again.owner, 1, 4, "sha256:x")
    )
    await eventually(lambda: committed(world).offset > told_to, what="a commit past the redrive")
    assert [decode_final(final.headers).owner for final in world.finals()] == [job()]
    assert aggregator.counts.dropped["unknown-job"] >= 1


async def test_a_silent_upload_is_closed_by_the_logs_own_time(world: World) -> None:
    await world.start()
    await world.tell(opened(job()))
    await eventually(lambda: [s.state for s in world.statuses()][-1:] == [JobState.SPLITTING], what="the open job")
    assert world.finals() == []
    world.now_ms += 250
    status = decode_final((await world.final()).headers)
    assert (status.state, status.reason) == (JobState.FAILED, Reason.NOT_SEALED)


async def test_a_deadline_passes_by_the_logs_own_time(world: World) -> None:
    await world.start()
    await world.tell(opened(job(), deadline_ms=5_000), Sealed(job(), 2, 8, "d"))
    world.now_ms += 5_001
    status = decode_final((await world.final()).headers)
    assert (status.state, status.reason) == (JobState.EXPIRED, Reason.DEADLINE)


async def test_a_broker_whose_time_jumps_ahead_is_noticed(world: World) -> None:
    aggregator = await world.start()
    await world.tell(opened(job()), Sealed(job(), 2, 8, "d"))
    events = world.broker.log(TopicPartition(TOPICS.job_events, 0))
    ticks = events.end + 2
    await eventually(lambda: events.end >= ticks, what="ticks by the right time")
    assert metric(aggregator, "regather_broker_time_jumps_total") == 0
    world.now_ms += 61_000
    await eventually(lambda: metric(aggregator, "regather_broker_time_jumps_total") == 1, what="the alarm")


async def test_a_kind_that_is_not_installed_ends_its_job_only(world: World) -> None:
    await world.start()
    stranger = Opened(job(), "no.such.kind", b"{}", "", 1000)
    await world.tell(stranger, done(job(), 0), Sealed(job(), 1, 4, "d"), *whole(job(2)))
    await eventually(lambda: len(world.finals()) == 2, what="both finals")
    states = {decode_final(r.headers).owner: decode_final(r.headers).state for r in world.finals()}
    assert states == {job(): JobState.FAILED, job(2): JobState.SUCCEEDED}


async def test_an_unreadable_event_is_counted_and_stops_nothing(world: World) -> None:
    aggregator = await world.start()
    log = world.broker.log(TopicPartition(TOPICS.job_events, 0))
    log.append(None, b"junk", [("event", b"opened")], world.now_ms, None)
    await world.tell(*whole(job()))
    await world.final()
    assert aggregator.counts.dropped["unreadable"] == 1


async def test_the_groups_offset_moves_only_when_finals_were_read_back(world: World) -> None:
    await world.start()
    await world.tell(opened(job()), *whole(job(2)))
    await eventually(lambda: len(world.finals()) == 1, what="the second job's final")
    tp = TopicPartition(TOPICS.job_events, 0)
    await world.stop()
    assert world.broker.group(TOPICS.group("aggregators")).committed[tp].offset == 0


async def test_a_successor_goes_on_from_checkpoints_where_the_log_is_gone(world: World) -> None:
    settings = SETTINGS.model_copy(update={"checkpoint_log_bytes": 1})
    events, log = TopicPartition(TOPICS.job_events, 0), world.broker.log(TopicPartition(TOPICS.job_events, 0))
    outputs = [b"%04d" % seq for seq in range(6)]
    owner = job()
    begin = Opened(owner, "frames.motion", b"{}", "", 3_600_000, OnError.FAIL)
    for told in ([begin, Uploading(owner, 1)], [outcome_of(owner, 0, outputs)], [outcome_of(owner, 2, outputs)]):
        await world.start(settings)
        told_to = await world.tell(*told)
        await eventually(lambda told_to=told_to: committed(world).offset > told_to, what="a checkpoint")
        await world.stop()
        world.broker.delete_records(events, committed(world).offset)
    assert log.beginning > told_to
    await world.start(settings)
    rest = [outcome_of(owner, seq, outputs) for seq in (1, 3, 4, 5)]
    await world.tell(*rest, Sealed(owner, 6, 24, "sha256:x"))
    final = await world.final()
    assert final.value == b"".join(outputs)
    await eventually(lambda: "checkpoints_from" not in committed(world).metadata, what="a commit without the ended job")


class WatchedMerges(InlineExecutor):
    """Remembers what stood in the group's metadata when each merge began."""

    def __init__(self, world: World) -> None:
        super().__init__(all_kinds())
        self._world = world
        self.metadata: list[dict[str, object]] = []
        self.failing_transactions = 0

    async def run(self, work: Work) -> list[Result]:
        self.metadata.append(json.loads(committed(self._world).metadata or "{}"))
        self._world.broker.faults.fail_commits, self.failing_transactions = self.failing_transactions, 0
        return await super().run(work)


async def after(world: World, metadata: str, *events: Event, failing_transactions: int = 0) -> WatchedMerges:
    """Start an aggregator behind one that left this metadata, and these events."""
    await world.tell(*events)
    before = world.broker.group(TOPICS.group("aggregators")).committed
    before[TopicPartition(TOPICS.job_events, 0)] = Committed(0, metadata)
    executor = WatchedMerges(world)
    executor.failing_transactions = failing_transactions
    await world.run(build(SETTINGS, world.transport, executor, all_kinds()))
    await world.final()
    return executor


async def test_after_a_death_a_merge_is_marked_before_it_begins_and_not_when_it_has_ended(world: World) -> None:
    mark = [job().job_id, 1, 2]
    executor = await after(world, json.dumps({"merges": [mark]}), *whole(job()))
    assert [found["merges"] for found in executor.metadata] == [[[job().job_id, 1, 3]]]
    assert decode_final(world.finals()[0].headers).state is JobState.SUCCEEDED
    await eventually(lambda: "merges" not in committed(world).metadata, what="a commit without marks")
    await world.tell(*whole(job(2)))
    await eventually(lambda: len(world.finals()) == 2, what="the final of a job that came later")
    assert "merges" not in executor.metadata[1]


async def test_behind_an_owner_that_ended_in_order_nothing_is_marked(world: World) -> None:
    executor = await after(world, '{"farewell":true}', *whole(job()))
    assert executor.metadata == [{}]
    await world.stop()
    assert json.loads(committed(world).metadata)["farewell"] is True


async def test_a_merge_that_is_done_again_waits_for_no_commit_of_what_is_committed_already(world: World) -> None:
    executor = await after(world, "{}", *whole(job()), failing_transactions=1)
    assert [found["merges"] for found in executor.metadata] == [[[job().job_id, 1, 1]]] * 2


async def test_a_merge_that_was_begun_three_times_ends_its_job_and_nobody_elses(world: World) -> None:
    metadata = json.dumps({"merges": [[job().job_id, 1, 3]]})
    executor = await after(world, metadata, *whole(job()), *whole(job(2)))
    await eventually(lambda: len(world.finals()) == 2, what="both finals")
    ends = {status.owner: status for status in (decode_final(final.headers) for final in world.finals())}
    assert (ends[job()].state, ends[job()].reason) == (JobState.FAILED, Reason.INTERNAL)
    assert "its merge began 3 times" in ends[job()].error
    assert ends[job(2)].state is JobState.SUCCEEDED
    assert len(executor.metadata) == 1


async def test_outputs_that_memory_has_no_room_for_are_in_the_result_all_the_same(world: World) -> None:
    settings = SETTINGS.model_copy(update={"outputs_memory_bytes": 0, "max_result_bytes": 1024**2})
    aggregator = await world.start(settings)
    outputs = [bytes([seq]) * 10_000 for seq in range(6)]
    owner = job()
    begin = Opened(owner, "frames.motion", b"{}", "", 3_600_000, OnError.FAIL)
    await world.tell(begin, *(outcome_of(owner, seq, outputs) for seq in (5, 3, 1, 0)))
    spill = "regather_outputs_spilled_bytes"
    await eventually(lambda: metric(aggregator, spill) == 40_000, what="outputs in a scratch file")
    await world.tell(*(outcome_of(owner, seq, outputs) for seq in (2, 4)), Sealed(owner, 6, 24, "sha256:x"))
    assert (await world.final()).value == b"".join(outputs)
    assert metric(aggregator, spill) == 0


def outcome_of(owner: Identity, seq: int, outputs: list[bytes]) -> Outcomes:
    return Outcomes(owner, "w", [Outcome(seq, 1, 4, 0, 1, output=outputs[seq])])


def committed(world: World) -> Committed:
    group = world.broker.group(TOPICS.group("aggregators"))
    return group.committed.get(TopicPartition(TOPICS.job_events, 0), Committed(0, ""))


def metric(aggregator: Aggregator, name: str) -> float:
    return next(sample.value for sample in aggregator.samples() if sample.name == name)


async def test_a_broker_that_does_not_verify_partitions_is_refused_before_anything_is_written(world: World) -> None:
    world.broker.settings[VERIFICATION] = "false"
    await world.tell(*whole(job()))
    aggregator = build(SETTINGS, world.transport, InlineExecutor(all_kinds()), all_kinds())
    with pytest.raises(UnsafeBroker, match=r"broker 1 has transaction\.partition\.verification\.enable=false"):
        await aggregator.run(asyncio.Event())
    assert aggregator.not_ready_because is not None
    assert (world.finals(), world.statuses()) == ([], [])


async def test_a_broker_that_does_not_answer_is_waited_for_and_a_stop_ends_the_wait(world: World) -> None:
    world.broker.faults.unavailable = True
    aggregator = build(SETTINGS, world.transport, InlineExecutor(all_kinds()), all_kinds())
    stop = asyncio.Event()
    running = asyncio.create_task(aggregator.run(stop))
    await asyncio.sleep(0)
    assert not running.done()
    stop.set()
    async with asyncio.timeout(5):
        await running


async def test_events_that_retention_took_before_they_were_folded_are_counted(world: World) -> None:
    await world.start()
    await world.tell(*whole(job()))
    await world.final()
    committed = await world.committed()
    await world.stop()
    await world.tell(*whole(job(2)), *whole(job(3)))
    world.broker.delete_records(TopicPartition(TOPICS.job_events, 0), committed + 3)
    with capture_logs() as logs:
        aggregator = await world.start()
    (told,) = [entry for entry in logs if entry["event"] == "records-lost-to-retention"]
    assert (told["committed"], told["beginning"], told["log_level"]) == (committed, committed + 3, "error")
    await eventually(lambda: len(world.finals()) == 2, what="the third job's final")
    assert decode_final(world.finals()[1].headers).owner == job(3)
    assert lost(aggregator) == 3


async def test_nothing_counts_as_lost_where_the_first_fence_fails(world: World) -> None:
    await world.start()
    await world.tell(*whole(job()))
    await world.final()
    committed = await world.committed()
    await world.stop()
    world.broker.delete_records(TopicPartition(TOPICS.job_events, 0), committed - 1)
    failing = FirstFenceFails(world.broker)
    aggregator = build(SETTINGS, failing, InlineExecutor(all_kinds()), all_kinds())
    await world.run(aggregator)
    assert failing.failed
    assert lost(aggregator) == 0


async def test_jobs_that_come_near_to_the_retention_of_their_events_are_counted(world: World) -> None:
    aggregator = await world.start()
    day_ms = 24 * 3600 * 1000
    await world.tell(opened(job(), deadline_ms=30 * day_ms), Sealed(job(), 2, 8, "d"))
    await eventually(lambda: aggregator.events.owners[0].open_jobs == 1, what="the open job")
    assert near_retention(aggregator) == 0
    world.now_ms += 6 * day_ms
    await eventually(lambda: aggregator.events.owners[0].jobs_older_than(6 * day_ms - 1) == 1, what="a tick")
    assert near_retention(aggregator) == 0
    world.now_ms += day_ms // 2
    await eventually(lambda: near_retention(aggregator) == 1, what="the alarm after nine tenths of seven days")


def lost(aggregator: Aggregator) -> float:
    """Records of all topics."""
    return sum(sample.value for sample in aggregator.samples() if sample.name == "regather_records_lost_total")


def near_retention(aggregator: Aggregator) -> float:
    (value,) = [sample.value for sample in aggregator.samples() if sample.name == "regather_jobs_near_retention"]
    return value


async def test_progress_is_told_while_a_job_runs(world: World) -> None:
    await world.start()
    await world.tell(opened(job()), done(job(), 0, 1), Sealed(job(), 4, 16, "d"))
    await eventually(
        lambda: world.statuses() and (world.statuses()[-1].done, world.statuses()[-1].total) == (2, 4),
        what="the progress",
    )
    assert world.statuses()[-1].state is JobState.RUNNING


def test_jobs_spread_over_the_partitions() -> None:
    job_ids = [JobId(f"{n:032x}") for n in range(64)]
    assert {event_partition(job_id, 4) for job_id in job_ids} == {0, 1, 2, 3}


async def test_the_producer_of_ticks_is_stopped_with_the_aggregator(world: World) -> None:
    world.transport = watched = WatchedTransport(world.broker)
    await world.start()
    await world.tell(opened(job()))
    events = world.broker.log(TopicPartition(TOPICS.job_events, 0))
    await eventually(lambda: events.end > 1, what="a tick")
    await world.stop()
    assert [producer.dead for producer in watched.producers] == [True]


async def test_jobs_of_long_ago_do_not_end_again_when_the_groups_offsets_are_lost(world: World) -> None:
    await world.start()
    await world.tell(*whole(job(1)))
    await eventually(lambda: len(world.finals()) == 1, what="the first final")
    world.now_ms += 3 * 24 * 3600 * 1000
    await world.tell(*whole(job(2)))
    await eventually(lambda: len(world.finals()) == 2, what="the second final")
    await world.stop()
    world.broker.group(TOPICS.group("aggregators")).committed.clear()
    await world.start()
    await world.tell(*whole(job(3)))
    await eventually(lambda: job(3).job_id in [decode_final(record.headers).owner.job_id for record in world.finals()])
    assert [decode_final(record.headers).owner for record in world.finals()] == [job(1), job(2), job(3)]
