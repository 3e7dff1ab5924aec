"""All topics of a broker in memory: their logs, their limits, and which partition a record goes to.

The broker in memory and the simulated broker both keep their records here; ADR 0030 says what else they share.
"""

from collections.abc import Callable, Mapping

from regather.core.errors import BrokerUnavailable, RecordTooLarge, TransportError
from regather.topics.rules import TopicSpec
from regather.transport.base import TopicPartition
from regather.transport.memory.log import PartitionLog


class TopicLogs:
    """Topics by name. `spread` chooses one of so many partitions for a record without a key."""

    def __init__(self, spread: Callable[[int], int]) -> None:
        self._spread = spread
        self._logs: dict[str, list[PartitionLog]] = {}
        self.specs: dict[str, TopicSpec] = {}

    def create(self, spec: TopicSpec) -> bool:
        """Create a topic; return False if it exists."""
        if spec.name in self._logs:
            return False
        self._logs[spec.name] = [PartitionLog(TopicPartition(spec.name, n)) for n in range(spec.partitions)]
        self.specs[spec.name] = spec
        return True

    def grow(self, topic: str, partitions: int) -> None:
        """Add empty partitions; raise TransportError for a topic that is missing or has as many already."""
        logs = self._logs.get(topic, [])
        if not 0 < len(logs) < partitions:
            raise TransportError(f"topic {topic} has {len(logs)} partitions and cannot have {partitions}")
        logs += [PartitionLog(TopicPartition(topic, number)) for number in range(len(logs), partitions)]

    def counts(self) -> Mapping[str, int]:
        """Return the number of partitions of every topic."""
        return {name: len(logs) for name, logs in self._logs.items()}

    def of(self, topic: str) -> list[PartitionLog]:
        """Return the logs of one topic, by partition."""
        return self._logs[topic]

    def log(self, tp: TopicPartition) -> PartitionLog:
        """Return one partition's log; raise BrokerUnavailable if it is missing, as a client does after a time-out."""
        try:
            return self._logs[tp.topic][tp.partition]
        except (KeyError, IndexError):
            raise BrokerUnavailable(f"partition {tp} does not exist") from None

    def place(self, topic: str, key: bytes | None, partition: int | None) -> TopicPartition:
        """Return the partition of a record: the given one, else chosen by its key, else any."""
        count = len(self._logs.get(topic, ()))
        if not count:
            raise BrokerUnavailable(f"topic {topic} does not exist")
        if partition is None:
            partition = self._spread(count) if key is None else sum(key) % count
        if not 0 <= partition < count:
            raise BrokerUnavailable(f"topic {topic} has {count} partitions, not {partition + 1}")
        return TopicPartition(topic, partition)

    def too_large(self, topic: str, value: bytes | None) -> RecordTooLarge | None:
        """Return the error for a value above the topic's limit."""
        size_bytes, limit = len(value or b""), self.specs[topic].max_record_bytes
        return RecordTooLarge(f"{size_bytes} bytes for {topic}, which accepts {limit}") if size_bytes > limit else None
