"""Writes to `segments` or `checkpoints` in transactions of bounded size, and reads each one back before the next."""

import asyncio
from collections.abc import Iterable, Sequence

from regather.core.errors import ProducerDead
from regather.core.grouping import groups
from regather.transport.base import Headers, Record, TransactionalProducer
from regather_aggregator.emission import MAX_TRANSACTION_BYTES
from regather_aggregator.readback import ReadBack

_READ_BACK_LIMIT_S = 30.0

SegmentRecord = tuple[bytes, Headers, bytes]
"""Key, headers and value."""


class SegmentLog:
    """One partition of `segments` or `checkpoints`, through the fenced producer of its owner."""

    def __init__(self, producer: TransactionalProducer, partition: int, read_back: ReadBack) -> None:
        self._producer = producer
        self._topic = read_back.topic
        self._partition = partition
        self._read_back = read_back

    async def write(self, records: Iterable[SegmentRecord]) -> list[int]:
        """Write the records; return their offsets once a committed reader has read them all.

        Raises ProducerDead, RecordTooLarge, BrokerUnavailable or TimeoutError; the owner then begins a new epoch. Draws
        from `records` one transaction at a time, so that they need not all be in memory.
        """
        offsets: list[int] = []
        for group in groups(records, lambda record: len(record[2]), MAX_TRANSACTION_BYTES):
            offsets += await self._write_group(group)
        return offsets

    async def _write_group(self, group: Sequence[SegmentRecord]) -> list[int]:
        await self._producer.begin()
        sent = [
            await self._producer.send(self._topic, value=value, key=key, headers=headers, partition=self._partition)
            for key, headers, value in group
        ]
        offsets = [(await acked).offset for acked in sent]
        await self._producer.commit()
        await self._see(offsets)
        return offsets

    async def _see(self, offsets: Sequence[int]) -> None:
        seen: set[int] = set()

        def see(record: Record) -> None:
            seen.add(record.offset)

        try:
            async with asyncio.timeout(_READ_BACK_LIMIT_S):
                await self._read_back.follow(self._partition, offsets[0], see)
        finally:
            self._read_back.leave(self._partition, see)
        if not seen.issuperset(offsets):
            raise ProducerDead(f"a transaction on {self._topic} was committed, but its records cannot be read back")
