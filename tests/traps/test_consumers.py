"""Traps 5, 16, 22, 27, 28: readers that lose records, hang, or hold too much."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CorruptRecordException

from regather.core.errors import BrokerUnavailable, TransportError
from regather.testing.contract import Member, World
from regather.testing.fault_proxy import FaultProxy, Rule
from regather.testing.waiting import eventually
from regather.transport.base import Committed, Consumer, Record, TopicPartition, Transport
from regather.transport.kafka import Limits
from regather_aggregator.readback import ReadBack

pytestmark = pytest.mark.kafka
MIB = 1024 * 1024
GARBLE_ONCE = Rule("Fetch", "reply", "garble", count=1)


class NoListener:
    async def on_assigned(self, partitions: object) -> None: ...

    async def on_revoked(self, partitions: object) -> None: ...


async def two_partitions(direct: World) -> tuple[str, list[bytes]]:
    """A topic with three records in each partition, and their values."""
    topic = await direct.topic(2)
    for number in range(2):
        await direct.write(topic, *[b"%d-%d" % (number, n) for n in range(3)], partition=number)
    return topic, [b"%d-%d" % (number, n) for number in range(2) for n in range(3)]


async def read_on_through_errors(consumer: Consumer, count: int) -> list[bytes | None]:
    """Values of what is delivered until there are `count`, or nothing comes any more."""
    found: list[bytes | None] = []
    errors = 0

    async def enough() -> bool:
        nonlocal errors
        try:
            for records in (await consumer.poll(0.1)).values():
                found.extend(record.value for record in records)
        except TransportError:
            errors += 1
        return len(found) >= count

    await eventually(enough, timeout_s=5, what=f"{count} records")
    assert errors == 1, "the fault was not seen"
    return found


async def test_trap_5_the_client_drops_what_it_has_drained_of_one_partition_when_another_is_broken(
    direct: World, raw: Any, fault_proxy: FaultProxy
) -> None:
    topic, _ = await two_partitions(direct)
    fault_proxy.arm(GARBLE_ONCE)
    consumer = await raw.consumer(proxied=True)
    tps = [ClientPartition(topic, number) for number in range(2)]
    consumer.assign(tps)
    for tp in tps:
        consumer.seek(tp, 0)
    with pytest.raises(CorruptRecordException):
        await consumer.getmany(timeout_ms=5_000)
    assert sorted([await consumer.position(tp) for tp in tps]) == [0, 3], "three records were skipped"


async def test_trap_5_a_broken_batch_loses_no_record_of_the_other_partitions(
    direct: World, through: World, fault_proxy: FaultProxy
) -> None:
    topic, values = await two_partitions(direct)
    fault_proxy.arm(GARBLE_ONCE)
    reader = await through.reader(*(TopicPartition(topic, number) for number in range(2)))
    assert sorted(await read_on_through_errors(reader, 6), key=str) == values


@pytest.mark.parametrize("committed", [0, 1])
async def test_trap_5_nor_does_it_before_the_first_record_of_a_member_was_returned(
    direct: World, through: World, fault_proxy: FaultProxy, names: Iterator[str], committed: int
) -> None:
    topic, values = await two_partitions(direct)
    group = next(names)
    before = await direct.member(group, topic)
    await eventually(lambda: len(before.owned) == 2, what="the whole share")
    await before.consumer.commit({TopicPartition(topic, number): Committed(committed, "") for number in range(2)})
    await before.leave()
    fault_proxy.arm(GARBLE_ONCE)
    consumer = through.transport.consumer(group=group)
    await consumer.start()
    consumer.subscribe([topic], NoListener())
    try:
        wanted = [value for value in values if int(value[-1:]) >= committed]
        assert sorted(await read_on_through_errors(consumer, len(wanted)), key=str) == wanted
    finally:
        await consumer.stop()


async def test_trap_16_what_nobody_answers_a_consumer_ends_within_its_limit(
    through: World, fault_proxy: FaultProxy, names: Iterator[str]
) -> None:
    topic = await through.topic()
    tp = TopicPartition(topic, 0)
    member = await through.member(next(names), topic)
    await eventually(lambda: member.owned, what="the assignment")
    consumer = member.consumer
    for api in ("OffsetCommit", "OffsetFetch", "ListOffsets"):
        fault_proxy.arm(Rule(api, "request", "drop"))
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "a commit": lambda: consumer.commit({tp: Committed(1, "")}),
        "the committed offset": lambda: consumer.committed([tp]),
        "the beginning": lambda: consumer.beginning_offsets([tp]),
        "the end": lambda: consumer.end_offsets([tp]),
    }
    async with asyncio.timeout(8):
        ends = await asyncio.gather(*(call() for call in calls.values()), return_exceptions=True)
    assert dict(zip(calls, map(type, ends), strict=True)) == dict.fromkeys(calls, BrokerUnavailable)


async def test_trap_16_a_fetch_that_waits_for_records_does_not_delay_the_question_where_the_log_ends(
    through: World, fault_proxy: FaultProxy
) -> None:
    tp = TopicPartition(await through.topic(), 0)
    reader = await through.reader(tp)
    held = fault_proxy.arm(Rule("Fetch", "request", "hold"))  # and whatever follows on its connection
    poll = asyncio.create_task(reader.poll(60))
    await eventually(lambda: held.fired, what="a fetch that is not answered")
    assert await reader.written_offsets([tp]) == {tp: 0}
    poll.cancel()


async def test_trap_16_a_reader_that_was_just_assigned_something_else_stops_at_once(
    direct: World, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = [TopicPartition(await direct.topic(), 0) for _ in range(2)]
    consumer = direct.transport.consumer()
    await consumer.start()
    consumer.assign([first])
    consumer.seek(first, 0)
    await consumer.poll(0.1)
    consumer.assign([second])
    await consumer.stop()
    assert "cut off" not in caplog.text
    assert tasks_of_the_client() == []


async def test_trap_11_a_member_gets_the_partitions_that_its_topic_has_grown_by(
    direct: World, proxied_transport: Any, names: Iterator[str]
) -> None:
    topic = await direct.topic(1)
    transport = proxied_transport("grown", replace(Limits(), metadata_s=0.2))
    member = await Member(transport.consumer(group=next(names)), [topic]).join()
    try:
        await eventually(lambda: len(member.owned) == 1, what="the first partition")
        await transport.grow_topic(topic, 3)
        await eventually(lambda: len(member.owned) == 3, what="the new partitions")
    finally:
        await member.leave()


def tasks_of_the_client() -> list[str]:
    """Tasks that run code of the library."""
    coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
    return [coroutine.__qualname__ for coroutine in coroutines if "aiokafka" in coroutine.cr_code.co_filename]


@pytest.mark.parametrize("silent", [["LeaveGroup"], ["JoinGroup", "LeaveGroup"], ["OffsetCommit"]], ids="-".join)
async def test_trap_16_a_member_that_cannot_leave_is_cut_off_and_keeps_no_partition(
    direct: World, proxied_transport: Any, fault_proxy: FaultProxy, names: Iterator[str], silent: list[str]
) -> None:
    topic, group = await direct.topic(), next(names)
    patient = World(proxied_transport("patient", Limits(call_s=60, stop_s=1)), direct.delete_records)
    member = await patient.member(group, topic)
    await eventually(lambda: member.owned, what="the assignment")
    member.commit_on_revoke = {TopicPartition(topic, 0): Committed(0, "")}
    held, *_ = [fault_proxy.arm(Rule(api, "request", "hold")) for api in silent]
    if silent != ["LeaveGroup"]:
        newcomer = await direct.member(group, topic)
        await eventually(lambda: held.fired, what="a rebalance that does not end")
        await newcomer.leave()
    async with asyncio.timeout(8):
        await member.leave()
    assert held.fired
    await eventually(lambda: tasks_of_the_client() == [], timeout_s=3, what="the end of every task")
    fault_proxy.disarm()
    heir = await direct.member(group, topic)
    await eventually(lambda: heir.owned, timeout_s=5, what="the heir's share")


async def poll_until(consumer: Consumer, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await consumer.poll(0.05)


async def test_trap_12_a_client_to_which_nothing_comes_though_there_is_something_is_given_up(
    direct: World, proxied_transport: Any
) -> None:
    topic = await direct.topic()
    consumer = proxied_transport("silent", Limits(silence_s=0.3)).consumer()
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek(TopicPartition(topic, 0), 0)
        consumer._client._fetcher._fetch_task.cancel()  # how it stops by itself is not known; this is how it looks
        await direct.write(topic, b"there")
        with pytest.raises(BrokerUnavailable, match="has stopped fetching"):
            await poll_until(consumer, lambda: False)
    finally:
        await consumer.stop()


@pytest.mark.parametrize("why", ["the end", "an open transaction", "a pause"])
async def test_trap_12_one_to_which_nothing_can_come_is_left_alone(
    direct: World, proxied_transport: Any, fault_proxy: FaultProxy, names: Iterator[str], why: str
) -> None:
    topic = await direct.topic(2)
    tps = [TopicPartition(topic, number) for number in range(2)]
    if why == "an open transaction":
        producer = await direct.transactional(next(names))
        await producer.begin()
        await (await producer.send(topic, value=b"hidden", partition=0))
    else:
        await direct.write(topic, b"there")
    consumer = proxied_transport("idle", Limits(silence_s=0.2)).consumer()
    await consumer.start()
    try:
        consumer.assign(tps)
        if why == "a pause":
            consumer.pause(tps[:1])
        before = fault_proxy.passed("ListOffsets", "request").frames
        await poll_until(consumer, lambda: fault_proxy.passed("ListOffsets", "request").frames > before + 5)
    finally:
        await consumer.stop()


class Tail:
    """What stands at the end of a partition of which a reader wants to know that it has read it."""

    @staticmethod
    async def commit(direct: World, topic: str, name: str) -> None:
        producer = await direct.transactional(name)
        await producer.begin()
        await producer.send(topic, value=b"a", partition=0)
        await producer.commit()

    @staticmethod
    async def abort(direct: World, topic: str, name: str) -> None:
        await direct.write(topic, b"a")
        producer = await direct.transactional(name)
        await producer.begin()
        await (await producer.send(topic, value=b"never", partition=0))
        await direct.transactional(name)  # its start aborts what the first has left open

    @staticmethod
    async def record(direct: World, topic: str, name: str) -> None:
        await direct.write(topic, b"a")

    @staticmethod
    async def nothing(direct: World, topic: str, name: str) -> None:
        await direct.write(topic, b"a")
        await direct.delete_records(TopicPartition(topic, 0), 1)


async def test_trap_22_one_record_at_a_time_the_clients_position_stays_before_the_marker(
    direct: World, raw: Any, names: Iterator[str]
) -> None:
    topic = await direct.topic()
    await Tail.commit(direct, topic, next(names))
    consumer = await raw.consumer(isolation_level="read_committed")
    tp = ClientPartition(topic, 0)
    consumer.assign([tp])
    await consumer.seek_to_beginning(tp)
    await consumer.getone()
    end = (await consumer.end_offsets([tp]))[tp]
    assert (await consumer.position(tp), end) == (1, 2)


ReadBackOf = Callable[[Transport, str], ReadBack]


@pytest_asyncio.fixture
async def read_back_of() -> AsyncIterator[ReadBackOf]:
    tasks = []

    def start(transport: Transport, topic: str) -> ReadBack:
        read_back = ReadBack(transport, topic, stall_s=1.0)
        tasks.append(asyncio.create_task(read_back.run()))
        return read_back

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("tail", "values"), [("commit", [b"a"]), ("abort", [b"a"]), ("record", [b"a"]), ("nothing", [])]
)
async def test_trap_22_a_restore_reaches_the_end_whatever_stands_there(
    direct: World, names: Iterator[str], read_back_of: ReadBackOf, tail: str, values: list[bytes]
) -> None:
    topic = await direct.topic()
    await getattr(Tail, tail)(direct, topic, next(names))
    read_back = read_back_of(direct.transport, topic)
    seen: list[Record] = []
    async with asyncio.timeout(5):
        await read_back.follow(0, await read_back.beginning(0), seen.append)
    assert [record.value for record in seen] == values


async def test_trap_22_a_restore_that_stands_still_is_an_error(
    direct: World, through: World, fault_proxy: FaultProxy, read_back_of: ReadBackOf
) -> None:
    topic = await direct.topic()
    await direct.write(topic, b"a")
    fault_proxy.arm(Rule("Fetch", "reply", "hold"))
    with pytest.raises(BrokerUnavailable, match="makes no progress at offset 0"):
        async with asyncio.timeout(5):
            await read_back_of(through.transport, topic).follow(0, 0, lambda _: None)


async def test_trap_27_a_reader_holds_at_most_two_mebibytes_of_each_partition_and_asks_for_sixteen_at_once(
    direct: World, through: World, fault_proxy: FaultProxy
) -> None:
    partitions, records, size = 10, 3, 900_000
    topic = await direct.topic(partitions, max_record_bytes=MIB)
    producer = await direct.producer(max_record_bytes=MIB)
    acks = [
        await producer.send(topic, value=bytes(size), partition=number)
        for number in range(partitions)
        for _ in range(records)
    ]
    for ack in acks:
        await ack
    reader = await through.reader(*(TopicPartition(topic, number) for number in range(partitions)))
    replies = fault_proxy.passed
    await eventually(
        lambda: replies("Fetch", "reply").size_bytes > partitions * 2 * size, what="something of each partition"
    )
    assert replies("Fetch", "reply").size_bytes < partitions * 2 * MIB + MIB // 10
    assert replies("Fetch", "reply").largest_bytes < 16 * MIB + MIB // 10
    assert len(await through.read(reader, partitions * records)) == partitions * records


async def test_trap_28_one_poll_takes_what_has_arrived_of_every_partition(
    direct: World, through: World, fault_proxy: FaultProxy
) -> None:
    topic = await direct.topic(3)
    tps = [TopicPartition(topic, number) for number in range(3)]
    for tp in tps:
        await direct.write(topic, *[bytes(10_000)] * 5, partition=tp.partition)
    reader = await through.reader(*tps)
    await eventually(
        lambda: fault_proxy.passed("Fetch", "reply").size_bytes > 150_000, what="all records at the client"
    )
    found: dict[TopicPartition, int] = {}

    async def polled() -> bool:
        found.update({tp: len(records) for tp, records in (await reader.poll(0.1)).items()})
        return bool(found)

    await eventually(polled, what="the first poll with records")
    assert found == dict.fromkeys(tps, 5)
