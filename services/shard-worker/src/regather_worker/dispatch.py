"""Dispatches queued shards to free slots: lanes decide the order, micro-batches keep the overhead of tiny shards low.

A shard that may crash the worker, or use up its memory, is exclusive. It waits until every slot is free, and no other
shard starts before it has ended. Between two exclusive shards other shards get a turn.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from regather.children.work import Call, Executor, Work, WorkItem, WorkLimits
from regather.core.batch_sizer import BatchSizer
from regather.core.execution import Failed, NotRun, Result
from regather.core.lanes import Lane, LaneQueue
from regather.core.model import Identity, Reason
from regather.core.retry import MAX_DELAY_MS
from regather.service.environment import NowMs, wall_ms
from regather.service.logs import get_logger
from regather_worker.in_flight import QueuedShard, ShardKey
from regather_worker.ownership import Ownership
from regather_worker.publish import Publisher

log = get_logger()
_MAX_DELAY_AFTER_APPEND_MS = 60_000
_MAX_LOST = 20


@dataclass(slots=True, eq=False)
class _Batch:
    """Shards that one task runs, from their slot until the task ends."""

    shards: Sequence[QueuedShard]
    published: bool = False
    """True once the results are published: each shard is acknowledged, or waits for a slot again."""

    dropped: bool = False
    """True once the job of these shards has ended: if the task is cancelled, they are acknowledged."""

    @property
    def owner(self) -> Identity:
        """The job of the shards."""
        return self.shards[0].shard.owner


class Dispatcher:
    """Runs micro-batches in the executor's slots and hands their results to the publisher."""

    def __init__(
        self,
        executor: Executor,
        publisher: Publisher,
        limits: WorkLimits,
        ownership: Ownership,
        now_ms: NowMs = wall_ms,
    ) -> None:
        self._executor = executor
        self._publisher = publisher
        self._limits = limits
        self._ownership = ownership
        self._now_ms = now_ms
        self._queue: LaneQueue[QueuedShard] = LaneQueue()
        self._batch_sizer = BatchSizer()
        self._exclusive: deque[QueuedShard] = deque()
        self._alone: asyncio.Task[None] | None = None
        self._others_turns = 0
        self._delayed: list[tuple[float, int, QueuedShard]] = []
        self._claimed: dict[ShardKey, QueuedShard] = {}
        """The shards of all batches until they are published: another delivery of the same attempt joins them."""

        self._batches: dict[asyncio.Task[None], _Batch] = {}
        """Every batch by its task: it executes, its results are published, or the commit after it is under way."""

        self._slot_holders: set[asyncio.Task[None]] = set()
        """Those tasks that hold a slot: a batch gives it back before its results are published, unless it ran alone."""

        self._wake = asyncio.Event()
        self._order = count()
        self.failed: BaseException | None = None
        self.dropped = 0
        """Shards that were discarded or killed because their job had ended."""

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self._slot_holders)

    @property
    def queued(self) -> int:
        """Shards that wait for a slot."""
        return len(self._queue) + len(self._exclusive)

    @property
    def delayed(self) -> int:
        """Retries that wait for the end of their delay."""
        return len(self._delayed)

    def accept(self, queued: QueuedShard, lane: Lane) -> None:
        """Queue a shard; hold a retry back for its delay; add the delivery to the same attempt if that runs here."""
        claimed = self._claimed.get(queued.key)
        if claimed is not None:
            claimed.deliveries += queued.deliveries
        elif queued.shard.delay_ms:
            heapq.heappush(self._delayed, (self._due_s(queued), next(self._order), queued))
            self._wake.set()
        else:
            self._push(queued, lane)

    def discard(self, queued: QueuedShard) -> None:
        """Acknowledge a shard without running it, because its job has ended, and count it as dropped."""
        queued.ack()
        self.dropped += 1

    async def run(self, stop: asyncio.Event) -> None:
        """Start micro-batches until `stop` is set."""
        while not stop.is_set():
            self._wake.clear()
            self._release_due()
            while self._start_next():
                pass
            await self._wait(stop)

    async def drain(self, limit_s: float) -> None:
        """Wait up to `limit_s` for running micro-batches to end and be published; a later one spends no attempt."""
        if self._batches:
            await asyncio.wait(self._batches, timeout=limit_s)

    async def abandon(self) -> None:
        """Cancel every running micro-batch and acknowledge nothing: the next owner of the partitions repeats it."""
        tasks = list(self._batches)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def drop(self, owner: Identity) -> None:
        """Discard all shards of a job that ended: acknowledge those that wait, kill those that run."""
        waiting = self._queue.remove(lambda queued: queued.shard.owner == owner)
        waiting += [queued for queued in self._exclusive if queued.shard.owner == owner]
        waiting += [queued for _, _, queued in self._delayed if queued.shard.owner == owner]
        self._exclusive = deque(queued for queued in self._exclusive if queued.shard.owner != owner)
        self._delayed = [entry for entry in self._delayed if entry[2].shard.owner != owner]
        heapq.heapify(self._delayed)
        for queued in waiting:
            self.discard(queued)
        running = self._cancel(owner)
        if waiting or running:
            log.info("job-dropped", job=owner.job_id, waiting=len(waiting), running=len(running))

    def _cancel(self, owner: Identity) -> list[_Batch]:
        """Cancel the batches of a job that are not published yet; each acknowledges its shards when its task ends."""
        cancelled = []
        for task, batch in self._batches.items():
            if batch.owner == owner and not batch.published and task.cancel():
                batch.dropped = True
                cancelled.append(batch)
        return cancelled

    def stopped(self) -> None:
        """Wake run() so that it checks `stop`."""
        self._wake.set()

    def _push(self, queued: QueuedShard, lane: Lane) -> None:
        if queued.exclusive:
            self._exclusive.append(queued)
        else:
            self._queue.push(lane, queued.group, queued, len(queued.shard.payload))
        self._wake.set()

    def _release_due(self) -> None:
        now_s = asyncio.get_running_loop().time()
        while self._delayed and self._delayed[0][0] <= now_s:
            self._push(heapq.heappop(self._delayed)[2], Lane.PRIORITY)

    async def _wait(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            return
        now_s = asyncio.get_running_loop().time()
        timeout_s = max(0.0, self._delayed[0][0] - now_s) if self._delayed else None
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return  # a retry is due

    def _start_next(self) -> bool:
        """Start one batch, or one exclusive shard; False if nothing can start now."""
        if self._alone is not None:
            return False
        if self._exclusive and (self._others_turns <= 0 or not len(self._queue)):
            if not self.busy:
                self._start(self._claim_wanted([self._exclusive.popleft()]), alone=True)
            return not self.busy
        if self.busy >= self._executor.slots or not len(self._queue):
            return False
        self._others_turns -= 1
        self._start_batch()
        return True

    def _start_batch(self) -> None:
        idle = self._executor.slots - self.busy
        batch = self._queue.pop_batch(
            idle_slots=idle, most_items=lambda queued: self._batch_sizer.batch_items(queued.sort)
        )
        self._start(self._claim_wanted(batch), alone=False)

    def _claim_wanted(self, batch: Sequence[QueuedShard]) -> list[QueuedShard]:
        return [queued for queued in batch if queued.wanted and self._claim(queued)]

    def _start(self, shards: Sequence[QueuedShard], *, alone: bool) -> None:
        if not shards:
            return
        batch = _Batch(shards)
        run = self._run_alone(batch) if alone else self._run_batch(batch)
        task = asyncio.create_task(run, name="alone" if alone else "micro-batch")
        if alone:
            self._alone = task
        self._batches[task] = batch
        self._slot_holders.add(task)
        task.add_done_callback(self._ended)

    def _claim(self, queued: QueuedShard) -> bool:
        """Claim a shard for a batch; if another batch has claimed the same attempt, add the delivery to that."""
        claimed = self._claimed.setdefault(queued.key, queued)
        if claimed is not queued:
            claimed.deliveries += queued.deliveries
        return claimed is queued

    async def _run_batch(self, batch: _Batch) -> None:
        try:
            results = await self._execute(batch.shards, alone=False)
        finally:
            self._free_slot(asyncio.current_task())
        await self._publish(batch, results)

    async def _run_alone(self, batch: _Batch) -> None:
        """Run one shard alone; nothing else starts before a commit (best effort) says that it has ended.

        Without that commit the next owner would blame this shard for a later crash.
        """
        try:
            results = await self._execute(batch.shards, alone=True)
            await self._publish(batch, results)
            await self._ownership.record_end(batch.shards, alone=True)
        finally:
            self._free_slot(asyncio.current_task())

    async def _execute(self, batch: Sequence[QueuedShard], *, alone: bool) -> list[Result]:
        recorded = alone or batch[0].watched
        if recorded and not await self._ownership.record_start(batch, alone=alone):
            return [NotRun()] * len(batch)
        results = await self._executor.run(self._work(batch))
        executed = [result for result in results if not isinstance(result, NotRun)]
        self._batch_sizer.saw(batch[0].sort, len(executed), sum(result.duration_us for result in executed))
        if recorded and not alone:
            await self._ownership.record_end(batch, alone=False)
        return [self._count_lost(queued, result) for queued, result in zip(batch, results, strict=True)]

    async def _publish(self, batch: _Batch, results: Sequence[Result]) -> None:
        try:
            again = await self._publisher.publish(batch.shards, results)
        finally:
            self._unclaim(batch)
        batch.published = True
        for queued in again:
            self._push(queued, Lane.PRIORITY)

    def _work(self, batch: Sequence[QueuedShard]) -> Work:
        first, search = batch[0].shard, batch[0].search
        limits = replace(self._limits, wall_s=first.timeout_ms / 1000)
        if search is not None:
            return search.work(limits)
        items = [
            WorkItem(q.shard.seq, q.shard.payload, q.shard.meta, q.shard.attempt, carry=q.shard.carry) for q in batch
        ]
        return Work(Call.STEP if first.chained else Call.PROCESS, first.kind, first.options, items, limits)

    def _free_slot(self, task: "asyncio.Task[None] | None") -> None:
        if task is not None:
            self._slot_holders.discard(task)
        if task is self._alone:
            self._alone = None
            self._others_turns = self._executor.slots
        self._wake.set()

    def _unclaim(self, batch: _Batch) -> None:
        for queued in batch.shards:
            if self._claimed.get(queued.key) is queued:  # else another batch has claimed the same attempt since
                del self._claimed[queued.key]

    def _ended(self, task: asyncio.Task[None]) -> None:
        batch = self._batches.pop(task)
        if task.cancelled():  # clean up here: a task that is cancelled before its first step never enters its `finally`
            self._free_slot(task)
            self._unclaim(batch)
            for queued in batch.shards if batch.dropped else ():
                self.discard(queued)
        elif task.exception() is not None:
            self.failed = task.exception()
            log.error("micro-batch-broken", error=repr(self.failed), exc_info=self.failed)

    def _count_lost(self, queued: QueuedShard, result: Result) -> Result:
        """Count a child that was lost while it ran this shard; past the limit fail the attempt, which may be the cause.

        A shard that was not begun spends nothing, however often it waits for another child.
        """
        if not isinstance(result, NotRun):
            return result
        queued.unbatched = True
        queued.lost += result.begun
        if not result.begun or queued.lost <= _MAX_LOST:
            return result
        return Failed(Reason.CRASHED, f"its child was lost {queued.lost} times while it ran", self._now_ms(), 0)

    def _due_s(self, queued: QueuedShard) -> float:
        """Return the loop time at which a retry is due: first delivery + delay, at most append time + delay + 60 s.

        The second limit holds if rebalances deliver the record again and again.
        """
        waited_ms = max(0, self._now_ms() - queued.deliveries[0].record.timestamp_ms)
        excess_ms = max(0, waited_ms - _MAX_DELAY_AFTER_APPEND_MS)
        delay_ms = min(queued.shard.delay_ms, MAX_DELAY_MS)  # the record may say anything
        return asyncio.get_running_loop().time() + max(0, delay_ms - excess_ms) / 1000
