"""Reads finals, segments and checkpoints back as a committed reader (docs/protocol.md#emit).

A broker may answer a commit with OK and abort the transaction all the same, so only a record that was read back proves its
transaction. Of a transaction with releases and no final, the emission loop reads a release back. One with nothing but
progress reports is not read back: if it is lost, a later report replaces it.
"""

import asyncio
from dataclasses import dataclass

from regather.core.errors import BrokerUnavailable
from regather.service.tailer import Handler, Tailer
from regather.transport.base import TopicPartition, Transport

_STALL_S = 60.0


@dataclass(frozen=True, slots=True)
class OutputReaders:
    """One reader for each topic that this process writes in transactions, named as the topic."""

    results: "ReadBack"
    segments: "ReadBack"
    checkpoints: "ReadBack"


class ReadBack:
    """One read_committed reader of one output topic, for all partitions that this process owns."""

    def __init__(self, transport: Transport, topic: str, *, stall_s: float = _STALL_S) -> None:
        self.topic = topic
        self._stall_s = stall_s
        self._tail = Tailer(transport, topic, skip=False)

    async def follow(self, partition: int, from_offset: int, handler: Handler) -> None:
        """Pass every record at or above `from_offset` to `handler`; return once the current end is reached.

        It first waits, without a limit, until the reader has reached a broker. The handler gets later records as well,
        until leave(). Raises BrokerUnavailable if the reader makes no progress towards that end for `stall_s` seconds, or
        if another handler replaces this one meanwhile.
        """
        tp = TopicPartition(self.topic, partition)
        self._tail.follow(tp, handler, from_offset)
        consumer = await self._tail.ready()
        end = (await consumer.end_offsets([tp]))[tp]
        with self._tail.waiting(tp, end) as caught_up:
            while not caught_up.done():
                before = self._tail.position(tp)
                await asyncio.wait([caught_up], timeout=self._stall_s)
                if self._tail.position(tp) == before and not caught_up.done():
                    raise BrokerUnavailable(f"reading {self.topic} back makes no progress at offset {before}")
            if caught_up.cancelled():
                raise BrokerUnavailable(f"partition {partition} of {self.topic} is no longer followed")

    def leave(self, partition: int, handler: Handler) -> None:
        """Stop following this partition, unless another handler follows it by now; ends a follow() that still waits."""
        self._tail.leave(TopicPartition(self.topic, partition), handler)

    async def beginning(self, partition: int) -> int:
        """Return the first offset of this partition that is still in the log."""
        tp = TopicPartition(self.topic, partition)
        return (await (await self._tail.ready()).beginning_offsets([tp]))[tp]

    async def run(self) -> None:
        """Read until cancelled."""
        await self._tail.run()
