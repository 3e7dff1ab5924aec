"""Writes large results as pieces to the segments topic, and reads them back before a final points at them."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import replace

from regather.service.logs import get_logger
from regather.wire.identity import HEADER, pack_identity
from regather_aggregator.planned_records import WHOLE_RESULT_BYTES, PlannedFinal, encoded_final
from regather_aggregator.segment_log import SegmentLog, SegmentRecord

log = get_logger()
SEGMENT_BYTES = WHOLE_RESULT_BYTES


class SegmentWriter:
    """Writes the results that do not fit into a final. No final points at segments that a crashed owner left."""

    def __init__(self, segments: SegmentLog) -> None:
        self._segments = segments

    async def with_segments(self, plan: PlannedFinal) -> PlannedFinal:
        """Write a large result to segments and return the plan that points at them; a small result stays in the plan.

        Raises TransportError or TimeoutError; the owner then begins a new epoch.
        """
        if not plan.segmented:
            return plan
        address = plan.status.result
        assert address is not None
        digest = await asyncio.to_thread(lambda: hashlib.sha256(plan.result).hexdigest())
        offsets = await self._segments.write(_pieces(plan))
        addresses = zip(offsets, map(len, _parts(plan.result)), strict=True)
        result = replace(address, segments=tuple(addresses), digest=f"sha256:{digest}")
        status = replace(plan.status, result=result)
        log.info("segments-written", job=status.owner.job_id, segments=len(offsets), bytes=address.size_bytes)
        return replace(plan, status=status, final=encoded_final(status, b"", plan.media_type))


def _pieces(plan: PlannedFinal) -> Iterator[SegmentRecord]:
    owner = plan.status.owner
    for index, part in enumerate(_parts(plan.result)):
        headers = [(HEADER, pack_identity(owner)), ("segment", str(index).encode())]
        yield owner.job_id.encode(), headers, bytes(part)


def _parts(result: bytes) -> Iterator[memoryview]:
    view = memoryview(result)
    return (view[at : at + SEGMENT_BYTES] for at in range(0, len(view), SEGMENT_BYTES))
