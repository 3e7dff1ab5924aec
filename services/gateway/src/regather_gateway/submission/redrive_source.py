"""Reads what a redrive needs from the log: the job's events, and the payloads of its first version."""

import contextlib
from collections.abc import AsyncGenerator

from regather.core.errors import OffsetOutOfRange, WireError
from regather.core.model import Shard
from regather.core.redrive import VersionHistory
from regather.core.seq_ranges import numbers, ranges
from regather.core.status import JobStatus
from regather.transport.base import Record, TopicPartition, Transport
from regather.transport.log_reader import LogReader
from regather.wire.events import decode_event
from regather.wire.identity import belongs_to
from regather.wire.shards import decode_shard
from regather_gateway.submission.redrive_plan import RedrivePlan, never_sealed

_FETCH_BYTES = 16 * 1024 * 1024
_READ_LIMIT_S = 120.0


class JobEventsReader:
    """Folds a job's events into `history`; each read() goes on where the previous one stopped."""

    def __init__(self, transport: Transport, tp: TopicPartition, status: JobStatus) -> None:
        if status.events_offset is None:
            raise never_sealed(status)
        self._reader = LogReader(transport, fetch_max_bytes=_FETCH_BYTES, limit_s=_READ_LIMIT_S)
        self._tp = tp
        self._next = status.events_offset
        self._is_mine = belongs_to(status.owner, any_version=True)
        self.history = VersionHistory(status.owner, keep_outputs=False)

    async def read(self, until: int | None = None) -> None:
        """Fold the events since the last read(), up to but without the offset `until` (None: all)."""

        def fold(record: Record) -> bool:
            if until is not None and record.offset >= until:
                return False
            self._next = record.offset + 1
            if self._is_mine(record.headers):
                with contextlib.suppress(WireError):  # the aggregator folds it too, and counts and logs the error
                    self.history.take(decode_event(record.headers, record.value))
            return True

        await self._reader.scan(self._tp, self._next, fold)

    async def close(self) -> None:
        """Disconnect."""
        await self._reader.stop()


class Payloads:
    """The shards of a job's first version, read by the offset ranges in its seal."""

    def __init__(self, transport: Transport, plan: RedrivePlan) -> None:
        self._transport = transport
        self._plan = plan

    async def check(self) -> None:
        """Raise OffsetOutOfRange if a payload is past its retention; call it before anything is written."""
        places = self._plan.sealed.shard_ranges
        consumer = self._transport.consumer()
        try:
            await consumer.start()
            tps = [TopicPartition(place.topic, place.partition) for place in places]
            beginnings = await consumer.beginning_offsets(tps)
        finally:
            await consumer.stop()
        for tp, place in zip(tps, places, strict=True):
            if place.first < beginnings[tp]:
                raise OffsetOutOfRange(f"its shards in {tp.topic}-{tp.partition} are older than the retention")

    async def wanted(self) -> AsyncGenerator[Shard, None]:
        """Yield each shard that runs again once, as a shard of the next version; OffsetOutOfRange if one is missing."""
        plan, missing = self._plan, set(numbers(self._plan.redriven.seqs))
        async with contextlib.aclosing(self._all()) as shards:
            async for shard in shards:
                if shard.seq in missing:
                    missing.discard(shard.seq)
                    yield shard._replace(owner=plan.owner, timeout_ms=plan.timeout_ms or shard.timeout_ms)
                if not missing:
                    return
        raise OffsetOutOfRange(f"shards {ranges(sorted(missing))} are not at the offsets in the seal")

    async def _all(self) -> AsyncGenerator[Shard, None]:
        mine = belongs_to(self._plan.first)
        reader = LogReader(self._transport, fetch_max_bytes=_FETCH_BYTES)
        try:
            for topic, partition, first, last in self._plan.sealed.shard_ranges:
                async for record in reader.records(TopicPartition(topic, partition), first, last + 1):
                    if mine(record.headers):
                        yield decode_shard(record.headers, record.value)
        finally:
            await reader.stop()
