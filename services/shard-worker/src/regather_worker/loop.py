"""The worker's poll loop: it polls, decodes and queues records, and never runs a shard itself.

It pauses a partition while too many of its records or bytes are unacknowledged. It commits offsets only up to the
watermark; the commit's metadata holds a bitmap of the offsets settled above it, so that the next owner repeats little.
A revocation kills nothing: running shards end, and their results are published.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from regather.core.errors import CommitRejected, OffsetOutOfRange, TransportError, WireError
from regather.core.lanes import Lane
from regather.core.model import RecordPlace
from regather.service.lifecycle import first_of
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.topics.layout import SHARD_RECORD_BYTES, Topics
from regather.transport.base import Consumer, Record, TopicPartition, Transport
from regather.transport.log_reader import LogReader
from regather.wire.shards import decode_shard
from regather_worker.control import Control
from regather_worker.dispatch import Dispatcher
from regather_worker.in_flight import Delivery, InFlight, QueuedShard
from regather_worker.ownership import Ownership
from regather_worker.publish import Publisher
from regather_worker.settings import WorkerSettings

log = get_logger()
_POLL_S = 0.2
_RETRY_S = 1.0


class ShardLoop:
    """A member of the workers' group over the small, bulk and retry topics."""

    def __init__(
        self,
        transport: Transport,
        topics: Topics,
        settings: WorkerSettings,
        dispatcher: Dispatcher,
        publisher: Publisher,
        control: Control,
        ownership: Ownership,
    ) -> None:
        self._transport = transport
        self._topics = topics
        self._subscribed = (topics.shards_small, topics.shards_bulk, topics.shards_retry)
        self._settings = settings
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._control = control
        self._ownership = ownership
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._payloads = LogReader(transport, fetch_max_bytes=2 * SHARD_RECORD_BYTES)
        self._side_error: BaseException | None = None
        self._joined = False
        self.turns = 0
        """Iterations of the loop, including restarts while no broker answers."""

    @property
    def ready(self) -> bool:
        """True once this member has its partitions and the starting offset of each."""
        return self._joined and not self._ownership.starting

    @property
    def partitions(self) -> int:
        """Number of partitions that this member reads."""
        return len(self._ownership.owned)

    @property
    def open_records(self) -> int:
        """Records read and not yet acknowledged."""
        return sum(in_flight.watermark.open_count for in_flight in self._ownership.owned.values())

    @property
    def lost(self) -> Mapping[str, int]:
        """Records that retention deleted before a worker acknowledged them, by topic."""
        return {topic: self._ownership.lost[topic] for topic in self._subscribed}

    def lag_s(self, now_ms: int) -> float:
        """Return the age in seconds of the oldest unacknowledged record, by its broker timestamp; 0 without one."""
        owned = self._ownership.owned.values()
        oldest_ms = min((oldest for in_flight in owned if (oldest := in_flight.oldest_ms())), default=None)
        return 0.0 if oldest_ms is None else max(0.0, (now_ms - oldest_ms) / 1000)

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop` is set, replacing a consumer that fails; then drain what runs and cancel the rest."""
        await first_of(self._control.loaded, stop)  # first load the ended jobs: none of their shards may start
        await retrying(lambda: self._consume_until(stop), "shard-loop-restarts", first_s=_RETRY_S)
        await self._abandon()

    async def _consume_until(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            return
        self.turns += 1
        consumer = self._transport.consumer(group=self._topics.group("workers"), fetch_max_bytes=2 * SHARD_RECORD_BYTES)
        try:
            await consumer.start()
            self._ownership.use(consumer)
            consumer.subscribe(self._subscribed, self)
            await self._poll_until(consumer, stop)
        finally:
            await self._leave(consumer)
            await self._payloads.stop()

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Start a task that determines each partition's starting offset."""
        self._joined = True
        self._ownership.take(partitions)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit what is settled, with the clean-shutdown flag, and forget the partitions; running shards go on."""
        await self._commit_clean_shutdown()
        self._ownership.forget(partitions)

    async def _poll_until(self, consumer: Consumer, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        commit_due_s = loop.time() + self._settings.commit_s
        while not stop.is_set():
            self.turns += 1
            for tp, records in (await consumer.poll(_POLL_S)).items():
                in_flight = self._ownership.owned.get(tp)
                if in_flight is not None:
                    self._take(in_flight, records)
            broken = self._dispatcher.failed or self._side_error
            if broken is not None:
                raise RuntimeError("running a shard or publishing its result failed") from broken
            self._regulate(consumer)
            if loop.time() >= commit_due_s:
                commit_due_s = loop.time() + self._settings.commit_s
                with contextlib.suppress(CommitRejected):  # a rebalance is under way; a later commit covers the same
                    await self._ownership.commit()

    def _take(self, in_flight: InFlight, records: Sequence[Record]) -> None:
        bulk = in_flight.tp.topic == self._topics.shards_bulk
        for record in records:
            if not in_flight.deliver(record):
                continue
            delivery = Delivery(in_flight, record)
            try:
                shard = decode_shard(record.headers, record.value)
            except WireError as error:
                self._dead_letter_unreadable(delivery, str(error))
                continue
            queued = QueuedShard(shard, [delivery])
            if self._control.is_over(shard.owner):
                delivery.ack()
                self._dispatcher.dropped += 1
            elif shard.source is not None:
                self._beside(self._fetch(queued, shard.source))
            elif shard.chained and shard.seq > 0:
                self._beside(self._publisher.park(shard, delivery))
            else:
                self._pass_on(queued, Lane.BULK if bulk else Lane.SMALL)

    def _pass_on(self, queued: QueuedShard, lane: Lane) -> None:
        """Queue a shard, or publish a failed attempt if it crashed its previous worker."""
        delivery = queued.deliveries[0]
        crash = delivery.in_flight.crash_tracker.crash_at(delivery.record.offset)
        if crash is None:
            self._dispatcher.accept(queued, lane)
        else:
            self._beside(self._publisher.blame(queued, crash))

    async def _fetch(self, queued: QueuedShard, source: RecordPlace) -> None:
        """Read the payload of a released shard from the record that was parked, then queue the shard."""
        while queued.wanted:
            try:
                record = await self._payloads.read(TopicPartition(source.topic, source.partition), source.offset)
            except OffsetOutOfRange:
                await self._publisher.lost_payload(
                    queued, f"the payload at {source} is no longer in the log: retention deleted it"
                )
                return
            except TransportError as error:
                log.warning("payload-unread", job=queued.shard.owner.job_id, seq=queued.shard.seq, error=repr(error))
                await asyncio.sleep(_RETRY_S)
                continue
            queued.shard = queued.shard._replace(payload=record.value or b"")
            self._pass_on(queued, Lane.SMALL)
            return

    def _dead_letter_unreadable(self, delivery: Delivery, error: str) -> None:
        record = delivery.record
        log.warning(
            "record-unreadable", topic=record.topic, partition=record.partition, offset=record.offset, error=error
        )
        self._beside(self._publisher.dead_letter_unreadable(delivery, error))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="beside-the-loop")
        self._side_tasks.add(task)
        task.add_done_callback(self._ended_beside)

    def _ended_beside(self, task: asyncio.Task[None]) -> None:
        self._side_tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._side_error = task.exception()

    def _regulate(self, consumer: Consumer) -> None:
        """Pause a partition at the limit of open records or bytes, resume it at half: each pause drops the buffer."""
        limit, limit_bytes = self._settings.max_open_records, self._settings.max_open_bytes
        for in_flight in self._ownership.owned.values():
            open_count, open_bytes = in_flight.watermark.open_count, in_flight.open_bytes
            if not in_flight.paused and (open_count >= limit or open_bytes >= limit_bytes):
                consumer.pause([in_flight.tp])
                in_flight.paused = True
            elif in_flight.paused and open_count <= limit // 2 and open_bytes <= limit_bytes // 2:
                consumer.resume([in_flight.tp])
                in_flight.paused = False

    async def _abandon(self) -> None:
        """Cancel the work that is still under way: the next owner repeats it."""
        await self._dispatcher.abandon()
        tasks = list(self._side_tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _commit_clean_shutdown(self) -> None:
        with contextlib.suppress(TransportError):
            await self._ownership.commit(clean_shutdown=True)

    async def _leave(self, consumer: Consumer) -> None:
        if self._ownership.uses(consumer):  # a consumer that failed to start has nothing to drain
            self._dispatcher.stopped()
            await self._dispatcher.drain(self._settings.drain_s)
            await self._commit_clean_shutdown()
        self._ownership.use(None)
        self._joined = False
        self._ownership.forget()
        await consumer.stop()
