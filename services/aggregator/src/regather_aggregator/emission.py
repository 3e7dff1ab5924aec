"""Writes finals, statuses and releases: one transaction for all that is ready; awaits every ack before the commit."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from regather.core.model import Identity
from regather.core.status import JobStatus
from regather.topics.layout import Topics
from regather.transport.base import RecordAddress, TransactionalProducer
from regather.wire.control import encode_ended
from regather.wire.documents import INLINE_RESULT_BYTES, encode_status
from regather_aggregator.planned_records import Encoded, PlannedFinal, PlannedStatus

MAX_TRANSACTION_BYTES = 16 * 1024 * 1024


class Emitter:
    """Sends one transaction at a time through the fenced producer of one partition."""

    def __init__(self, producer: TransactionalProducer, topics: Topics, partition: int) -> None:
        self._producer = producer
        self._topics = topics
        self._partition = partition

    async def emit(
        self,
        finals: Sequence[PlannedFinal],
        progress: Sequence[PlannedStatus],
        releases: Sequence[Encoded] = (),
    ) -> list[RecordAddress]:
        """Write finals, statuses and releases in one transaction; return the addresses of the releases.

        Raises ProducerDead, RecordTooLarge or BrokerUnavailable; after that neither the producer nor this emitter can be
        used.
        """
        await self._producer.begin()
        released = [await self._release(record) for record in releases]
        beside = [await self._stop_workers(plan.status) for plan in finals if plan.status.ended_early]
        sent = [(await self._send(self._topics.results, plan.status.owner, plan.final), plan) for plan in finals]
        statuses = list(progress)
        for acked, plan in sent:
            small = len(plan.result) <= INLINE_RESULT_BYTES
            status = plan.status if small or plan.status.result is None else _located(plan.status, (await acked).offset)
            record = encode_status(status, plan.result if small and plan.status.result else None)
            statuses.append(PlannedStatus(status.owner, record))
        acks = [await self._send(self._topics.job_status, planned.owner, planned.record) for planned in statuses]
        for acked in (*(entry[0] for entry in sent), *acks):
            await acked
        for stopped in beside:
            await stopped
        addresses = [await release for release in released]
        await self._producer.commit()
        return addresses

    async def _release(self, record: Encoded) -> Awaitable[RecordAddress]:
        headers, value = record  # without a key, so that any worker may get it
        return await self._producer.send(self._topics.shards_retry, value=value, headers=headers)

    async def _stop_workers(self, status: JobStatus) -> Awaitable[RecordAddress]:
        """Publish that the job ended early, so that workers drop its shards."""
        headers, value = encode_ended(status.owner, status.state)
        key = status.owner.job_id.encode()
        return await self._producer.send(self._topics.control, value=value, key=key, headers=headers, partition=0)

    async def _send(self, topic: str, owner: Identity, encoded: Encoded) -> "asyncio.Future[RecordAddress]":
        headers, value = encoded
        key = owner.job_id.encode()
        acked = await self._producer.send(topic, value=value, key=key, headers=headers, partition=self._partition)
        return asyncio.ensure_future(acked)


def _located(status: JobStatus, offset: int) -> JobStatus:
    assert status.result is not None
    return replace(status, result=replace(status.result, offset=offset))
