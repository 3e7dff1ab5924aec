"""Follows the `control` topic without a consumer group, so that no shard of a job that ended early runs."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from regather.core.errors import WireError
from regather.core.model import Identity
from regather.service.logs import get_logger
from regather.service.tailer import Tailer
from regather.topics.layout import Topics
from regather.transport.base import Record, TopicPartition, Transport
from regather.wire.control import decode_ended

log = get_logger()
_REMEMBERED = 100_000


class Control:
    """Remembers the latest 100,000 jobs that ended early, and calls `ended` with each one that it reads."""

    def __init__(self, transport: Transport, topics: Topics, ended: Callable[[Identity], None]) -> None:
        self._tail = Tailer(transport, topics.control, skip=True)
        self._tail.follow(TopicPartition(topics.control, 0), self._apply)
        self._ended = ended
        self._over: OrderedDict[Identity, None] = OrderedDict()

    def is_over(self, owner: Identity) -> bool:
        """Whether this job ended early."""
        return owner in self._over

    @property
    def loaded(self) -> asyncio.Event:
        """Set once every record that was in the topic at the start has been read."""
        return self._tail.loaded

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        await self._tail.run()

    def _apply(self, record: Record) -> None:
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
