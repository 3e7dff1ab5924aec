"""A broker in memory, aggregators over it, and a hand that writes job events."""

import asyncio

from regather.core.ids import uuid7
from regather.core.model import (
    Event,
    Failure,
    Identity,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Reason,
    Sealed,
    SubmissionId,
)
from regather.core.status import JobStatus
from regather.processors.base import ShardView
from regather.processors.registry import all_kinds
from regather.testing.inline_executor import InlineExecutor
from regather.testing.waiting import eventually
from regather.topics.layout import EVENT_RECORD_BYTES, Topics
from regather.transport.base import Record, TopicPartition
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.wire.documents import decode_status
from regather.wire.events import encode_event
from regather_aggregator.app import Aggregator, build
from regather_aggregator.settings import AggregatorSettings

TOPICS = Topics()
SETTINGS = AggregatorSettings(progress_s=0.02, tick_s=0.02, heartbeat_timeout_s=0.2, max_result_bytes=2048)


class World:
    """One installation."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.broker = MemoryBroker(lambda: self.now_ms)
        self.transport = MemoryTransport(self.broker)
        self._running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    async def start(self, settings: AggregatorSettings = SETTINGS) -> Aggregator:
        return await self.run(build(settings, self.transport, InlineExecutor(all_kinds()), all_kinds()))

    async def run(self, aggregator: Aggregator) -> Aggregator:
        stop = asyncio.Event()
        self._running.append((stop, asyncio.create_task(aggregator.run(stop))))
        await eventually(lambda: aggregator.not_ready_because is None, what="a ready aggregator")
        return aggregator

    async def stop(self) -> None:
        for stop, task in self._running:
            stop.set()
            await task
        self._running.clear()

    async def tell(self, *events: Event) -> int:
        """Append events; the last one's offset."""
        producer = self.transport.producer(max_record_bytes=EVENT_RECORD_BYTES)
        await producer.start()
        for event in events:
            headers, value = encode_event(event)
            address = await (await producer.send(TOPICS.job_events, value=value, headers=headers, partition=0))
        return address.offset

    async def committed(self) -> int:
        """Where the group has committed once nothing is open: at the end of the log, ticks counted in."""
        tp = TopicPartition(TOPICS.job_events, 0)
        offsets, log = self.broker.group(TOPICS.group("aggregators")).committed, self.broker.log(tp)
        await eventually(lambda: tp in offsets and offsets[tp].offset == log.end, what="the commit")
        return offsets[tp].offset

    def finals(self) -> list[Record]:
        return self.broker.log(TopicPartition(TOPICS.results, 0)).read(0, None)[0]

    def statuses(self) -> list[JobStatus]:
        records = self.broker.log(TopicPartition(TOPICS.job_status, 0)).read(0, None)[0]
        return [decode_status(record.headers, record.value)[0] for record in records]

    async def final(self) -> Record:
        await eventually(self.finals, what="a final")
        return self.finals()[0]


def job(number: int = 1, submission: str = "00") -> Identity:
    return Identity(uuid7(number, bytes(10)), SubmissionId(submission * 8))


def opened(owner: Identity, on_error: OnError = OnError.FAIL, deadline_ms: int = 3_600_000) -> Opened:
    return Opened(owner, "diagnostics", b"{}", "", deadline_ms, on_error)


def done(owner: Identity, *seqs: int) -> Outcomes:
    return Outcomes(owner, "w", [Outcome(seq, 1, 4, 0, 1, output=_output(seq)) for seq in seqs])


def _output(seq: int) -> bytes:
    processor = all_kinds()["diagnostics"]
    return processor.process(ShardView(b"%04d" % seq, b"", seq, 0), processor.options_model())


def dead(owner: Identity, seq: int) -> Outcomes:
    return Outcomes(owner, "w", [Outcome(seq, 4, 4, 0, 1, failure=Failure(Reason.RAISED, "boom"))])


def whole(owner: Identity, shards: int = 3) -> list[Event]:
    return [opened(owner), done(owner, *range(shards)), Sealed(owner, shards, 4 * shards, "sha256:x")]
