"""Writes finals, statuses and releases: one transaction for all that is ready; awaits every ack before the commit."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace

from regather.core.model import JobState, Reason, Shard
from regather.core.reassembly import EmitFinal
from regather.core.status import JobStatus, ResultAddress
from regather.topics.layout import RESULT_RECORD_BYTES, Topics
from regather.transport.base import RecordAddress, TransactionalProducer
from regather.wire.control import encode_ended
from regather.wire.documents import INLINE_RESULT_BYTES, encode_final, encode_status
from regather.wire.shards import released_record

MAX_TRANSACTION_BYTES = 16 * 1024 * 1024
WHOLE_RESULT_BYTES = 768 * 1024
"""A larger result is not part of the final: it is written to segments, and the final points at them."""

_RECORD_OVERHEAD_BYTES = 4 * 1024

Encoded = tuple[list[tuple[str, bytes]], bytes]


@dataclass(frozen=True, slots=True)
class PlannedFinal:
    """A final and its status; the final is encoded and fits into a record."""

    status: JobStatus
    final: Encoded
    result: bytes
    media_type: str

    @property
    def segmented(self) -> bool:
        """Whether the result is too large for the final and goes to the segments topic."""
        return len(self.result) > WHOLE_RESULT_BYTES

    @property
    def size_bytes(self) -> int:
        """Bytes of the final's headers and value."""
        return record_bytes(self.final)


def record_bytes(encoded: Encoded) -> int:
    """Return the bytes of a record's headers and value."""
    headers, value = encoded
    return len(value) + sum(len(name) + len(content) for name, content in headers)


def plan_final(instruction: EmitFinal, partition: int) -> PlannedFinal:
    """Encode a final; one too large for a record becomes a minimal `failed: internal` (docs/protocol.md#barrier)."""
    job, result = instruction.job, instruction.result
    address = None
    if job.state in (JobState.SUCCEEDED, JobState.PARTIAL):
        address = ResultAddress(partition, None, len(result), instruction.media_type)
    status = job.status(address)
    final = encoded_final(status, result, instruction.media_type)
    if record_bytes(final) > RESULT_RECORD_BYTES - _RECORD_OVERHEAD_BYTES:
        return _minimal(status, record_bytes(final))
    return PlannedFinal(status, final, result, instruction.media_type)


def encoded_final(status: JobStatus, result: bytes, media_type: str) -> Encoded:
    """Return the final as a record, without a result that is too large for it."""
    return encode_final(status, result if len(result) <= WHOLE_RESULT_BYTES else b"", media_type)


def _minimal(status: JobStatus, size_bytes: int) -> PlannedFinal:
    failed = replace(
        status,
        state=JobState.FAILED,
        label="",
        gaps=(),
        errors=(),
        reason=Reason.INTERNAL,
        error=f"the final would have {size_bytes} bytes, above the limit of {RESULT_RECORD_BYTES}",
        result=None,
    )
    return PlannedFinal(failed, encode_final(failed, b"", ""), b"", "")


class Emitter:
    """Sends one transaction at a time through the fenced producer of one partition."""

    def __init__(self, producer: TransactionalProducer, topics: Topics, partition: int) -> None:
        self._producer = producer
        self._topics = topics
        self._partition = partition

    async def emit(
        self, finals: Sequence[PlannedFinal], progress: Sequence[JobStatus], releases: Sequence[Shard] = ()
    ) -> list[RecordAddress]:
        """Write finals, statuses and releases in one transaction; return the addresses of the releases.

        Raises ProducerDead; after that neither the producer nor this emitter can be used.
        """
        await self._producer.begin()
        released = [await self._release(shard) for shard in releases]
        beside = [await self._stop_workers(plan.status) for plan in finals if plan.status.ended_early]
        sent = [(await self._send(self._topics.results, plan.status, plan.final), plan) for plan in finals]
        statuses = [encode_status(status) for status in progress]
        owners = list(progress)
        for acked, plan in sent:
            small = len(plan.result) <= INLINE_RESULT_BYTES
            status = plan.status if small or plan.status.result is None else _located(plan.status, (await acked).offset)
            statuses.append(encode_status(status, plan.result if small and plan.status.result else None))
            owners.append(status)
        acks = [
            await self._send(self._topics.job_status, status, encoded)
            for status, encoded in zip(owners, statuses, strict=True)
        ]
        for acked in (*(entry[0] for entry in sent), *acks):
            await acked
        for record in beside:
            await record
        addresses = [await record for record in released]
        await self._producer.commit()
        return addresses

    async def _release(self, shard: Shard) -> Awaitable[RecordAddress]:
        headers, value = released_record(shard)  # without a key, so that any worker may get it
        return await self._producer.send(self._topics.shards_retry, value=value, headers=headers)

    async def _stop_workers(self, status: JobStatus) -> Awaitable[RecordAddress]:
        """Publish that the job ended early, so that workers drop its shards."""
        headers, value = encode_ended(status.owner, status.state)
        key = status.owner.job_id.encode()
        return await self._producer.send(self._topics.control, value=value, key=key, headers=headers, partition=0)

    async def _send(self, topic: str, status: JobStatus, encoded: Encoded) -> "asyncio.Future[RecordAddress]":
        headers, value = encoded
        key = status.owner.job_id.encode()
        acked = await self._producer.send(topic, value=value, key=key, headers=headers, partition=self._partition)
        return asyncio.ensure_future(acked)


def _located(status: JobStatus, offset: int) -> JobStatus:
    assert status.result is not None
    return replace(status, result=replace(status.result, offset=offset))


__all__ = ["MAX_TRANSACTION_BYTES", "Emitter", "PlannedFinal", "plan_final"]
