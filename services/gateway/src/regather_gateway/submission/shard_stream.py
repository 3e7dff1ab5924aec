"""Sends shards to Kafka: chooses lane and partition, limits the shards without an ack, notes their offsets."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass

from regather.core.errors import TransportError
from regather.core.model import OffsetRange
from regather.transport.base import Headers, RecordAddress, TopicPartition
from regather_gateway.submission.producer_keeper import ProducerSession

SMALL_LANE_SHARDS = 8
"""The first shards of every job go to the lane that workers serve first (docs/protocol.md#topics)."""

_RUN_RECORDS, _RUN_BYTES = 64, 64 * 1024
"""Successive bulk shards go to one partition up to these limits: they form a batch for the client and the worker."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of one upload: bytes and records sent without an ack, seconds until an ack.

    `opened_before_shards`: no shard is sent before `opened` is acked.
    """

    window_bytes: int
    window_records: int
    ack_timeout_s: float
    opened_before_shards: bool


class ShardStream:
    """Sends one submission's shards. After a TransportError or TimeoutError the submission's state is unknown."""

    def __init__(self, session: ProducerSession, limits: UploadLimits) -> None:
        self._session = session
        self._send = session.producer.send
        self._limits = limits
        self._window: deque[tuple[Awaitable[RecordAddress], int]] = deque()
        self._window_bytes = 0
        self._bulk_partition = 0
        self._run_records = self._run_bytes = 0
        self._ranges: dict[TopicPartition, tuple[int, int]] = {}
        self.sent = 0

    async def send(self, payload: bytes, headers: Headers) -> None:
        """Send one more shard; wait while the window of unacked shards is full."""
        size_bytes = len(payload)
        topic, partition = self._lane(size_bytes)
        acked = await self._send(topic, value=payload, headers=headers, partition=partition)
        self._window.append((acked, size_bytes))
        self._window_bytes += size_bytes
        self.sent += 1
        if self._window_bytes > self._limits.window_bytes or len(self._window) > self._limits.window_records:
            await self._wait_for_room()

    async def flush(self) -> None:
        """Wait for the ack of everything sent so far."""
        async with asyncio.timeout(self._limits.ack_timeout_s):
            while self._window:
                await self._await_oldest()

    async def drop(self) -> None:
        """Wait for the acks of shards in transit, and ignore their errors."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.ack_timeout_s):
                while self._window:
                    with contextlib.suppress(TransportError):
                        await self._await_oldest()

    def shard_ranges(self) -> tuple[OffsetRange, ...]:
        """Return the offset ranges of the acked shards; records of other jobs may lie between them."""
        return tuple(OffsetRange(*tp, first, last) for tp, (first, last) in sorted(self._ranges.items()))

    def _lane(self, size_bytes: int) -> tuple[str, int]:
        session = self._session
        if self.sent < SMALL_LANE_SHARDS:
            return session.topics.shards_small, next(session.next_small) % session.small_partitions
        if self._run_records == 0 or self._run_records >= _RUN_RECORDS or self._run_bytes >= _RUN_BYTES:
            self._bulk_partition = next(session.next_bulk) % session.bulk_partitions
            self._run_records = self._run_bytes = 0
        self._run_records += 1
        self._run_bytes += size_bytes
        return session.topics.shards_bulk, self._bulk_partition

    async def _wait_for_room(self) -> None:
        limits = self._limits
        async with asyncio.timeout(limits.ack_timeout_s):
            while self._window_bytes > limits.window_bytes or len(self._window) > limits.window_records:
                await self._await_oldest()

    async def _await_oldest(self) -> None:
        acked, size_bytes = self._window.popleft()
        self._window_bytes -= size_bytes
        topic, partition, offset, _ = await acked
        tp = TopicPartition(topic, partition)
        first, last = self._ranges.get(tp, (offset, offset))
        self._ranges[tp] = (min(first, offset), max(last, offset))
