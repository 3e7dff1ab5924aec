"""What Regather asks of a log: records, producers, consumers, transactions. Two brokers give it: Kafka and memory.

Bytes only: no serialiser runs inside a client, so that an unreadable record is ours to handle. Every call that talks to
a broker has a time limit; when it passes, the outcome is unknown and `BrokerUnavailable` or `ProducerDead` is raised,
after which the instance is thrown away.
"""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from regather.topics.rules import BrokerSettings, TopicSpec, TopicState

Headers = Sequence[tuple[str, bytes]]

TRANSACTION_TIMEOUT_S = 20.0
"""The broker ends a transaction that nobody ends after so long; until then it keeps every committed reader waiting."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class RecordAddress(NamedTuple):
    """Where a record that was sent stands in the log."""

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
    """Told of assignments. Must return quickly and must not raise: flip state and pause, work elsewhere."""

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Partitions that this member owns from now on; fetching may already have begun."""

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Partitions that are taken away when this returns; a commit is still allowed inside."""


class Producer(Protocol):
    """Idempotent, acks=all. After any failed record the instance is dead: stop it and make a new one."""

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
        """Queue one record (waits while the buffer is full) and return what resolves at its ack.

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
        """Await every record of the transaction, then commit; any failed record raises and kills the producer.

        A commit that returns proves nothing: read the records back.
        """


class Consumer(Protocol):
    """A member of a group, or a reader of partitions that it was assigned by hand."""

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""

    async def stop(self) -> None:
        """Leave the group and disconnect within a time limit; never raises, never hangs."""

    def subscribe(self, topics: Iterable[str], listener: RebalanceListener) -> None:
        """Join the group for these topics."""

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions without a group; positions of partitions kept are kept."""

    @property
    def generation(self) -> int | None:
        """The group's generation that the newest assignment is of; None before the first.

        A member that misses one was not in the group meanwhile: others may have owned its partitions.
        """

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Mapping[TopicPartition, list[Record]]:
        """Return what is there, waiting at most about `timeout_s`; {} if nothing.

        Raises OffsetOutOfRange where a position is not in the log. After any error no record is lost: positions stay at
        the next offset that was not returned.
        """

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop delivering these; keep polling all the same."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver these again."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """The next record of this partition is the first at or above `offset`."""

    async def position(self, partition: TopicPartition) -> int:
        """The next offset to be delivered."""

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit explicit offsets; raises CommitRejected for an old generation or a partition not owned."""

    async def committed(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Committed | None]:
        """The group's committed offsets with their metadata."""

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """First offset still in the log."""

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Next offset to be written; for a read_committed consumer the last stable offset."""

    async def written_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Next offset to be written, even where an open transaction keeps a read_committed reader from getting there."""


class Transport(Protocol):
    """Makes clients. The only way in which a service gets one."""

    def producer(self, *, max_record_bytes: int) -> Producer:
        """An idempotent producer."""

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        """A fencing producer."""

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        """A read_committed consumer that starts at the earliest record."""

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create what is missing; names of the topics created."""

    async def partition_counts(self, topics: Iterable[str]) -> Mapping[str, int]:
        """Partitions of each topic that exists; raises BrokerUnavailable. Asking creates none, whatever the brokers do."""

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic, up to `partitions`; TransportError where it has as many already."""

    async def topic_states(self, topics: Iterable[str]) -> Mapping[str, TopicState]:
        """Where the partitions of each topic that exists are, and its settings; raises BrokerUnavailable, AccessDenied."""

    async def broker_settings(self, names: Iterable[str]) -> BrokerSettings:
        """These settings of every broker; raises BrokerUnavailable, AccessDenied."""

    async def close(self) -> None:
        """Release what the factory itself holds."""
