"""One partition's log: records, transactions, and what a read_committed reader may see of them."""

from dataclasses import dataclass
from enum import Enum, auto

from regather.core.errors import OffsetOutOfRange
from regather.transport.base import Headers, Record, TopicPartition


class TransactionState(Enum):
    """A transaction's fate."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of one producer epoch."""

    state: TransactionState = TransactionState.OPEN


@dataclass(frozen=True, slots=True)
class _Entry:
    record: Record | None  # None is a control record: it takes an offset and nobody sees it
    transaction: Transaction | None


class PartitionLog:
    """Append-only. Offsets of control records are skipped by readers, as on a real broker."""

    def __init__(self, tp: TopicPartition) -> None:
        self._tp = tp
        self._entries: list[_Entry] = []
        self.beginning = 0

    @property
    def end(self) -> int:
        """Next offset to be written."""
        return self.beginning + len(self._entries)

    @property
    def last_stable(self) -> int:
        """Where the first open transaction begins, else the end."""
        for at, entry in enumerate(self._entries):
            if entry.transaction is not None and entry.transaction.state is TransactionState.OPEN:
                return self.beginning + at
        return self.end

    def append(
        self, key: bytes | None, value: bytes | None, headers: Headers, now_ms: int, transaction: Transaction | None
    ) -> Record:
        """Write one record at the end."""
        record = Record(*self._tp, self.end, now_ms, key, value, tuple(headers))
        self._entries.append(_Entry(record, transaction))
        return record

    def append_marker(self) -> None:
        """Write the control record that ends a transaction."""
        self._entries.append(_Entry(None, None))

    def read(self, offset: int, limit: int | None) -> tuple[list[Record], int]:
        """Committed records from `offset` and the next position; OffsetOutOfRange where the log does not reach."""
        if not self.beginning <= offset <= self.end:
            raise OffsetOutOfRange(f"{self._tp}: offset {offset} is not in {self.beginning}..{self.end}")
        found: list[Record] = []
        stable = self.last_stable
        while offset < stable and (limit is None or len(found) < limit):
            entry = self._entries[offset - self.beginning]
            aborted = entry.transaction is not None and entry.transaction.state is TransactionState.ABORTED
            if entry.record is not None and not aborted:
                found.append(entry.record)
            offset += 1
        return found, offset

    def at_time(self, timestamp_ms: int) -> int:
        """First offset appended at or after a time, else the last stable one."""
        for entry in self._entries:
            if entry.record is not None and entry.record.timestamp_ms >= timestamp_ms:
                return entry.record.offset
        return self.last_stable

    def delete_before(self, offset: int) -> None:
        """Forget everything below `offset`, as retention does."""
        beginning = max(self.beginning, min(offset, self.end))
        del self._entries[: beginning - self.beginning]
        self.beginning = beginning
