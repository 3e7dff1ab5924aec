"""Following partitions without a group, each from an offset of its own: what views, readers and read-back stand on.

One consumer reads all partitions that a tailer follows. Each has a handler, which gets its records once and in order, and a
position: the offset up to which everything was read. Positions step over transaction markers, which no record shows, so
`waiting()` ends even where a log's last entry is a marker. A consumer that fails is replaced, and each partition goes on
where it stood; whoever waits goes on waiting. Where retention has deleted what was to come next, a tailer that may `skip`
goes on with the oldest record that there is. One that may not fails again and again until nobody follows that partition,
because whoever reads its own output must not miss a record.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.transport.base import Consumer, Record, TopicPartition, Transport

log = get_logger()
_POLL_S = 0.2
_RETRY_S = 0.5

Handler = Callable[[Record], None]


@dataclass(slots=True, eq=False)  # compared by identity: following a partition anew at the same offset is another one
class _Followed:
    handler: Handler
    position: int
    loaded_at: int | None = None
    waiting: "list[tuple[int, asyncio.Future[None]]]" = field(default_factory=list)


class Tailer:
    """Follows partitions. `loaded` is set while it reads and has reached the ends that it found at its start."""

    def __init__(self, transport: Transport, name: str, *, skip: bool) -> None:
        self._transport = transport
        self._name = name
        self._skip = skip
        self._followed: dict[TopicPartition, _Followed] = {}
        self._consumer: Consumer | None = None
        self._changed = asyncio.Event()
        self.loaded = asyncio.Event()
        self.turns = 0
        """Turns of its loop, for a watchdog."""

    @property
    def consumer(self) -> Consumer | None:
        """What asks the broker now; None while it is being replaced."""
        return self._consumer

    async def ready(self) -> Consumer:
        """Return the consumer, once there is one."""
        while self._consumer is None:
            self._changed.clear()
            await self._changed.wait()
        return self._consumer

    def follow(self, tp: TopicPartition, handler: Handler, from_offset: int = 0) -> None:
        """Give every record at or above `from_offset` to `handler`, instead of what followed this partition before."""
        self._end(tp)
        self._followed[tp] = _Followed(handler, from_offset)

    def leave(self, tp: TopicPartition, handler: Handler) -> None:
        """Follow this partition no longer, if it is `handler` that follows it; whoever waits for it is cancelled."""
        followed = self._followed.get(tp)
        if followed is not None and followed.handler == handler:
            self._end(tp)

    def _end(self, tp: TopicPartition) -> None:
        followed = self._followed.pop(tp, None)
        for _, waiter in followed.waiting if followed else ():
            waiter.cancel()
        self._changed.set()

    def position(self, tp: TopicPartition) -> int | None:
        """The offset up to which a partition was read; None if it is not followed."""
        followed = self._followed.get(tp)
        return None if followed is None else followed.position

    async def step_over_markers(self, tp: TopicPartition) -> int:
        """Move the position of a followed partition past markers at its end, and return it.

        While no consumer reads, return the position as it was last known.
        """
        followed, consumer = self._followed[tp], self._consumer
        if consumer is None:
            return followed.position
        followed.position = max(followed.position, await consumer.position(tp))
        return followed.position

    @contextlib.contextmanager
    def waiting(self, tp: TopicPartition, end: int) -> "Iterator[asyncio.Future[None]]":
        """Give a future that resolves once everything below `end` was handled; leave() cancels it."""
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        followed = self._followed.get(tp)
        if followed is None:
            passed.cancel()
        elif followed.position >= end:
            passed.set_result(None)
        else:
            followed.waiting.append((end, passed))
        try:
            yield passed
        finally:
            if followed is not None:
                followed.waiting = [entry for entry in followed.waiting if entry[1] is not passed]

    async def run(self) -> None:
        """Read until cancelled."""
        await retrying(self._read_on, "tailer-restarts", first_s=_RETRY_S, tailer=self._name)

    async def _read_on(self) -> None:
        self.turns += 1
        consumer = self._transport.consumer()
        try:
            await consumer.start()
            self._consumer = consumer
            self._changed.set()
            await self._read(consumer)
        finally:
            self._consumer = None
            self.loaded.clear()
            await consumer.stop()

    async def _read(self, consumer: Consumer) -> None:
        assigned: dict[TopicPartition, _Followed] = {}
        while True:
            self.turns += 1
            if not self._followed:
                self._changed.clear()
                await self._changed.wait()
            if assigned != self._followed:
                assigned = await self._reassign(consumer, assigned)
            for tp, records in (await consumer.poll(_POLL_S)).items():
                followed = self._followed.get(tp)
                if followed is not None and followed is assigned.get(tp):
                    self._deliver(followed, records)
            await self._step(consumer, assigned)

    async def _reassign(
        self, consumer: Consumer, assigned: dict[TopicPartition, _Followed]
    ) -> dict[TopicPartition, _Followed]:
        current = dict(self._followed)
        new = [tp for tp, followed in current.items() if assigned.get(tp) is not followed]
        consumer.assign(current)
        beginnings = await consumer.beginning_offsets(new) if self._skip else {}
        ends = await consumer.end_offsets(new) if self._skip else {}
        for tp in new:
            followed = current[tp]
            followed.loaded_at = ends.get(tp)
            if followed.position < beginnings.get(tp, 0):
                if followed.position > 0:
                    log.error("tail-lost-to-retention", tailer=self._name, partition=tp.partition)
                followed.position = beginnings[tp]
            consumer.seek(tp, followed.position)
        return current

    @staticmethod
    def _deliver(followed: _Followed, records: Iterable[Record]) -> None:
        for record in records:
            if record.offset >= followed.position:
                followed.position = record.offset + 1
                followed.handler(record)

    async def _step(self, consumer: Consumer, assigned: dict[TopicPartition, _Followed]) -> None:
        """Take over positions where somebody needs them, and wake whoever waited for them."""
        loading = not self.loaded.is_set()
        for tp, followed in assigned.items():
            if self._followed.get(tp) is followed and (loading or followed.waiting):
                followed.position = max(followed.position, await consumer.position(tp))
                _wake(followed)
        if loading and all(f.position >= (f.loaded_at or 0) for f in assigned.values()):
            self.loaded.set()


def _wake(followed: _Followed) -> None:
    for end, waiter in followed.waiting:
        if followed.position >= end and not waiter.done():
            waiter.set_result(None)
