"""Following `control` without a group: jobs that have ended early are not worked for any more."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from regather.core.errors import TransportError, WireError
from regather.core.model import Identity
from regather.core.wire.control import decode_ended
from regather.runtime.logs import get_logger
from regather.transport.base import Consumer, Record, TopicPartition, Transport
from regather.transport.topics import Topics

log = get_logger()
_POLL_S = 0.2
_RETRY_S = 1.0
_REMEMBERED = 100_000


class Control:
    """Knows the jobs that are over; `ended` tells of each one as it is heard of."""

    def __init__(self, transport: Transport, topics: Topics, ended: Callable[[Identity], None]) -> None:
        self._transport = transport
        self._tp = TopicPartition(topics.control, 0)
        self._ended = ended
        self._over: OrderedDict[Identity, None] = OrderedDict()
        self._next_offset: int | None = None
        self.loaded = asyncio.Event()

    def is_over(self, owner: Identity) -> bool:
        """Whether this job ended early."""
        return owner in self._over

    async def run(self) -> None:
        """Follow the topic until cancelled; a broken reader goes on where it stood."""
        while True:
            consumer = self._transport.consumer()
            try:
                await self._follow(consumer)
            except TransportError as error:
                log.warning("control-restarts", error=repr(error))
            finally:
                await consumer.stop()
            await asyncio.sleep(_RETRY_S)

    async def _follow(self, consumer: Consumer) -> None:
        await consumer.start()
        consumer.assign([self._tp])
        beginning = (await consumer.beginning_offsets([self._tp]))[self._tp]
        consumer.seek(self._tp, max(beginning, self._next_offset or 0))
        end = (await consumer.end_offsets([self._tp]))[self._tp]
        while True:
            for record in (await consumer.poll(_POLL_S)).get(self._tp, ()):
                self._take(record)
            if not self.loaded.is_set() and await consumer.position(self._tp) >= end:
                self.loaded.set()

    def _take(self, record: Record) -> None:
        self._next_offset = record.offset + 1
        if record.value is None:
            return
        try:
            owner = decode_ended(record.headers, record.value)
        except WireError as error:
            log.warning("control-unreadable", offset=record.offset, error=str(error))
            return
        self._over[owner] = None
        while len(self._over) > _REMEMBERED:
            self._over.popitem(last=False)
        self._ended(owner)
