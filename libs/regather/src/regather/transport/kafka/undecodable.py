"""Comes past records that the client cannot decode: those with a header name that is no UTF-8.

The client decodes the names of headers while it hands out records. It has no way to skip one that fails: every poll
raises UnicodeDecodeError, for ever, and drops what it has drained of all partitions. So after such an error the consumer
goes back to its own positions and polls the partition at fault alone, up to the record that fails, in turns with all
others. Once that record is the next one, nothing is drained when it fails, and the consumer steps over it.

Each of these polls is one call of the client, whose records are returned at once: nothing can come in between.
"""

import inspect
import time
from collections.abc import Collection
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition

MARK = "unreadable"
"""The only header of the record that stands for an undecodable one. Its value is the error."""


class Undecodable(NamedTuple):
    """Stands for one record. The client tells no more of it than its place.

    In a compacted topic the place may be an offset before that of the record, whose own offset then fails as well.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: None
    value: None
    headers: tuple[tuple[str, bytes], ...]


class Turn(NamedTuple):
    """What to poll now: these partitions (none: all), so long, and at most so many records."""

    partitions: Collection[ClientPartition]
    timeout_ms: int
    max_records: int | None
    alone: bool = False


class Undecodables:
    """The partitions that are polled alone. Mutable, without IO."""

    def __init__(self) -> None:
        self._ahead: dict[ClientPartition, int] = {}
        """Offset of the undecodable record of each, as far as the client tells it."""

        self._singly: set[ClientPartition] = set()
        """Where offsets are unused between the position and that record: read one record at a time."""

        self._others_next = False

    def found(self, tp: ClientPartition, offset: int, position: int) -> bool:
        """Note a failed poll. Return whether the record at fault was the next one, so that nothing was drained."""
        if offset == position or tp in self._singly:
            self._singly.discard(tp)
            self._ahead[tp] = offset + 1  # the one behind it may be undecodable as well
            return True
        if tp in self._ahead:
            self._singly.add(tp)
        self._ahead[tp] = offset
        return False

    def turn(
        self,
        polled: Collection[ClientPartition],
        positions: dict[ClientPartition, int],
        timeout_ms: int,
        max_records: int | None,
    ) -> Turn:
        """Return what to poll now: a partition with an undecodable record alone, then all others, and so on."""
        alone = next((tp for tp in self._ahead if tp in polled), None)
        if alone is None:
            return Turn((), timeout_ms, max_records)
        others = [tp for tp in polled if tp != alone]
        if others and self._others_next:
            self._others_next = False
            return Turn(others, 0, max_records)
        self._others_next = True
        before = 1 if alone in self._singly else max(1, self._ahead[alone] - positions.get(alone, 0))
        return Turn((alone,), timeout_ms, before if max_records is None else min(before, max_records), alone=True)

    def polled(self, turn: Turn, found: dict[ClientPartition, Any]) -> None:
        """Note a poll without an error: a partition that has come past its record is polled with the others again."""
        for tp in turn.partitions if turn.alone else ():
            if tp not in found or found[tp][-1].offset >= self._ahead.get(tp, 0):
                self._ahead.pop(tp, None)
                self._singly.discard(tp)


def partition_at_fault(client: AIOKafkaConsumer) -> tuple[ClientPartition, int] | None:
    """Return partition and offset of the record at fault, right after a poll raised UnicodeDecodeError.

    The client tells neither. The one among its partitions whose iterator has ended by an error is at fault.
    """
    fetched: dict[ClientPartition, Any] = client._fetcher._records
    for tp, result in fetched.items():
        records = getattr(result, "_partition_records", None)
        iterator = getattr(records, "_records_iterator", None)
        if records is not None and iterator is not None and inspect.getgeneratorstate(iterator) == inspect.GEN_CLOSED:
            return tp, int(records.next_fetch_offset)
    return None


def in_place_of(tp: ClientPartition, offset: int, error: UnicodeDecodeError) -> Undecodable:
    """Return the record that stands for the one at this place."""
    text = f"the name of a header is no UTF-8: {error.object[:40]!r}"
    return Undecodable(
        tp.topic, tp.partition, offset, time.time_ns() // 1_000_000, None, None, ((MARK, text.encode()),)
    )
