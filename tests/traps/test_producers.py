"""Traps 4, 16, 26: producers that are poisoned, that wait without end, and records that are too large."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber

from regather.core.errors import BrokerUnavailable, ProducerDead, RecordTooLarge
from regather.core.sharding import MAX_SHARD_BYTES
from regather.testing.contract import World
from regather.testing.fault_proxy import FaultProxy, Rule
from regather.testing.waiting import eventually
from regather.topics.layout import Size, Topics, topic_specs
from regather.transport.base import TopicPartition, Transport
from regather_worker.outbox import Outbox, OutRecord

pytestmark = pytest.mark.kafka


async def test_trap_4_after_one_failed_batch_the_client_can_write_to_that_partition_no_more(
    direct: World, raw: Any
) -> None:
    topic = await direct.topic(2, max_record_bytes=100_000)
    producer = await raw.producer(enable_idempotence=True)
    await producer.send_and_wait(topic, b"before", partition=0)
    with pytest.raises(MessageSizeTooLargeError):
        await producer.send_and_wait(topic, b"x" * 150_000, partition=0)
    with pytest.raises(OutOfOrderSequenceNumber):
        await producer.send_and_wait(topic, b"after", partition=0)
    await producer.send_and_wait(topic, b"elsewhere", partition=1)


@pytest_asyncio.fixture
async def outbox(direct: World) -> AsyncIterator[Outbox]:
    found = Outbox(direct.transport, max_record_bytes=200_000)
    await found.start()
    yield found
    await found.stop()


async def test_trap_4_after_a_failed_record_the_next_ones_go_out_by_a_new_producer(
    direct: World, outbox: Outbox
) -> None:
    topic = await direct.topic(max_record_bytes=100_000)

    def record(value: bytes) -> OutRecord:
        return OutRecord(topic, value, None, (), 0)

    await outbox.publish([record(b"before")])
    with pytest.raises(RecordTooLarge):
        await outbox.publish([record(b"x" * 150_000)])
    async with asyncio.timeout(10):
        await outbox.publish([record(b"after"), record(b"and more")])
    records = await direct.read(await direct.reader(TopicPartition(topic, 0)), 3)
    assert [found.value for found in records] == [b"before", b"after", b"and more"]


async def test_trap_16_what_nobody_answers_ends_within_its_limit_and_the_outcome_is_unknown(
    through: World, proxied_transport: Callable[..., Transport], fault_proxy: FaultProxy
) -> None:
    topic, lost = await through.topic(), proxied_transport("lost")
    producer, blind = await through.producer(), lost.producer(max_record_bytes=1_000)
    await blind.start()
    committing = await through.transactional("commits")
    await committing.begin()
    await (await committing.send(topic, value=b"x", partition=0))
    waiting = through.transport.transactional_producer("starts", max_record_bytes=1_000)

    async def acked() -> None:
        await (await producer.send(topic, value=b"x", partition=0))

    calls: dict[str, tuple[Callable[[], Awaitable[Any]], type[Exception]]] = {
        "an ack": (acked, ProducerDead),
        "a commit": (committing.commit, ProducerDead),
        "a fence": (waiting.start, BrokerUnavailable),
        "a send to a topic that is new to it": (lambda: blind.send(topic, value=b"x"), BrokerUnavailable),
        "a question for topics": (lambda: lost.partition_counts([topic]), BrokerUnavailable),
    }
    for api in ("Produce", "EndTxn", "InitProducerId"):
        fault_proxy.arm(Rule(api, "request", "hold"))
    fault_proxy.arm(Rule("Metadata", "request", "hold", client_id="lost"))
    async with asyncio.timeout(8):
        ends = await asyncio.gather(*(call() for call, _ in calls.values()), return_exceptions=True)
    assert {name: type(end) for name, end in zip(calls, ends, strict=True)} == {
        name: error for name, (_, error) in calls.items()
    }
    assert [client.dead for client in (producer, blind, committing)] == [True] * 3
    assert fault_proxy.idle == ()
    fault_proxy.disarm()
    await blind.stop()


def tasks_of_the_client() -> list[str]:
    """Tasks that run code of the library."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return [coroutine.__qualname__ for coroutine in coroutines if "aiokafka" in coroutine.cr_code.co_filename]  # type: ignore[union-attr]


@pytest.mark.parametrize("transactional", [False, True])
async def test_trap_16_a_producer_that_cannot_flush_is_cut_off_and_nothing_of_it_lives_on(
    through: World, direct: World, fault_proxy: FaultProxy, transactional: bool
) -> None:
    topic = await direct.topic()
    producer = await through.transactional("cut-off") if transactional else await through.producer()
    if transactional:
        await producer.begin()  # type: ignore[union-attr] # parametrised
    fault_proxy.arm(Rule("Produce", "request", "drop"))
    ack = asyncio.ensure_future(await producer.send(topic, value=b"never", partition=0))
    await eventually(lambda: fault_proxy.idle == (), what="a batch on its way")
    async with asyncio.timeout(8):
        await producer.stop()
    with pytest.raises(ProducerDead):
        await ack
    await eventually(lambda: tasks_of_the_client() == [], timeout_s=3, what="the end of every task")
    fault_proxy.disarm()
    await direct.write(topic, b"later")
    records = await direct.read(await direct.reader(TopicPartition(topic, 0)), 1)
    assert [record.value for record in records] == [b"later"]


async def test_trap_17_a_commit_that_was_cancelled_kills_its_producer_for_it_may_still_land(
    direct: World, through: World, fault_proxy: FaultProxy
) -> None:
    topic = await direct.topic()
    producer = await through.transactional("cancelled-commit")
    await producer.begin()
    await producer.send(topic, value=b"lands", partition=0)
    held = fault_proxy.arm(Rule("EndTxn", "request", "hold"))
    committing = asyncio.create_task(producer.commit())
    await eventually(lambda: held.fired, what="the commit on its way")
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    assert producer.dead
    with pytest.raises(ProducerDead):
        await producer.begin()
    held.release()
    records = await direct.read(await direct.reader(TopicPartition(topic, 0)), 1)
    assert [record.value for record in records] == [b"lands"]


async def test_trap_26_a_batch_above_the_topics_limit_is_not_split_by_the_client(direct: World, raw: Any) -> None:
    topic = await direct.topic(max_record_bytes=50_000)
    producer = await raw.producer(enable_idempotence=True, linger_ms=50, max_batch_size=256 * 1024)
    acks = [await producer.send(topic, b"x" * 10_000, partition=0) for _ in range(8)]
    ends = await asyncio.gather(*acks, return_exceptions=True)
    assert {type(end) for end in ends} == {MessageSizeTooLargeError}


async def test_trap_26_small_records_never_make_a_batch_above_the_limit_of_one_record(direct: World) -> None:
    topic = await direct.topic(max_record_bytes=50_000)
    producer = direct.transport.producer(max_record_bytes=49_000)
    await producer.start()
    try:
        acks = [await producer.send(topic, value=b"x" * 10_000, partition=0) for _ in range(40)]
        assert [(await ack).offset for ack in acks] == list(range(40))
    finally:
        await producer.stop()


async def test_trap_26_the_largest_payload_fits_with_its_headers_wherever_a_payload_goes(
    direct: World,
) -> None:
    topics = Topics("largest.")
    await direct.transport.create_topics(topic_specs(topics, Size.EMBEDDED))
    headers = [("history", b"h" * 500_000)]
    specs = {spec.name: spec for spec in topic_specs(topics, Size.EMBEDDED)}
    for name in (topics.shards_small, topics.shards_retry, topics.job_events, topics.dead_letters):
        producer = await direct.producer(max_record_bytes=specs[name].max_record_bytes)
        await (await producer.send(name, value=bytes(MAX_SHARD_BYTES), headers=headers, partition=0))
        reader = await direct.reader(TopicPartition(name, 0))
        (record,) = await direct.read(reader, 1)
        assert len(record.value or b"") == MAX_SHARD_BYTES
        await reader.stop()


async def test_trap_33_a_start_that_is_cancelled_leaves_nothing_behind(through: World, fault_proxy: FaultProxy) -> None:
    held = fault_proxy.arm(Rule("InitProducerId", "request", "hold"))
    starting = asyncio.create_task(
        through.transport.transactional_producer("cancelled", max_record_bytes=1_000).start()
    )
    await eventually(lambda: held.fired, what="a start on its way")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert tasks_of_the_client() == []
