"""The loop that writes: one transaction for all that waits, read back before the next one begins.

Source: docs/protocol.md#emit.
"""

import asyncio
from collections.abc import Callable

from regather.core.errors import NotReadableYet
from regather.core.reassembly import JobFold
from regather.topics.layout import RETRY_RECORD_BYTES
from regather.transport.base import TRANSACTION_TIMEOUT_S, RecordAddress, TopicPartition, TransactionalProducer
from regather.transport.log_reader import LogReader
from regather_aggregator.emission import Emitter
from regather_aggregator.epoch import Epoch
from regather_aggregator.owner_deps import OwnerDeps
from regather_aggregator.planned_records import PlannedStatus, plan_progress
from regather_aggregator.segment_log import SegmentLog
from regather_aggregator.segments import SegmentWriter

_READ_BACK_LIMIT_S = TRANSACTION_TIMEOUT_S + 15.0
"""A foreign transaction that is left open on `shards.retry`, which all owners share, keeps a release from committed readers
until the broker aborts it. An epoch that gave up before would write the release again."""

_LOOK_AGAIN_S = 0.02


class EmissionLoop:
    """Writes the output of one epoch, through the producer that was fenced for it.

    `break_job` ends a job of which a record cannot be encoded.
    """

    def __init__(
        self,
        partition: int,
        deps: OwnerDeps,
        epoch: Epoch,
        producer: TransactionalProducer,
        break_job: Callable[[JobFold, Exception], None],
    ) -> None:
        self._break_job = break_job
        self._epoch = epoch
        self._settings = deps.settings
        self._counts = deps.counts
        self._emitter = Emitter(producer, deps.topics, partition)
        self._large = SegmentWriter(SegmentLog(producer, partition, deps.output_readers.segments))
        self._saves = SegmentLog(producer, partition, deps.output_readers.checkpoints)
        self._releases = LogReader(deps.transport, fetch_max_bytes=RETRY_RECORD_BYTES)
        self._progress_due_s = 0.0

    async def run(self) -> None:
        """Write until cancelled; raises TransportError or TimeoutError, after which the producer cannot be used."""
        epoch = self._epoch
        while True:
            await epoch.queue.wait(self._settings.progress_s)
            await self._save_one()
            finals = [await self._large.with_segments(plan) for plan in epoch.queue.pop_finals()]
            progress = self._due_progress()
            releases = epoch.queue.pop_releases(epoch.fold.is_open)
            if not (finals or progress or releases):
                continue
            epoch.own_finals.expect(plan.status.owner for plan in finals)
            released = await self._emitter.emit(finals, progress, releases)
            self._counts.transactions += 1
            async with asyncio.timeout(_READ_BACK_LIMIT_S):
                if epoch.own_finals.awaited:
                    await epoch.own_finals.wait()
                elif released:
                    await self._see(released[0])

    async def close(self) -> None:
        """Disconnect the loop's reader."""
        await self._releases.stop()

    async def _see(self, released: RecordAddress) -> None:
        """Return once a committed reader gets the released shard: the proof of a transaction without finals."""
        while True:
            try:
                await self._releases.read(TopicPartition(released.topic, released.partition), released.offset)
            except NotReadableYet:
                await asyncio.sleep(_LOOK_AGAIN_S)
            else:
                return

    async def _save_one(self) -> None:
        """Write the checkpoint of one job for which a restart would read too much log, if there is one."""
        epoch = self._epoch
        for job in epoch.fold.unsaved_jobs(self._settings.checkpoint_log_bytes)[:1]:
            if await epoch.checkpoints.save(self._saves, epoch.fold, job, epoch.next_offset):
                self._counts.checkpoints += 1
            epoch.queue.wake()

    def _due_progress(self) -> list[PlannedStatus]:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._progress_due_s:
            return []
        self._progress_due_s = now_s + self._settings.progress_s
        planned = (self._progress_of(job) for job in self._epoch.fold.pop_changed())
        return [status for status in planned if status is not None]

    def _progress_of(self, job: JobFold) -> PlannedStatus | None:
        try:
            return plan_progress(job)
        except Exception as error:  # docs/protocol.md#barrier
            self._break_job(job, error)
            return None
