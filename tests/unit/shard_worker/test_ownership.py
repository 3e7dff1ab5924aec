"""Naming what is about to run: a commit that still tells of a loss names nothing else."""

import asyncio

from regather.core.custody import Custody, Handover
from regather.core.model import Identity, JobId, Shard, SubmissionId
from regather.core.watermark import Watermark
from regather.core.wire.commits import decode_commit
from regather.testing.waiting import eventually
from regather.transport.base import Record, TopicPartition
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.transport.topics import Size, Topics, topic_specs
from regather_worker.intake import PartitionIntake, Place, QueuedShard
from regather_worker.ownership import Ownership

OWNER = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
TP = TopicPartition(Topics().shards_small, 0)
GUILTY = Handover("lost", False, 2, frozenset({1}), frozenset({0}), 77)


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
    intake = PartitionIntake(TP, Watermark(), Custody("next", GUILTY, end=2))
    ownership.intakes[TP] = intake
    places = []
    for offset in (0, 1):
        intake.watermark.deliver(offset)
        places.append(Place(intake, Record(*TP, offset, 0, None, b"", [])))
    suspect = QueuedShard(Shard(OWNER, 1, "k", b"{}", b""), [places[1]])
    naming = asyncio.create_task(ownership.name([suspect], alone=True))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not naming.done()
    places[0].settle()  # the loss was charged: its retry is published
    assert await naming
    committed = await eventually(lambda: broker.group("workers").committed.get(TP), what="the commit")
    handover, _ = decode_commit(committed.offset, committed.metadata)
    assert (committed.offset, handover.worker, handover.running) == (1, "next", frozenset({1}))
    await consumer.stop()
