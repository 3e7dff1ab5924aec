"""Writing to Kafka: the gateway's one producer, and on it the events and the shards of a submission.

`ProducerKeeper` starts the producer with back-off and replaces it once it is dead. `SubmissionEvents` publishes the
events of one submission and sends heartbeats between them. `ShardStream` chooses lane and partition of its shards,
limits those without an ack, and notes their offsets. Whoever misses an ack discards the producer: what is still on its
way may be written or not, and a later record could be confirmed where an earlier one was lost.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from regather.core.errors import BrokerUnavailable, TransportError
from regather.core.ids import event_partition
from regather.core.model import Event, Identity, OffsetRange, Uploading
from regather.core.status import JobStatus
from regather.service.environment import Environment
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.topics.layout import SHARD_RECORD_BYTES, Topics
from regather.transport.base import Headers, Producer, RecordAddress, TopicPartition, Transport
from regather.wire.documents import encode_status
from regather.wire.events import encode_event

log = get_logger()
_FIRST_RETRY_S, _LAST_RETRY_S = 0.2, 5.0
_LOOK_S = 1.0
"""How often the keeper checks the producer. A record of an upload that was given up may kill it; then no upload
discards it, and none is submitted to a gateway that is not ready."""

ACCEPTED_KEY = b"accepted:"
"""Put before a job's key in job-status, so that compaction never keeps a gateway's status instead of the aggregator's.

A second submission's `accepted`, or a delayed one, may come after the end of the job in the log.
"""

SMALL_LANE_SHARDS = 8
"""The first shards of every job go to the lane that workers serve first (docs/protocol.md#topics)."""

_RUN_RECORDS, _RUN_BYTES = 64, 64 * 1024
"""Successive bulk shards go to one partition up to these limits: they form a batch for the client and the worker."""


@dataclass(slots=True)
class ProducerSession:
    """A live producer, and the partition counts of its topics.

    Jobs share one round-robin over the partitions: a job goes on where the previous one stopped.
    """

    producer: Producer
    topics: Topics
    small_partitions: int
    bulk_partitions: int
    event_partitions: int
    next_small: "itertools.count[int]" = field(default_factory=itertools.count)
    next_bulk: "itertools.count[int]" = field(default_factory=itertools.count)


class ProducerKeeper:
    """Keeps one producer alive, and starts a new one when it dies."""

    def __init__(self, transport: Transport, topics: Topics, environment: Environment) -> None:
        self._transport = transport
        self._environment = environment
        self._topics = topics
        self._session: ProducerSession | None = None
        self._wanted = asyncio.Event()
        self.why_not = "the producer was not started yet"

    @property
    def ready(self) -> bool:
        """True while there is a live producer."""
        return self._session is not None and not self._session.producer.dead

    def current(self) -> ProducerSession:
        """Return the live producer, or raise BrokerUnavailable with the reason why there is none."""
        session = self._session
        if session is not None and session.producer.dead:
            self.discard(session)
            session = None
        if session is None:
            raise BrokerUnavailable(f"no connection to Kafka: {self.why_not}")
        return session

    def discard(self, session: ProducerSession) -> None:
        """Discard this producer after a failure, so that another one is started.

        No effect if it has been replaced already: the failure of an upload on the old producer must not end uploads on
        its successor.
        """
        if self._session is session:
            self._session = None
            self.why_not = "the producer failed and is being replaced"
            self._wanted.set()

    async def run(self) -> None:
        """Start a producer, wait until it is discarded, start the next, until cancelled."""
        while True:
            session = await self._start_with_retries()
            self._wanted.clear()
            self._session = session
            log.info("producer-started")
            try:
                await self._discarded_or_dead(session.producer)
            finally:
                self._session = None
                await session.producer.stop()

    async def _discarded_or_dead(self, producer: Producer) -> None:
        while not (self._wanted.is_set() or producer.dead):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):  # wait_for() may swallow a cancellation
                    await self._wanted.wait()

    async def _start_with_retries(self) -> ProducerSession:
        return await retrying(
            self._start,
            "producer-start-failed",
            first_s=_FIRST_RETRY_S,
            last_s=_LAST_RETRY_S,
            on_error=self._note_why,
            jitter=self._environment.chance,
        )

    def _note_why(self, error: Exception) -> None:
        self.why_not = str(error)

    async def _start(self) -> ProducerSession:
        producer = self._transport.producer(max_record_bytes=SHARD_RECORD_BYTES)
        try:
            await producer.start()
            return await self._session_of(producer)
        except BaseException:
            await producer.stop()
            raise

    async def _session_of(self, producer: Producer) -> ProducerSession:
        topics = self._topics
        wanted = [topics.shards_small, topics.shards_bulk, topics.job_events, topics.job_status]
        counts = await self._transport.partition_counts(wanted)
        missing = [name for name in wanted if name not in counts]
        if missing:
            raise BrokerUnavailable(
                f"topics are missing: {', '.join(missing)}; create them with `python -m regather.service.topics_command`"
            )
        if counts[topics.job_events] != counts[topics.job_status]:
            raise BrokerUnavailable(
                f"{topics.job_events} has {counts[topics.job_events]} partitions and {topics.job_status} has "
                f"{counts[topics.job_status]}: they must be equal"
            )
        return ProducerSession(
            producer,
            topics,
            small_partitions=counts[topics.shards_small],
            bulk_partitions=counts[topics.shards_bulk],
            event_partitions=counts[topics.job_events],
        )


class SubmissionEvents:
    """Sends the events of one job, version and submission, and a heartbeat every `heartbeat_s`."""

    def __init__(self, session: ProducerSession, owner: Identity, *, ack_timeout_s: float, heartbeat_s: float) -> None:
        self._ack_timeout_s = ack_timeout_s
        self._heartbeat_s = heartbeat_s
        self._key = owner.job_id.encode()
        self._partition = event_partition(owner.job_id, session.event_partitions)
        self._timer: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None
        self.session = session
        self.owner = owner

    async def send(self, event: Event) -> Awaitable[RecordAddress]:
        """Send one event; return an awaitable of its ack."""
        headers, value = encode_event(event)
        topic = self.session.topics.job_events
        return await self.session.producer.send(
            topic, value=value, key=self._key, headers=headers, partition=self._partition
        )

    async def publish(self, event: Event) -> RecordAddress:
        """Send one event and wait for its ack."""
        async with asyncio.timeout(self._ack_timeout_s):
            return await (await self.send(event))

    async def publish_status(self, status: JobStatus) -> Awaitable[RecordAddress]:
        """Send a status for the views of all gateways; return an awaitable of its ack."""
        headers, value = encode_status(status)
        topic = self.session.topics.job_status
        return await self.session.producer.send(
            topic, value=value, key=ACCEPTED_KEY + self._key, headers=headers, partition=self._partition
        )

    def start_heartbeat(self, sent: Callable[[], int], on_ack: Callable[[int], object]) -> None:
        """Send heartbeats from now on; `sent` returns the number of shards sent, `on_ack` gets each log time in ms."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._heartbeat_s, self._beat_later, sent, on_ack)

    def stop_heartbeat(self) -> None:
        """Send no more heartbeats."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat_later(self, sent: Callable[[], int], on_ack: Callable[[int], object]) -> None:
        self._beating = asyncio.create_task(self._beat(sent(), on_ack), name="heartbeat")
        self.start_heartbeat(sent, on_ack)

    async def _beat(self, shards: int, on_ack: Callable[[int], object]) -> None:
        try:
            on_ack((await self.publish(Uploading(self.owner, shards))).timestamp_ms)
        except (TransportError, TimeoutError) as error:  # the upload itself gets the same error and handles it
            log.warning("heartbeat-failed", job=self.owner.job_id, error=repr(error))


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of one upload: bytes and records sent without an ack, seconds until an ack.

    `opened_before_shards`: no shard is sent before `opened` is acked.
    """

    window_bytes: int
    window_records: int
    ack_timeout_s: float
    opened_before_shards: bool


class ShardStream:
    """Sends one submission's shards. After a TransportError or TimeoutError the submission's state is unknown."""

    def __init__(self, session: ProducerSession, limits: UploadLimits) -> None:
        self._session = session
        self._send = session.producer.send
        self._limits = limits
        self._window: deque[tuple[Awaitable[RecordAddress], int]] = deque()
        self._window_bytes = 0
        self._bulk_partition = 0
        self._run_records = self._run_bytes = 0
        self._ranges: dict[TopicPartition, tuple[int, int]] = {}
        self.sent = 0

    async def send(self, payload: bytes, headers: Headers) -> None:
        """Send one more shard; wait while the window of unacked shards is full."""
        size_bytes = len(payload)
        topic, partition = self._lane(size_bytes)
        acked = await self._send(topic, value=payload, headers=headers, partition=partition)
        self._window.append((acked, size_bytes))
        self._window_bytes += size_bytes
        self.sent += 1
        if self._window_bytes > self._limits.window_bytes or len(self._window) > self._limits.window_records:
            await self._wait_for_room()

    async def flush(self) -> None:
        """Wait for the ack of everything sent so far."""
        async with asyncio.timeout(self._limits.ack_timeout_s):
            while self._window:
                await self._await_oldest()

    async def drop(self) -> None:
        """Wait for the acks of shards in transit, and ignore their errors."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.ack_timeout_s):
                while self._window:
                    with contextlib.suppress(TransportError):
                        await self._await_oldest()

    def shard_ranges(self) -> tuple[OffsetRange, ...]:
        """Return the offset ranges of the acked shards; records of other jobs may lie between them."""
        return tuple(OffsetRange(*tp, first, last) for tp, (first, last) in sorted(self._ranges.items()))

    def _lane(self, size_bytes: int) -> tuple[str, int]:
        session = self._session
        if self.sent < SMALL_LANE_SHARDS:
            return session.topics.shards_small, next(session.next_small) % session.small_partitions
        if self._run_records == 0 or self._run_records >= _RUN_RECORDS or self._run_bytes >= _RUN_BYTES:
            self._bulk_partition = next(session.next_bulk) % session.bulk_partitions
            self._run_records = self._run_bytes = 0
        self._run_records += 1
        self._run_bytes += size_bytes
        return session.topics.shards_bulk, self._bulk_partition

    async def _wait_for_room(self) -> None:
        limits = self._limits
        async with asyncio.timeout(limits.ack_timeout_s):
            while self._window_bytes > limits.window_bytes or len(self._window) > limits.window_records:
                await self._await_oldest()

    async def _await_oldest(self) -> None:
        acked, size_bytes = self._window.popleft()
        self._window_bytes -= size_bytes
        topic, partition, offset, _ = await acked
        tp = TopicPartition(topic, partition)
        first, last = self._ranges.get(tp, (offset, offset))
        self._ranges[tp] = (min(first, offset), max(last, offset))
