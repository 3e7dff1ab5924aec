"""Keeps the gateway's one producer alive: starts it with back-off, and replaces it once it is dead."""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field

from regather.core.errors import BrokerUnavailable
from regather.service.environment import Environment
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.topics.layout import SHARD_RECORD_BYTES, Topics
from regather.transport.base import Producer, Transport

log = get_logger()
_FIRST_RETRY_S, _LAST_RETRY_S = 0.2, 5.0
_LOOK_S = 1.0
"""How often the keeper checks the producer. A record of an upload that was given up may kill it; then no upload
discards it, and none is submitted to a gateway that is not ready."""


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
