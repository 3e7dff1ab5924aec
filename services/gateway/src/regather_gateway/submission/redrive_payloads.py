"""Reads the payloads of the shards that a redrive runs again, from the records of the job's first version."""

import contextlib
from collections.abc import AsyncGenerator

from regather.core.errors import OffsetOutOfRange
from regather.core.model import Shard
from regather.core.seq_ranges import numbers, ranges
from regather.transport.base import TopicPartition, Transport
from regather.transport.log_reader import LogReader
from regather.wire.identity import belongs_to
from regather.wire.shards import decode_shard, shard_headers
from regather_gateway.submission.redrive_plan import RedrivePlan
from regather_gateway.submission.upload import Shards

_FETCH_BYTES = 16 * 1024 * 1024


class Payloads:
    """Reads the shards of a job's first version, by the offset ranges in its seal."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def check(self, plan: RedrivePlan) -> None:
        """Raise OffsetOutOfRange if a payload is past its retention; call it before anything is written."""
        stored = plan.sealed.shard_ranges
        consumer = self._transport.consumer()
        try:
            await consumer.start()
            tps = [TopicPartition(part.topic, part.partition) for part in stored]
            beginnings = await consumer.beginning_offsets(tps)
        finally:
            await consumer.stop()
        for tp, part in zip(tps, stored, strict=True):
            if part.first < beginnings[tp]:
                raise OffsetOutOfRange(f"its shards in {tp.topic}-{tp.partition} are older than the retention")

    async def records(self, plan: RedrivePlan) -> Shards:
        """Yield the record of each shard that runs again once; OffsetOutOfRange if a shard is missing."""
        async with contextlib.aclosing(self._wanted(plan)) as shards:
            async for shard in shards:
                yield [(shard.payload, shard_headers(shard))]

    async def _wanted(self, plan: RedrivePlan) -> AsyncGenerator[Shard, None]:
        """Yield each shard that runs again, as a shard of the next version."""
        missing = set(numbers(plan.redriven.seqs))
        async with contextlib.aclosing(self._all(plan)) as shards:
            async for shard in shards:
                if shard.seq in missing:
                    missing.discard(shard.seq)
                    yield shard._replace(owner=plan.owner, timeout_ms=plan.timeout_ms or shard.timeout_ms)
                if not missing:
                    return
        raise OffsetOutOfRange(f"shards {ranges(sorted(missing))} are not at the offsets in the seal")

    async def _all(self, plan: RedrivePlan) -> AsyncGenerator[Shard, None]:
        mine = belongs_to(plan.first)
        reader = LogReader(self._transport, fetch_max_bytes=_FETCH_BYTES)
        try:
            for topic, partition, first, last in plan.sealed.shard_ranges:
                async for record in reader.records(TopicPartition(topic, partition), first, last + 1):
                    if mine(record.headers):
                        yield decode_shard(record.headers, record.value)
        finally:
            await reader.stop()
