"""Following `control` without a group: jobs that have ended early are not worked for any more."""

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
    """Knows the jobs that are over; `ended` tells of each one as it is heard of."""

    def __init__(self, transport: Transport, topics: Topics, ended: Callable[[Identity], None]) -> None:
        self._tail = Tailer(transport, topics.control, skip=True)
        self._tail.follow(TopicPartition(topics.control, 0), self._take)
        self._ended = ended
        self._over: OrderedDict[Identity, None] = OrderedDict()

    def is_over(self, owner: Identity) -> bool:
        """Whether this job ended early."""
        return owner in self._over

    @property
    def loaded(self) -> asyncio.Event:
        """Set once every job that was over before is known."""
        return self._tail.loaded

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        await self._tail.run()

    def _take(self, record: Record) -> None:
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
