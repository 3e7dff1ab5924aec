"""The worker's poll loop: it polls and hands records on, and never runs a shard itself.

It pauses a partition while too many of its records or bytes are unacknowledged. It commits offsets only up to the
watermark; the commit's metadata holds a bitmap of the offsets settled above it, so that the next owner repeats little.
A revocation kills nothing: running shards end, and their results are published.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from regather.core.errors import CommitRejected, TransportError
from regather.service.lifecycle import first_of
from regather.service.retrying import retrying
from regather.topics.layout import SHARD_RECORD_BYTES, Topics
from regather.transport.base import Consumer, TopicPartition, Transport
from regather_worker.control import Control
from regather_worker.dispatch import Dispatcher
from regather_worker.ownership import Ownership
from regather_worker.routing import Router
from regather_worker.settings import WorkerSettings

_POLL_S = 0.2
_RETRY_S = 1.0


class ShardLoop:
    """A member of the workers' group over the small, bulk and retry topics."""

    def __init__(
        self,
        transport: Transport,
        topics: Topics,
        settings: WorkerSettings,
        dispatcher: Dispatcher,
        router: Router,
        control: Control,
        ownership: Ownership,
    ) -> None:
        self._transport = transport
        self._topics = topics
        self._settings = settings
        self._dispatcher = dispatcher
        self._router = router
        self._control = control
        self._ownership = ownership
        self._joined = False
        self.turns = 0
        """Iterations of the loop, including restarts while no broker answers."""

    @property
    def ready(self) -> bool:
        """True once this member has its partitions and the starting offset of each."""
        return self._joined and not self._ownership.starting

    @property
    def stopped_partitions(self) -> int:
        """How many partitions wait for an upgrade, because their next record is of a later release."""
        return sum(in_flight.newer_at is not None for in_flight in self._ownership.owned.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop` is set, replacing a consumer that fails; then drain what runs and cancel the rest."""
        await first_of(self._control.loaded, stop)  # first load the ended jobs: none of their shards may start
        try:
            await retrying(lambda: self._consume_until(stop), "shard-loop-restarts", first_s=_RETRY_S)
        finally:
            await self._dispatcher.abandon()
            await self._router.stop()

    async def _consume_until(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            return
        self.turns += 1
        consumer = self._transport.consumer(group=self._topics.group("workers"), fetch_max_bytes=2 * SHARD_RECORD_BYTES)
        try:
            await consumer.start()
            self._ownership.use(consumer)
            consumer.subscribe(self._topics.shards, self)
            await self._poll_until(consumer, stop)
        finally:
            await self._leave(consumer)

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Start a task that determines each partition's starting offset."""
        self._joined = True
        self._ownership.assign(partitions)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit what is settled, with the clean-shutdown flag, and give the partitions up; running shards go on."""
        await self._commit_clean_shutdown()
        self._ownership.revoke(partitions)

    async def _poll_until(self, consumer: Consumer, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        commit_due_s = loop.time() + self._settings.commit_s
        while not stop.is_set():
            self.turns += 1
            await self._poll(consumer)
            self._check_tasks()
            self._regulate(consumer)
            if loop.time() >= commit_due_s:
                commit_due_s = loop.time() + self._settings.commit_s
                with contextlib.suppress(CommitRejected):  # a rebalance is under way; a later commit covers the same
                    await self._ownership.commit()

    async def _poll(self, consumer: Consumer) -> None:
        for tp, records in (await consumer.poll(_POLL_S)).items():
            in_flight = self._ownership.owned.get(tp)
            if in_flight is not None:
                self._router.route(in_flight, records)

    def _check_tasks(self) -> None:
        broken = self._dispatcher.failed or self._router.failed
        if broken is not None:
            raise RuntimeError("running a shard or publishing its result failed") from broken

    def _regulate(self, consumer: Consumer) -> None:
        """Apply back-pressure: pause and resume partitions by what they have in flight."""
        for in_flight in self._ownership.owned.values():
            full = in_flight.newer_at is not None or in_flight.is_full(
                self._settings.max_open_records, self._settings.max_open_bytes
            )
            if full and not in_flight.paused:
                consumer.pause([in_flight.tp])
            elif in_flight.paused and not full:
                consumer.resume([in_flight.tp])
            in_flight.paused = full

    async def _commit_clean_shutdown(self) -> None:
        with contextlib.suppress(TransportError):
            await self._ownership.commit(clean_shutdown=True)

    async def _leave(self, consumer: Consumer) -> None:
        if self._ownership.uses(consumer):  # a consumer that failed to start has nothing to drain
            self._dispatcher.stopped()
            await self._dispatcher.drain(self._settings.drain_s)
            await self._commit_clean_shutdown()
        self._ownership.use(None)
        self._joined = False
        self._ownership.revoke()
        await consumer.stop()
