"""One partition's log: records, transactions, and what a read_committed reader may see of them."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from regather.core.errors import OffsetOutOfRange
from regather.transport.base import Headers, Record, TopicPartition


class TransactionState(Enum):
    """A transaction's fate."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of one producer epoch. What readers of a partition see of it is decided by that log's marker."""

    state: TransactionState = TransactionState.OPEN


class _Entry(NamedTuple):
    record: Record | None  # None is a control record: it takes an offset and nobody sees it
    transaction: Transaction | None


class PartitionLog:
    """Append-only. Offsets of control records are skipped by readers, as on a real broker."""

    def __init__(self, tp: TopicPartition) -> None:
        self._tp = tp
        self._entries: list[_Entry] = []
        self._open: dict[Transaction, int] = {}
        """Transactions without a marker here, by where they begin; the first one is the oldest."""
        self._aborted: set[Transaction] = set()
        self.beginning = 0

    @property
    def end(self) -> int:
        """Next offset to be written."""
        return self.beginning + len(self._entries)

    @property
    def last_stable(self) -> int:
        """Where the first open transaction begins, else the end."""
        return next(iter(self._open.values())) if self._open else self.beginning + len(self._entries)

    def append(
        self, key: bytes | None, value: bytes | None, headers: Headers, now_ms: int, transaction: Transaction | None
    ) -> Record:
        """Write one record at the end."""
        record = Record(*self._tp, self.end, now_ms, key, value, tuple(headers))
        if transaction is not None and transaction not in self._open:
            self._open[transaction] = self.end
        self._entries.append(_Entry(record, transaction))
        return record

    def append_marker(self, transaction: Transaction, state: TransactionState) -> None:
        """Write the control record that ends a transaction here."""
        self._open.pop(transaction, None)
        if state is TransactionState.ABORTED:
            self._aborted.add(transaction)
        self._entries.append(_Entry(None, None))

    def read(self, offset: int, limit: int | None) -> tuple[list[Record], int]:
        """Committed records from `offset` and the next position; OffsetOutOfRange where the log does not reach."""
        if not self.beginning <= offset <= self.end:
            raise OffsetOutOfRange(f"{self._tp}: offset {offset} is not in {self.beginning}..{self.end}")
        found: list[Record] = []
        stable = self.last_stable
        while offset < stable and (limit is None or len(found) < limit):
            record, transaction = self._entries[offset - self.beginning]
            if record is not None and (transaction is None or transaction not in self._aborted):
                found.append(record)
            offset += 1
        return found, offset

    def entry(self, offset: int) -> Record | None:
        """The record at an offset, committed or not; None for a marker."""
        return self._entries[offset - self.beginning].record

    def delete_before(self, offset: int) -> None:
        """Forget everything below `offset`, as retention does."""
        beginning = max(self.beginning, min(offset, self.end))
        del self._entries[: beginning - self.beginning]
        self.beginning = beginning
