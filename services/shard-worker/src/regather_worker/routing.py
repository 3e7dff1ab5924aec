"""Decides where each record goes that a worker reads, and does what needs no slot in tasks beside the poll loop.

A shard waits for a slot in the dispatcher, is parked until its chain comes to it, or gets its payload first because its
chain has released it. A record that cannot be decoded becomes a dead letter; at one of a later
release its partition stops. A shard whose job has ended is dropped.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from regather.core.errors import NewerRecord, WireError
from regather.core.lanes import Lane
from regather.core.model import RecordPlace, Shard
from regather.service.logs import get_logger
from regather.topics.layout import Topics
from regather.transport.base import Record
from regather.wire.shards import decode_shard
from regather_worker.control import Control
from regather_worker.dispatch import Dispatcher
from regather_worker.in_flight import Delivery, InFlight, QueuedShard
from regather_worker.payloads import PayloadReader
from regather_worker.publish import Publisher

log = get_logger()


class Router:
    """Routes records. Shards of the topic `shards.bulk` go to the regular lane, all others to the priority lane."""

    def __init__(
        self, dispatcher: Dispatcher, publisher: Publisher, control: Control, payloads: PayloadReader, topics: Topics
    ) -> None:
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._control = control
        self._payloads = payloads
        self._topics = topics
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: BaseException | None = None
        """The error that ended a task beside the loop."""

    def route(self, in_flight: InFlight, records: Sequence[Record]) -> None:
        """Send the records on their way, except those that are settled already."""
        for record in records:
            if in_flight.deliver(record):
                self._route(Delivery(in_flight, record))

    def _route(self, delivery: Delivery) -> None:
        record = delivery.record
        try:
            shard = decode_shard(record.headers, record.value)
            self._check_source(shard)
        except NewerRecord as error:
            delivery.in_flight.newer_at = record.offset
            log.error(
                "record-of-a-later-release",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error=str(error),
            )
            return
        except WireError as error:
            self._start(self._publisher.dead_letter_unreadable(delivery, str(error)))
            return
        queued = QueuedShard(shard, [delivery])
        if self._control.is_over(shard.owner):
            self._dispatcher.discard(queued)
        elif shard.source is not None:
            self._start(self._fetch(queued, shard.source))
        elif shard.chained and shard.seq > 0:
            self._start(self._publisher.park(shard, delivery))
        else:
            self._queue(queued, Lane.REGULAR if record.topic == self._topics.shards_bulk else Lane.PRIORITY)

    def _check_source(self, shard: Shard) -> None:
        """Raise WireError if the payload would have to be read from a topic that holds no shards."""
        if shard.source is not None and shard.source.topic not in self._topics.shards:
            raise WireError(f"header 'source' names the topic {shard.source.topic!r}, which holds no shards")

    async def stop(self) -> None:
        """Cancel the tasks beside the loop and acknowledge nothing: the next owner of the partitions repeats them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._payloads.stop()

    def _queue(self, queued: QueuedShard, lane: Lane) -> None:
        """Queue a shard, or publish a failed attempt if it crashed its previous worker."""
        delivery = queued.deliveries[0]
        crash = delivery.in_flight.crash_tracker.crash_at(delivery.record.offset)
        if crash is None:
            self._dispatcher.accept(queued, lane)
        else:
            self._start(self._publisher.blame(queued, crash))

    async def _fetch(self, queued: QueuedShard, source: RecordPlace) -> None:
        """Read the payload of a released shard, then queue the shard. Meanwhile its job or this ownership may end."""
        owner = queued.shard.owner
        payload = await self._payloads.read(
            queued.shard, source, lambda: queued.wanted and not self._control.is_over(owner)
        )
        if not queued.wanted:
            return
        if self._control.is_over(owner):
            self._dispatcher.discard(queued)
        elif payload is None:
            await self._publisher.lost_payload(queued, source)
        else:
            queued.shard = queued.shard._replace(payload=payload)
            self._queue(queued, Lane.PRIORITY)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="beside-the-loop")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failed = task.exception()
