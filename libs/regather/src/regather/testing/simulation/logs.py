"""The broker's topics: logs, their record size limits, and the readers to wake after a write."""

import random
from collections.abc import Callable, Mapping
from typing import Protocol

from regather.testing.simulation.history import History
from regather.testing.simulation.network import Answer
from regather.topics.rules import TopicSpec
from regather.transport.base import Headers, Record, RecordAddress, TopicPartition
from regather.transport.memory.log import PartitionLog, Transaction, TransactionState
from regather.transport.memory.topic_logs import TopicLogs

Content = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record."""


class LogObserver(Protocol):
    """Called at the moment when a log changes."""

    def appended(self, record: Record, transaction: Transaction | None) -> None:
        """Called after a record is written."""

    def marked(self, tp: TopicPartition, transaction: Transaction, state: TransactionState) -> None:
        """Called after a transaction is ended in this partition."""


class Logs:
    """The logs of all partitions. `now_ms` is the broker's clock."""

    def __init__(self, now_ms: Callable[[], int], chance: random.Random, history: History) -> None:
        self._now_ms = now_ms
        self._history = history
        self._topics = TopicLogs(lambda count: int(chance.random() * count))
        self.readers: dict[TopicPartition, dict[Callable[[], None], None]] = {}
        """Functions to call after a write to the partition."""
        self.observers: list[LogObserver] = []

    def create(self, spec: TopicSpec) -> bool:
        """Create a topic; False if it exists."""
        return self._topics.create(spec)

    def counts(self) -> Mapping[str, int]:
        """Return the partition count of every topic."""
        return self._topics.counts()

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of one topic."""
        return [TopicPartition(topic, number) for number in range(len(self._topics.of(topic)))]

    def log(self, tp: TopicPartition) -> PartitionLog:
        """Return the log of one partition; BrokerUnavailable if it does not exist."""
        return self._topics.log(tp)

    def committed(self, topic: str) -> list[Record]:
        """Return all records that a read_committed reader of a topic gets, by partition and offset."""
        return [record for log in self._topics.of(topic) for record in log.read(log.beginning, None)[0]]

    def committed_at(self, tp: TopicPartition, offset: int) -> Record | None:
        """Return the record at one offset if a read_committed reader gets it, else None."""
        log = self.log(tp)
        found = log.read(offset, 1)[0] if log.beginning <= offset < log.end else []
        return found[0] if found and found[0].offset == offset else None

    def place(self, topic: str, key: bytes | None, partition: int | None) -> TopicPartition:
        """Return the partition of a record: the given one, else chosen by its key, else any."""
        return self._topics.place(topic, key, partition)

    def append(self, tp: TopicPartition, content: Content, transaction: Transaction | None, answer: Answer) -> None:
        """Write one record and answer with its address, or with RecordTooLarge."""
        key, value, headers = content
        too_large = self._topics.too_large(tp.topic, value)
        if too_large is not None:
            answer(too_large)
            return
        record = self.log(tp).append(key, value, headers, self._now_ms(), transaction)
        self._history.note("broker", "append", *tp, record.offset)
        for observer in self.observers:
            observer.appended(record, transaction)
        self._wake(tp)
        answer(RecordAddress(tp.topic, tp.partition, record.offset, record.timestamp_ms))

    def mark(self, tp: TopicPartition, transaction: Transaction, state: TransactionState) -> None:
        """End a transaction in one partition."""
        self.log(tp).append_marker(transaction, state)
        self._history.note("broker", "marker", *tp, state.name)
        for observer in self.observers:
            observer.marked(tp, transaction, state)
        self._wake(tp)

    def _wake(self, tp: TopicPartition) -> None:
        for wake in self.readers.get(tp, ()):
            wake()
