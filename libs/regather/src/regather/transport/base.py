"""The log interface: records, producers, consumers, transactions. Kafka and the broker in memory implement it.

Clients handle bytes only. No serialiser runs inside them, so that Regather itself handles unreadable records. Every
call to a broker has a time limit. When it passes, the outcome is unknown, and the call raises BrokerUnavailable or
ProducerDead. Then drop the instance and make a new one.
"""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from regather.topics.rules import BrokerSettings, TopicSpec, TopicState

Headers = Sequence[tuple[str, bytes | None]]
"""Kafka allows a header without a value, which other producers may write."""

TRANSACTION_TIMEOUT_S = 20.0
"""After this time the broker aborts an open transaction. Until then it keeps read_committed readers waiting."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class RecordAddress(NamedTuple):
    """Where a sent record is in the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Record(NamedTuple):
    """A record as a consumer gets it. `timestamp_ms` is the broker's append time."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Committed(NamedTuple):
    """A group's committed offset and the metadata that was committed with it."""

    offset: int
    metadata: str


class RebalanceListener(Protocol):
    """Callbacks for assignments. They must return quickly and not raise: change state and pause, but work elsewhere."""

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """This member owns the partitions from now on; fetching may already have begun."""

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """This member loses the partitions when this returns; until then it may commit."""


class Producer(Protocol):
    """An idempotent producer with acks=all. After any failed record it is dead: stop it and make a new one."""

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""

    async def stop(self) -> None:
        """Flush and disconnect within a time limit; never raises, never hangs."""

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Awaitable[RecordAddress]:
        """Queue one record, after waiting for room in the buffer, and return an awaitable that resolves at its ack.

        The awaitable raises RecordTooLarge, Fenced, ProducerDead or BrokerUnavailable. Await every one of them.
        """

    @property
    def dead(self) -> bool:
        """True after any failed record, time-out or fencing."""


class TransactionalProducer(Producer, Protocol):
    """A producer with a transactional id: start() fences every older one of that id and ends its open transaction."""

    async def begin(self) -> None:
        """Begin a transaction; raises ProducerDead."""

    async def commit(self) -> None:
        """Await every record of the transaction, then commit. A failed record raises and makes the producer dead.

        A commit that returns proves nothing: read the records back.
        """


class Consumer(Protocol):
    """A member of a group, or a reader of manually assigned partitions."""

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""

    async def stop(self) -> None:
        """Leave the group and disconnect within a time limit; never raises, never hangs."""

    def subscribe(self, topics: Iterable[str], listener: RebalanceListener) -> None:
        """Join the group for these topics."""

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions without a group. A partition that stays assigned keeps its position."""

    @property
    def generation(self) -> int | None:
        """The generation of the latest assignment; None before the first.

        A member that misses a generation was not in the group meanwhile, and others may have owned its partitions.
        """

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Mapping[TopicPartition, list[Record]]:
        """Return the next records; wait for at most about `timeout_s`, then return {}.

        Raise OffsetOutOfRange if a position is not in the log. An error loses no record: each position stays at the
        next offset that was not returned.
        """

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop delivering records of these partitions. Keep polling all the same."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver records of these partitions again."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue this partition at the first record at or above `offset`."""

    async def position(self, partition: TopicPartition) -> int:
        """Return the next offset to deliver."""

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit these offsets; raise CommitRejected for an old generation or a partition that is not owned."""

    async def committed(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Committed | None]:
        """Return the group's committed offsets with their metadata."""

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that is still in the log."""

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the next offset to be written; for a read_committed consumer, the last stable offset."""

    async def written_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the next offset to be written, even if an open transaction keeps read_committed readers before it."""


class Transport(Protocol):
    """Makes clients and administers topics. Services get all their clients from it."""

    def producer(self, *, max_record_bytes: int) -> Producer:
        """Return a new idempotent producer."""

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        """Return a new producer that fences older ones of this id."""

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        """Return a new read_committed consumer that starts at the earliest record."""

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the missing topics and return their names."""

    async def partition_counts(self, topics: Iterable[str]) -> Mapping[str, int]:
        """Return the number of partitions of each existing topic; raise BrokerUnavailable. It never creates a topic."""

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic, up to `partitions`; raise TransportError if it has as many already."""

    async def topic_states(self, topics: Iterable[str]) -> Mapping[str, TopicState]:
        """Return replicas and settings of each existing topic; raise BrokerUnavailable or AccessDenied."""

    async def broker_settings(self, names: Iterable[str]) -> BrokerSettings:
        """Return these settings of every broker; raise BrokerUnavailable or AccessDenied."""

    async def close(self) -> None:
        """Release the factory's own resources."""
