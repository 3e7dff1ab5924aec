"""One partition's log: records, transactions, and what read_committed readers see of them."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from regather.core.errors import OffsetOutOfRange
from regather.transport.base import Headers, Record, TopicPartition


class TransactionState(Enum):
    """The state of a transaction."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of one producer epoch. In each log its marker decides what readers see of it."""

    state: TransactionState = TransactionState.OPEN


class _Entry(NamedTuple):
    record: Record | None  # None is a control record: it takes an offset, and no reader sees it
    transaction: Transaction | None


class PartitionLog:
    """An append-only log. Readers skip the offsets of control records, as with a real broker."""

    def __init__(self, tp: TopicPartition) -> None:
        self._tp = tp
        self._entries: list[_Entry] = []
        self._open: dict[Transaction, int] = {}
        """Transactions without a marker in this log, with their first offset. The first one is the oldest."""
        self._aborted: set[Transaction] = set()
        self.beginning = 0

    @property
    def end(self) -> int:
        """The next offset to be written."""
        return self.beginning + len(self._entries)

    @property
    def last_stable(self) -> int:
        """The first offset of the oldest open transaction, else the end."""
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
        """Return committed records from `offset` on and the next position; raise OffsetOutOfRange outside the log."""
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
        """Return the record at an offset, committed or not; None for a marker."""
        return self._entries[offset - self.beginning].record

    def delete_before(self, offset: int) -> None:
        """Delete everything below `offset`, as retention does."""
        beginning = max(self.beginning, min(offset, self.end))
        del self._entries[: beginning - self.beginning]
        self.beginning = beginning
