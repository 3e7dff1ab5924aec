"""Large results: pieces in the segments topic, each seen by a committed read before the final may point at it."""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from regather.core.errors import ProducerDead
from regather.core.model import Identity
from regather.core.wire.identity import HEADER, pack_identity
from regather.runtime.logs import get_logger
from regather.transport.base import Record, TransactionalProducer
from regather.transport.topics import Topics
from regather_aggregator.emission import MAX_TRANSACTION_BYTES, PlannedFinal, encoded_final
from regather_aggregator.readback import ReadBack

log = get_logger()
SEGMENT_BYTES = 768 * 1024
_READ_BACK_LIMIT_S = 30.0
_SEGMENTS_A_TRANSACTION = MAX_TRANSACTION_BYTES // SEGMENT_BYTES


class SegmentWriter:
    """Writes the results that do not fit into a final. Segments of an owner that died are never pointed at."""

    def __init__(self, producer: TransactionalProducer, topics: Topics, partition: int, read_back: ReadBack) -> None:
        self._producer = producer
        self._topics = topics
        self._partition = partition
        self._read_back = read_back

    async def with_segments(self, plan: PlannedFinal) -> PlannedFinal:
        """Return the plan with its result in segments; raises ProducerDead or TimeoutError, as the emitter does."""
        if not plan.segmented:
            return plan
        address = plan.status.result
        assert address is not None
        digest = await asyncio.to_thread(lambda: hashlib.sha256(plan.result).hexdigest())
        addresses: list[tuple[int, int]] = []
        parts = list(_parts(plan.result))
        for first in range(0, len(parts), _SEGMENTS_A_TRANSACTION):
            group = parts[first : first + _SEGMENTS_A_TRANSACTION]
            offsets = await self._write(plan.status.owner, first, group)
            addresses += zip(offsets, map(len, group), strict=True)
        result = replace(address, segments=tuple(addresses), digest=f"sha256:{digest}")
        status = replace(plan.status, result=result)
        log.info("segments-written", job=status.owner.job_id, segments=len(addresses), bytes=address.size_bytes)
        return replace(plan, status=status, final=encoded_final(status, b"", plan.media_type))

    async def _write(self, owner: Identity, first: int, parts: Sequence[memoryview]) -> list[int]:
        await self._producer.begin()
        key = owner.job_id.encode()
        sent = []
        for index, part in enumerate(parts, first):
            headers = [(HEADER, pack_identity(owner)), ("segment", str(index).encode())]
            sent.append(
                await self._producer.send(
                    self._topics.segments, value=bytes(part), key=key, headers=headers, partition=self._partition
                )
            )
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
            self._read_back.leave(self._partition)
        if not seen.issuperset(offsets):
            raise ProducerDead("segments were committed and cannot be read")


def _parts(result: bytes) -> Iterator[memoryview]:
    view = memoryview(result)
    return (view[at : at + SEGMENT_BYTES] for at in range(0, len(view), SEGMENT_BYTES))
