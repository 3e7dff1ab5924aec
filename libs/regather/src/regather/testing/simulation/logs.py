"""The broker's topics: logs, their record size limits, and the readers to wake after a write."""

import random
from collections.abc import Callable
from typing import Protocol

from regather.testing.simulation.history import History
from regather.testing.simulation.network import Answer
from regather.transport.base import Headers, Record, RecordAddress, TopicPartition
from regather.transport.memory.log import Transaction, TransactionState
from regather.transport.memory.topic_logs import TopicLogs

Content = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record."""


class LogObserver(Protocol):
    """Called at the moment when a log changes."""

    def appended(self, record: Record, transaction: Transaction | None) -> None:
        """Called after a record is written."""

    def marked(self, tp: TopicPartition, transaction: Transaction, state: TransactionState) -> None:
        """Called after a transaction is ended in this partition."""


class Logs(TopicLogs):
    """Topics whose changes are observed, noted, and wake readers. `now_ms` is the broker's clock."""

    def __init__(self, now_ms: Callable[[], int], chance: random.Random, history: History) -> None:
        super().__init__(lambda count: int(chance.random() * count))
        self._now_ms = now_ms
        self._history = history
        self.readers: dict[TopicPartition, dict[Callable[[], None], None]] = {}
        """Functions to call after a write to the partition."""
        self.observers: list[LogObserver] = []

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of one topic."""
        return [TopicPartition(topic, number) for number in range(len(self.of(topic)))]

    def committed(self, topic: str) -> list[Record]:
        """Return all records that a read_committed reader of a topic gets, by partition and offset."""
        return [record for log in self.of(topic) for record in log.read(log.beginning, None)[0]]

    def committed_at(self, tp: TopicPartition, offset: int) -> Record | None:
        """Return the record at one offset if a read_committed reader gets it, else None."""
        log = self.log(tp)
        found = log.read(offset, 1)[0] if log.beginning <= offset < log.end else []
        return found[0] if found and found[0].offset == offset else None

    def append(self, tp: TopicPartition, content: Content, transaction: Transaction | None, answer: Answer) -> None:
        """Write one record and answer with its address, or with RecordTooLarge."""
        key, value, headers = content
        too_large = self.too_large(tp.topic, value)
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
