"""What runs is recorded before, and what ran here does not run here again."""

import asyncio

from regather.core.crash_attribution import Attribution, CrashTracker
from regather.core.model import Identity, JobId, Shard, SubmissionId
from regather.core.watermark import Watermark
from regather.testing.waiting import eventually
from regather.topics.layout import Size, Topics, topic_specs
from regather.transport.base import Committed, Record, TopicPartition
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.wire.commits import decode_commit
from regather_worker.in_flight import Delivery, InFlight, QueuedShard
from regather_worker.ownership import Ownership

OWNER = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
TP = TopicPartition(Topics().shards_small, 0)
GUILTY = Attribution("lost", False, 2, frozenset({1}), frozenset({0}), 77)


class Member:
    """A worker's listener, which takes note of nothing."""

    async def on_assigned(self, partitions: object) -> None: ...

    async def on_revoked(self, partitions: object) -> None: ...


async def test_nothing_runs_alone_before_the_loss_of_another_shard_is_charged_and_committed() -> None:
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    await transport.create_topics(topic_specs(Topics(), Size.EMBEDDED))
    consumer = transport.consumer(group="workers")
    await consumer.start()
    consumer.subscribe([TP.topic], Member())
    await consumer.poll(0.01)
    ownership = Ownership("next")
    ownership.use(consumer)
    in_flight = InFlight(TP, Watermark(), CrashTracker("next", GUILTY, end=2))
    ownership.owned[TP] = in_flight
    deliveries = []
    for offset in (0, 1):
        in_flight.watermark.deliver(offset)
        deliveries.append(Delivery(in_flight, Record(*TP, offset, 0, None, b"", [])))
    suspect = QueuedShard(Shard(OWNER, 1, "k", b"{}", b""), [deliveries[1]])
    recording = asyncio.create_task(ownership.record_start([suspect], alone=True))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not recording.done()
    deliveries[0].ack()  # the loss was charged: its retry is published
    assert await recording
    committed = await eventually(lambda: broker.group("workers").committed.get(TP), what="the commit")
    attribution, _ = decode_commit(committed.offset, committed.metadata)
    assert (committed.offset, attribution.worker, attribution.running) == (1, "next", frozenset({1}))
    await consumer.stop()


async def assigned(ownership: Ownership) -> InFlight:
    ownership.assign([TP])
    await eventually(lambda: TP in ownership.owned, what="the partition")
    return ownership.owned[TP]


def deliver(in_flight: InFlight, *offsets: int) -> list[Delivery]:
    """The deliveries of those that are not settled yet, as the router makes them."""
    found = [offset for offset in offsets if in_flight.watermark.deliver(offset)]
    return [Delivery(in_flight, Record(*TP, offset, 0, None, b"", [])) for offset in found]


async def filled(count: int) -> tuple[MemoryBroker, Ownership]:
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    await transport.create_topics(topic_specs(Topics(), Size.EMBEDDED))
    producer = transport.producer(max_record_bytes=100)
    await producer.start()
    for _ in range(count):
        await (await producer.send(TP.topic, value=b"", partition=TP.partition))
    consumer = transport.consumer(group="workers")
    await consumer.start()
    consumer.subscribe([TP.topic], Member())
    await consumer.poll(0.01)
    ownership = Ownership("here")
    ownership.use(consumer)
    return broker, ownership


async def test_what_was_settled_here_and_not_committed_before_an_eviction_is_not_delivered_again() -> None:
    broker, ownership = await filled(6)
    first = deliver(await assigned(ownership), 0, 1, 2, 3, 4)
    for number in (0, 1, 3):
        first[number].ack()
    ownership.revoke()  # evicted: no commit gets through
    first[4].ack()  # it went on, and ended
    again = await assigned(ownership)
    assert [delivery.record.offset for delivery in deliver(again, 0, 1, 2, 3, 4, 5)] == [2, 5]
    assert again.watermark.committable() == (2, {3, 4})
    await ownership.commit()
    assert broker.group("workers").committed[TP].offset == 2


async def test_what_this_worker_was_told_of_another_log_is_forgotten() -> None:
    broker, ownership = await filled(6)
    broker.group("workers").committed[TP] = Committed(3, "")
    for delivery in deliver(await assigned(ownership), 3, 4):
        delivery.ack()
    ownership.revoke()
    broker.group("workers").committed[TP] = Committed(1, "")  # the topic was made anew
    assert [delivery.record.offset for delivery in deliver(await assigned(ownership), 1, 2, 3, 4)] == [1, 2, 3, 4]


async def test_after_an_eviction_a_marker_among_what_was_settled_here_does_no_harm() -> None:
    broker, ownership = await filled(2)
    releases = MemoryTransport(broker).transactional_producer("aggregator", max_record_bytes=100)
    await releases.start()
    for _ in range(2):  # offsets 2 and 4, their markers 3 and 5
        await releases.begin()
        await (await releases.send(TP.topic, value=b"", partition=TP.partition))
        await releases.commit()
    for delivery in deliver(await assigned(ownership), 0, 1, 2):
        delivery.ack()
    deliver(ownership.owned[TP], 4)
    ownership.revoke()
    (open_,) = deliver(await assigned(ownership), 0, 1, 2, 4)
    await ownership.commit()
    open_.ack()
    await ownership.commit()
    committed = broker.group("workers").committed[TP]
    assert (committed.offset, decode_commit(committed.offset, committed.metadata)[1]) == (5, set())


async def test_a_shard_is_not_named_as_running_while_there_is_nothing_to_commit_through() -> None:
    ownership = Ownership("leaving")
    in_flight = InFlight(TP, Watermark(), CrashTracker("leaving", GUILTY, end=2))
    ownership.owned[TP] = in_flight
    for delivery in deliver(in_flight, 0):
        delivery.ack()
    recording = asyncio.create_task(
        ownership.record_start([QueuedShard(Shard(OWNER, 1, "k", b"{}", b""), deliver(in_flight, 1))], alone=True)
    )
    await asyncio.wait([recording], timeout=0.3)
    assert not recording.done()
    ownership.revoke()
    assert await recording is False
