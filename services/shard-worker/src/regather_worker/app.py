"""The worker's composition root: builds the service from its settings, a transport and an executor."""

import asyncio
from collections.abc import Iterator

from regather.children.work import Executor, WorkLimits
from regather.core.errors import BrokerUnavailable
from regather.core.retry import RetryPolicy
from regather.core.settlement import Settlement
from regather.core.worker_report import WorkerReport
from regather.service.environment import Environment
from regather.service.lifecycle import WatchedTasks
from regather.service.logs import get_logger
from regather.service.metrics import Sample, by_label
from regather.topics.layout import LETTER_RECORD_BYTES
from regather.transport.base import Transport
from regather_worker.control import Control
from regather_worker.dispatch import Dispatcher
from regather_worker.loop import ShardLoop
from regather_worker.outbox import Outbox
from regather_worker.ownership import Ownership
from regather_worker.payloads import PayloadReader
from regather_worker.publish import Publisher
from regather_worker.records import RecordMaker
from regather_worker.reports import Reporter, make_report
from regather_worker.routing import Router
from regather_worker.settings import WorkerSettings

log = get_logger()
_RETRY_S = 1.0


class Worker:
    """Consumes shards, runs them in killable children, publishes outcomes."""

    def __init__(
        self, settings: WorkerSettings, transport: Transport, executor: Executor, environment: Environment
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._executor = executor
        self._loop: ShardLoop | None = None
        self._ownership = Ownership(environment.process, environment.now_ms)
        self._dispatcher: Dispatcher | None = None
        self._publisher: Publisher | None = None
        self._waits = 0
        self._environment = environment
        self.name = environment.process

    @property
    def not_ready_because(self) -> str | None:
        """Why the worker is not ready; None once this member has its partitions."""
        if self._loop is not None and self._loop.stopped_partitions:
            return "a partition holds records of a later release: upgrade this worker; its log has the place"
        if self._loop is not None and self._loop.ready:
            return None
        return "no partitions are assigned yet, or no broker answers"

    @property
    def turns(self) -> int:
        """Iterations of the main loop. A count that stands still means that the loop hangs."""
        return self._waits + (self._loop.turns if self._loop else 0)

    def samples(self) -> Iterator[Sample]:
        """Return the worker's current metrics; only `regather_slots` before a broker has answered."""
        yield Sample("regather_slots", self._executor.slots)
        if self._dispatcher is None or self._publisher is None:
            return
        counts = self._publisher.counts
        yield Sample("regather_slots_busy", self._dispatcher.busy)
        yield Sample("regather_shards_queued", self._dispatcher.queued)
        yield Sample("regather_shards_delayed", self._dispatcher.delayed)
        yield from by_label("regather_shards_settled_total", counts.settled)
        yield Sample("regather_shards_dropped_total", self._dispatcher.dropped)
        yield from by_label("regather_attempts_failed_total", counts.attempts_failed)
        yield from by_label("regather_dead_letters_total", counts.letters)
        yield Sample("regather_shard_seconds_total", counts.run_us / 1e6)
        yield Sample("regather_partitions", len(self._ownership.owned))
        yield Sample("regather_partitions_stopped", self._loop.stopped_partitions if self._loop else 0)
        yield Sample("regather_records_open", self._ownership.open_records)
        lost = {topic: self._ownership.lost[topic] for topic in self._settings.topics.shards}
        yield from by_label("regather_records_lost_total", lost)

    def _report(self) -> WorkerReport:
        assert self._dispatcher is not None
        return make_report(
            self._environment,
            self._executor.kinds,
            slots=self._executor.slots,
            busy=self._dispatcher.busy,
            queued=self._dispatcher.queued,
            partitions=len(self._ownership.owned),
            lag_s=self._ownership.lag_s(),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Start the children, then the Kafka clients; at the end stop the consumer, the children and the producer."""
        await self._executor.start()
        outbox = Outbox(self._transport, max_record_bytes=LETTER_RECORD_BYTES)
        try:
            partitions = await self._event_partitions(stop)
            if partitions:
                await outbox.start()
                await self._serve(outbox, partitions, stop)
        finally:
            await self._executor.stop(self._settings.drain_s)
            await outbox.stop()

    async def _serve(self, outbox: Outbox, event_partitions: int, stop: asyncio.Event) -> None:
        settings = self._settings
        policy = RetryPolicy(base_ms=settings.retry_base_ms, cap_ms=settings.retry_cap_ms)
        settlement = Settlement(policy, settings.max_bad_rows)
        records = RecordMaker(settings.topics, event_partitions, self.name)
        publisher = Publisher(outbox, records, settlement, self._environment)
        limits = WorkLimits(memory_bytes=settings.memory_limit_bytes or None, cpu_s=settings.cpu_limit_s or None)
        dispatcher = Dispatcher(self._executor, publisher, limits, self._ownership, self._environment.now_ms)
        self._dispatcher, self._publisher = dispatcher, publisher
        control = Control(self._transport, settings.topics, dispatcher.drop)
        payloads = PayloadReader(self._transport)
        router = Router(dispatcher, publisher, control, payloads, settings.topics)
        self._loop = ShardLoop(self._transport, settings.topics, settings, dispatcher, router, control, self._ownership)
        log.info("worker-starts", worker=self.name, slots=self._executor.slots)
        async with WatchedTasks() as tasks:
            tasks.start("dispatch", dispatcher.run(stop))
            tasks.start("control", control.run())
            tasks.start("reports", Reporter(self._transport, settings.topics, self.name, self._report).run())
            tasks.start("stop-on-failure", _stop_on_failure(tasks, stop))
            await self._loop.run(stop)
            if tasks.error is not None:
                raise RuntimeError("a side task of the worker failed") from tasks.error

    async def _event_partitions(self, stop: asyncio.Event) -> int:
        """Return the partition count of job-events, retrying until it is known; 0 if the worker is stopped first."""
        topic = self._settings.topics.job_events
        while not stop.is_set():
            self._waits += 1
            try:
                found = await self._transport.partition_counts([topic])
            except BrokerUnavailable as error:
                log.warning("no-broker", error=str(error))
            else:
                if found.get(topic):
                    return found[topic]
                log.warning("topic-missing", topic=topic)
            await asyncio.sleep(_RETRY_S)
        return 0


async def _stop_on_failure(tasks: WatchedTasks, stop: asyncio.Event) -> None:
    await tasks.failed.wait()
    stop.set()


def build(
    settings: WorkerSettings, transport: Transport, executor: Executor, environment: Environment | None = None
) -> Worker:
    """Wire a worker; tests call this with other parts."""
    return Worker(settings, transport, executor, environment or Environment())
