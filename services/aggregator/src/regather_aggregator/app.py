"""The aggregator's composition root: builds the service from settings, a transport, an executor and processors."""

import asyncio
from collections.abc import Callable, Iterator

from regather.children.work import Executor
from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather.service.broker_guard import refuse_unsafe_broker
from regather.service.lifecycle import WatchedTasks
from regather.service.logs import get_logger
from regather.service.metrics import Sample, by_label
from regather.transport.base import Transport
from regather_aggregator.assembly import Assembly, Processors
from regather_aggregator.inherited_outcomes import InheritedOutcomes
from regather_aggregator.owner import PartitionOwner
from regather_aggregator.owner_deps import OwnerCounts, OwnerDeps
from regather_aggregator.ownership_loop import OwnershipLoop
from regather_aggregator.readback import OutputReaders, ReadBack
from regather_aggregator.retention import RetentionWatch
from regather_aggregator.settings import AggregatorSettings
from regather_aggregator.spill import SpillSpace

log = get_logger()


class Aggregator:
    """Folds outcomes per job and emits exactly one final per job and version."""

    def __init__(
        self, settings: AggregatorSettings, transport: Transport, executor: Executor, processors: Processors
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._executor = executor
        self.counts = OwnerCounts()
        self._spill = SpillSpace(
            settings.spill_dir or None,
            memory_bytes=settings.outputs_memory_bytes,
            disk_bytes=settings.spill_bytes,
        )
        self._output_readers = OutputReaders(
            results=ReadBack(transport, settings.topics.results),
            segments=ReadBack(transport, settings.topics.segments),
            checkpoints=ReadBack(transport, settings.topics.checkpoints),
        )
        assembly = Assembly(
            executor,
            processors,
            merge_timeout_s=settings.merge_timeout_s,
            max_result_bytes=settings.max_result_bytes,
        )

        policy = FoldPolicy(
            heartbeat_timeout_ms=int(settings.heartbeat_timeout_s * 1000), max_output_bytes=settings.max_output_bytes
        )

        shared = OwnerDeps(
            transport=transport,
            topics=settings.topics,
            settings=settings,
            assembly=assembly,
            inherited=InheritedOutcomes(transport, settings.topics.job_events),
            output_readers=self._output_readers,
            counts=self.counts,
            merges_alone=asyncio.Lock(),
            make_fold=lambda: PartitionFold(policy, self.counts.dropped, self._spill.outputs),
        )

        def make_owner(partition: int, on_restored: Callable[[int, int], None]) -> PartitionOwner:
            return PartitionOwner(partition, shared, on_restored)

        self.events = OwnershipLoop(transport, settings.topics, make_owner, tick_s=settings.tick_s)
        self.retention = RetentionWatch(transport, settings.topics.job_events, lambda: self.events.owners.values())

    @property
    def not_ready_because(self) -> str | None:
        """Why the aggregator is not ready; None once every partition assigned to this process is restored."""
        if self.events.stopped_partitions:
            return "a partition holds records of a later release: upgrade this aggregator; its log has the place"
        return None if self.events.ready else "not all partitions are restored yet, or no broker answers"

    def samples(self) -> Iterator[Sample]:
        """Return the aggregator's current metrics."""
        owners = self.events.owners.values()
        yield Sample("regather_partitions", len(owners))
        yield Sample("regather_partitions_stopped", self.events.stopped_partitions)
        yield Sample("regather_jobs_open", sum(owner.open_jobs for owner in owners))
        yield from by_label("regather_events_dropped_total", self.counts.dropped)
        topics = self._settings.topics
        lost = {topic: self.counts.lost[topic] for topic in (topics.job_events, topics.results, topics.checkpoints)}
        yield from by_label("regather_records_lost_total", lost)
        yield Sample("regather_finals_total", self.counts.finals)
        yield Sample("regather_transactions_total", self.counts.transactions)
        yield Sample("regather_ownership_restarts_total", self.counts.restarts)
        yield Sample("regather_checkpoints_total", self.counts.checkpoints)
        yield Sample("regather_broker_time_jumps_total", self.events.time_jumps)
        yield Sample("regather_outputs_memory_bytes", self._spill.used_memory_bytes)
        yield Sample("regather_outputs_spilled_bytes", self._spill.used_disk_bytes)
        yield Sample("regather_jobs_near_retention", self.retention.jobs_near)

    async def run(self, stop: asyncio.Event) -> None:
        """Check the broker (UnsafeBroker), start the children, then the Kafka clients; stop in the opposite order."""
        await refuse_unsafe_broker(self._transport, stop)
        await self._executor.start()
        try:
            async with WatchedTasks() as tasks:
                tasks.start("read-back", self._output_readers.results.run())
                tasks.start("segments-read-back", self._output_readers.segments.run())
                tasks.start("checkpoints-read-back", self._output_readers.checkpoints.run())
                tasks.start("ticks", self.events.tick_forever())
                tasks.start("retention", self.retention.run())
                tasks.start("stop-on-failure", _stop_on_failure(tasks, stop))
                await self.events.run(stop)
                if tasks.error is not None:
                    raise RuntimeError("a side task of the aggregator failed") from tasks.error
        finally:
            await self._executor.stop(self._settings.drain_s)


async def _stop_on_failure(tasks: WatchedTasks, stop: asyncio.Event) -> None:
    await tasks.failed.wait()
    stop.set()


def build(settings: AggregatorSettings, transport: Transport, executor: Executor, processors: Processors) -> Aggregator:
    """Wire an aggregator; tests call this with other parts."""
    return Aggregator(settings, transport, executor, processors)
