"""The partitions that this member owns, its position in each, and the crash attribution in its commits."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence

from regather.core.crash_attribution import CrashTracker
from regather.core.errors import CommitRejected, TransportError
from regather.core.retention import lost_before
from regather.core.watermark import Watermark
from regather.service.environment import NowMs, wall_ms
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.transport.base import Committed, Consumer, TopicPartition
from regather.wire.commits import decode_commit, encode_commit
from regather_worker.in_flight import InFlight, QueuedShard

log = get_logger()
_RETRY_S = 1.0
_REJECTED_S = 0.1
_BLAME_WITHIN_S = 5.0


class Ownership:
    """The owned partitions, across replaced consumers. Commits offsets only up to the watermark."""

    def __init__(self, worker: str, now_ms: NowMs = wall_ms) -> None:
        self.owned: dict[TopicPartition, InFlight] = {}
        self.lost: Counter[str] = Counter()
        """Records that retention deleted before a worker acknowledged them, by topic."""

        self._worker = worker
        self._now_ms = now_ms
        self._consumer: Consumer | None = None
        self._starting: dict[TopicPartition, asyncio.Task[None]] = {}
        self._committed: dict[TopicPartition, Committed] = {}
        self._left: dict[TopicPartition, InFlight] = {}
        """Progress in partitions that were revoked: if one comes back, its last commits may be missing."""

        self._committing = asyncio.Lock()

    @property
    def starting(self) -> bool:
        """Whether the starting offset of a partition is still unknown."""
        return bool(self._starting)

    @property
    def open_records(self) -> int:
        """Records read and not yet acknowledged."""
        return sum(in_flight.watermark.open_count for in_flight in self.owned.values())

    def lag_s(self) -> float:
        """Return the age in seconds of the oldest unacknowledged record, by its broker timestamp; 0 without one."""
        oldest_ms = min((oldest for one in self.owned.values() if (oldest := one.oldest_ms())), default=None)
        return 0.0 if oldest_ms is None else max(0.0, (self._now_ms() - oldest_ms) / 1000)

    def uses(self, consumer: Consumer) -> bool:
        """Whether commits go through this consumer."""
        return self._consumer is consumer

    def use(self, consumer: Consumer | None) -> None:
        """Commit through this consumer from now on; None: do not commit."""
        self._consumer = consumer

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Own these partitions: pause them, and start a task that finds where each begins, seeks there and resumes it."""
        consumer = self._consumer
        if consumer is None or not partitions:
            return
        consumer.pause(partitions)
        task = asyncio.create_task(self._take_over(consumer, partitions), name="take-over")
        self._starting.update(dict.fromkeys(partitions, task))

    def revoke(self, partitions: Sequence[TopicPartition] | None = None) -> None:
        """Own these partitions no longer (None: all): commit nothing for them. Their running shards go on."""
        for tp in [*self.owned, *self._starting] if partitions is None else partitions:
            starting = self._starting.pop(tp, None)
            if starting is not None and starting not in self._starting.values():
                starting.cancel()
            in_flight = self.owned.pop(tp, None)
            if in_flight is not None:
                in_flight.revoked = True
                self._left[tp] = in_flight
            self._committed.pop(tp, None)

    async def commit(self, *, clean_shutdown: bool = False) -> bool:
        """Commit every partition that changed; `clean_shutdown` sets the flag that this owner did not crash.

        Return whether there was a consumer to commit through.
        """
        async with self._committing:  # the broker must get snapshots in the order in which they were made
            if self._consumer is None:
                return False
            changed = self._changed(self.owned, clean_shutdown=clean_shutdown)
            if changed:
                await self._consumer.commit(changed)
                self._committed.update(changed)
            return True

    async def record_start(self, batch: Sequence[QueuedShard], *, alone: bool) -> bool:
        """Commit that these shards are about to begin, retrying; False if all their partitions were revoked first."""
        await self._wait_for_blame()
        since_ms = self._now_ms() if alone else None
        for queued in batch:
            for delivery in queued.deliveries:
                delivery.in_flight.crash_tracker.begin(delivery.record.offset, since_ms)
        while any(queued.wanted for queued in batch):
            try:
                if await self.commit():
                    return True
                await asyncio.sleep(_REJECTED_S)  # the consumer is being left: soon nothing of it is wanted
            except CommitRejected:  # a rebalance is under way: its outcome decides whether `wanted` is still true
                await asyncio.sleep(_REJECTED_S)
            except TransportError as error:
                log.warning("start-not-recorded", error=repr(error))
                await asyncio.sleep(_RETRY_S)
        return False

    async def _wait_for_blame(self) -> None:
        """Wait, at most 5 s, until every crash is blamed on its shard; the next commit then records that as well.

        Without the wait two crashing shards could repeat for ever: the second would crash the worker each time before a
        commit says that the first was blamed. The wait is bounded, because the guilty shard may be behind more open
        records than a worker reads at once.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BLAME_WITHIN_S):
                while any(in_flight.crash_tracker.unblamed for in_flight in self.owned.values()):  # noqa: ASYNC110 - rare, short
                    await asyncio.sleep(_REJECTED_S)

    async def record_end(self, batch: Sequence[QueuedShard], *, alone: bool) -> None:
        """Record that these shards no longer run: in the next commit, or in one of its own after a shard that ran alone."""
        for queued in batch:
            for delivery in queued.deliveries:
                delivery.in_flight.crash_tracker.end(delivery.record.offset)
        if alone:
            with contextlib.suppress(TransportError):
                await self.commit()

    def _changed(
        self, owned: Mapping[TopicPartition, InFlight], *, clean_shutdown: bool
    ) -> dict[TopicPartition, Committed]:
        found = {}
        for tp, in_flight in owned.items():
            offset, settled = in_flight.watermark.committable()
            attribution = in_flight.crash_tracker.attribution(offset, clean_shutdown=clean_shutdown)
            committed = Committed(offset, encode_commit(offset, attribution, settled))
            if self._committed.get(tp) != committed:
                found[tp] = committed
        return found

    async def _take_over(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Determine the starting offsets and commit as the new owner; only then read.

        A crash after the first record is read then shows to the next owner as a missing clean-shutdown flag.
        """
        mine = asyncio.current_task()
        try:
            owned = await retrying(
                lambda: self._acquire(consumer, partitions),
                "start-unknown",
                first_s=_REJECTED_S,
                last_s=_RETRY_S,
                partitions=len(partitions),
            )
            for tp in [tp for tp in partitions if self._consumer is consumer and self._starting.get(tp) is mine]:
                self.owned[tp] = owned[tp]
                consumer.seek(tp, owned[tp].watermark.committable()[0])
                consumer.resume([tp])
        finally:
            for tp in partitions:
                if self._starting.get(tp) is mine:
                    del self._starting[tp]

    async def _acquire(
        self, consumer: Consumer, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, InFlight]:
        committed = await consumer.committed(partitions)
        beginnings = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        owned = {tp: self._in_flight(tp, committed[tp], beginnings[tp], ends[tp]) for tp in partitions}
        changed = self._changed(owned, clean_shutdown=False)
        await consumer.commit(changed)
        self._committed.update(changed)
        for tp in partitions:
            self._note_loss(tp, committed[tp], beginnings[tp])
        return owned

    def _note_loss(self, tp: TopicPartition, committed: Committed | None, beginning: int) -> None:
        stood = committed.offset if committed else None
        lost = lost_before(stood, beginning)
        if lost:
            log.error("records-lost-to-retention", partition=str(tp), committed=stood, beginning=beginning, lost=lost)
            self.lost[tp.topic] += lost

    def _in_flight(self, tp: TopicPartition, committed: Committed | None, beginning: int, end: int) -> InFlight:
        if committed is None or committed.offset < beginning:
            committed = Committed(beginning, "")
        previous, settled = decode_commit(committed.offset, committed.metadata)
        settled |= self._settled_here(tp, committed.offset, end)
        if not previous.clean_shutdown and committed.offset < end:
            log.warning(
                "owner-lost", partition=str(tp), worker=previous.worker, running=len(previous.running),
                alone=previous.alone_since_ms is not None,
            )  # fmt: skip
        crash_tracker = CrashTracker(self._worker, previous, end=end, settled=settled)
        return InFlight(tp, Watermark(committed.offset, settled), crash_tracker, began=committed.offset)

    def _settled_here(self, tp: TopicPartition, committed: int, end: int) -> set[int]:
        """Return the offsets above the commit that this worker settled before it lost the partition uncommitted."""
        left = self._left.pop(tp, None)
        if left is None or committed < left.began:
            return set()  # the commit is below the one that this worker began with: this is another log
        low, above = left.watermark.committable()
        return {*range(committed, low), *(offset for offset in above if offset > committed)} if low <= end else set()
