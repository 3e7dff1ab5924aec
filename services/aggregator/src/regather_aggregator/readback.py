"""Reads our own output back: the only proof that a transaction was committed (docs/protocol.md#emit)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from regather.core.errors import BrokerUnavailable, TransportError
from regather.runtime.logs import get_logger
from regather.transport.base import Consumer, Record, TopicPartition, Transport

log = get_logger()
_POLL_S = 0.2
_RETRY_S = 0.5
_STALL_S = 60.0

Handler = Callable[[Record], None]


@dataclass(slots=True, eq=False)  # compared by identity: two followers at the same offset must differ
class _Follower:
    next_offset: int
    handler: Handler
    waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OwnOutput:
    """Readers of the topics that this process writes in transactions."""

    finals: "ReadBack"
    segments: "ReadBack"
    checkpoints: "ReadBack"


class ReadBack:
    """One read_committed reader of one output topic, for all partitions that this process owns."""

    def __init__(self, transport: Transport, topic: str, *, stall_s: float = _STALL_S) -> None:
        self._transport = transport
        self.topic = topic
        self._stall_s = stall_s
        self._followers: dict[TopicPartition, _Follower] = {}
        self._consumer: Consumer | None = None
        self._changed = asyncio.Event()

    async def follow(self, partition: int, from_offset: int, handler: Handler) -> None:
        """Pass every record at or above `from_offset` to `handler`; return once the current end is reached.

        The handler gets later records as well, until leave(). Raises BrokerUnavailable if the reader makes no progress
        towards that end for `stall_s` seconds.
        """
        tp = TopicPartition(self.topic, partition)
        self._followers[tp] = follower = _Follower(from_offset, handler)
        self._changed.set()
        consumer = await self._ready()
        end = (await consumer.end_offsets([tp]))[tp]
        if follower.next_offset < end:
            caught_up = asyncio.get_running_loop().create_future()
            follower.waiting.append((end, caught_up))
            await self._caught_up(follower, caught_up)

    def leave(self, partition: int) -> None:
        """Stop following this partition; cancels a follow() that still waits."""
        follower = self._followers.pop(TopicPartition(self.topic, partition), None)
        for _, waiter in follower.waiting if follower else ():
            waiter.cancel()
        self._changed.set()

    async def beginning(self, partition: int) -> int:
        """Return the first offset of this partition that is still in the log."""
        tp = TopicPartition(self.topic, partition)
        return (await (await self._ready()).beginning_offsets([tp]))[tp]

    async def run(self) -> None:
        """Read until cancelled; replace a failed reader and go on at the same offsets."""
        while True:
            consumer = self._transport.consumer()
            try:
                await consumer.start()
                self._consumer = consumer
                self._changed.set()
                await self._read(consumer)
            except TransportError as error:
                log.warning("read-back-broken", error=repr(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                self._consumer = None
                await consumer.stop()

    async def _caught_up(self, follower: _Follower, caught_up: "asyncio.Future[None]") -> None:
        while not caught_up.done():
            before = follower.next_offset
            await asyncio.wait([caught_up], timeout=self._stall_s)
            if follower.next_offset == before and not caught_up.done():
                raise BrokerUnavailable(f"reading {self.topic} back makes no progress at offset {before}")
        caught_up.result()

    async def _ready(self) -> Consumer:
        while self._consumer is None:
            self._changed.clear()
            await self._changed.wait()
        return self._consumer

    async def _read(self, consumer: Consumer) -> None:
        assigned: dict[TopicPartition, _Follower] = {}
        while True:
            if not self._followers:
                self._changed.clear()
                await self._changed.wait()
            if assigned != self._followers:
                assigned = self._reassign(consumer, assigned)
            for tp, records in (await consumer.poll(_POLL_S)).items():
                follower = self._followers.get(tp)
                if follower is not None and follower is assigned.get(tp):
                    self._deliver(follower, records)
            await self._wake_waiters(consumer, assigned)

    def _reassign(
        self, consumer: Consumer, assigned: dict[TopicPartition, _Follower]
    ) -> dict[TopicPartition, _Follower]:
        current = dict(self._followers)
        consumer.assign(current)
        for tp, follower in current.items():
            if assigned.get(tp) is not follower:
                consumer.seek(tp, follower.next_offset)
        return current

    @staticmethod
    def _deliver(follower: _Follower, records: list[Record]) -> None:
        for record in records:
            if record.offset >= follower.next_offset:
                follower.next_offset = record.offset + 1
                follower.handler(record)

    async def _wake_waiters(self, consumer: Consumer, assigned: dict[TopicPartition, _Follower]) -> None:
        for tp, follower in assigned.items():
            if not follower.waiting or self._followers.get(tp) is not follower:
                continue
            position = await consumer.position(tp)  # also passes transaction markers, which are never delivered
            for end, waiter in follower.waiting:
                if position >= end and not waiter.done():
                    waiter.set_result(None)
            follower.waiting = [entry for entry in follower.waiting if not entry[1].done()]
