"""Comes past records that the client cannot decode: those with a header name that is no UTF-8.

The client decodes the names of headers while it hands out records. It has no way to skip one that fails: every poll
raises UnicodeDecodeError, for ever, and drops what it has drained of other partitions. So after such an error the
consumer finds out which partition was at fault, reads it one record at a time, and steps over each record that fails.
"""

import inspect
import time
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition

_FIRST_FETCH_MS, _NEXT_FETCH_MS = 1_000, 100
_MOST_S = 1.0
_MOST_AT_ONCE = 500
MARK = "unreadable"
"""The only header of the record that stands for an undecodable one. Its value is the error."""


class Undecodable(NamedTuple):
    """Stands for one record. The client tells no more of it than its place."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: None
    value: None
    headers: tuple[tuple[str, bytes], ...]


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


async def read_one_by_one(client: AIOKafkaConsumer, tp: ClientPartition, most: int | None) -> list[Any]:
    """Return the next records of a partition, at most `most`, with an Undecodable in place of each that fails.

    One at a time, because the client drops the records that it has drained when a later one fails. It stops after a
    second, so that a flood of such records does not keep other partitions waiting.
    """
    records: list[Any] = []
    until = time.monotonic() + _MOST_S
    while len(records) < (most or _MOST_AT_ONCE) and time.monotonic() < until:
        try:
            batch = await client.getmany(tp, timeout_ms=_NEXT_FETCH_MS if records else _FIRST_FETCH_MS, max_records=1)
        except UnicodeDecodeError as error:
            at_fault = partition_at_fault(client)
            if at_fault is None:
                break
            records.append(_in_place_of(*at_fault, records, error))
            client.seek(tp, at_fault[1] + 1)
            continue
        if not batch:
            break
        records += batch[tp]
    return records


def _in_place_of(tp: ClientPartition, offset: int, before: list[Any], error: UnicodeDecodeError) -> Undecodable:
    append_ms = before[-1].timestamp if before else time.time_ns() // 1_000_000
    text = f"the name of a header is no UTF-8: {error.object[:40]!r}"
    return Undecodable(tp.topic, tp.partition, offset, append_ms, None, None, ((MARK, text.encode()),))
