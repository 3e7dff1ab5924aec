"""Publishes records and waits for their acks.

A dead producer is replaced, and the same records are sent again. Consumers recognize the duplicates by their ids.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from regather.core.errors import BrokerUnavailable, ProducerDead, RecordTooLarge
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.transport.base import Headers, Producer, RecordAddress, Transport

log = get_logger()
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.1, 5.0


class OutRecord(NamedTuple):
    """A record to publish; without a key and a partition it goes to any partition."""

    topic: str
    value: bytes
    key: bytes | None
    headers: Headers
    partition: int | None = None


class Outbox:
    """One producer for all micro-batches of this process."""

    def __init__(self, transport: Transport, *, max_record_bytes: int) -> None:
        self._transport = transport
        self._max_record_bytes = max_record_bytes
        self._producer: Producer | None = None
        self._replacing = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether there is a producer that is not dead."""
        return self._producer is not None and not self._producer.dead

    async def start(self) -> None:
        """Connect, retrying until a broker answers."""
        await self._living()

    async def publish(self, records: Sequence[OutRecord]) -> list[RecordAddress]:
        """Send all records and await every ack, retrying for as long as it takes; return their addresses in order.

        Raises RecordTooLarge if a record can never be sent.
        """
        return await retrying(
            lambda: self._publish_once(records),
            "publish-again",
            first_s=_FIRST_BACKOFF_S,
            last_s=_MAX_BACKOFF_S,
            errors=(ProducerDead, BrokerUnavailable),
            records=len(records),
        )

    async def _publish_once(self, records: Sequence[OutRecord]) -> list[RecordAddress]:
        producer = await self._living()
        try:
            acks = [
                await producer.send(r.topic, value=r.value, key=r.key, headers=r.headers, partition=r.partition)
                for r in records
            ]
            return [await ack for ack in acks]
        except (RecordTooLarge, ProducerDead, BrokerUnavailable):
            await self._discard(producer)
            raise

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def _discard(self, producer: Producer) -> None:
        if self._producer is producer:
            self._producer = None
            await producer.stop()

    async def _living(self) -> Producer:
        async with self._replacing:
            if self._producer is None or self._producer.dead:
                self._producer = await retrying(
                    self._started,
                    "no-broker",
                    first_s=_FIRST_BACKOFF_S,
                    last_s=_MAX_BACKOFF_S,
                    errors=BrokerUnavailable,
                )
            return self._producer

    async def _started(self) -> Producer:
        producer = self._transport.producer(max_record_bytes=self._max_record_bytes)
        await producer.start()
        return producer
