"""The quiet phase: what must be true within a minute of the last fault."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from chaos.monitor import Monitor
from chaos.readers import Readers
from regather.embedded.cluster_view import ClusterView
from regather.topics.layout import Topics
from regather_cli.service_process import Role, Service

LIMIT_S = 60.0
_LEFT_OUT_AFTER_S = 120.0


@dataclass(frozen=True, slots=True)
class Quiet:
    """Everything that is asked whether it has drained."""

    topics: Topics
    services: Sequence[Service]
    monitor: Monitor
    view: ClusterView
    readers: Readers

    async def open_jobs(self) -> str:
        """Jobs that the aggregators hold."""
        count = await self.monitor.total(Role.AGGREGATOR, "regather_jobs_open")
        return "an aggregator does not answer" if count is None else f"{count:g} jobs open" if count else ""

    async def services_ready(self) -> str:
        """Services that are not there, or not ready."""
        away = [service.name for service in self.services if not await self.monitor.ready(service)]
        return f"not ready: {', '.join(away)}" if away else ""

    async def brokers_in_sync(self) -> str:
        """Partitions without all their replicas."""
        count = await self.view.out_of_sync()
        return f"{count} partitions are out of sync" if count else ""

    async def lag(self) -> str:
        """Records that a group has not settled."""
        topics = self.topics
        shards = (topics.shards_small, topics.shards_bulk, topics.shards_retry)
        for role, names in (("workers", shards), ("aggregators", (topics.job_events,))):
            committed = await self.view.committed(topics.group(role))
            for name in names:
                offsets = {tp.partition: offset for tp, offset in committed.items() if tp.topic == name}
                count = await self.readers.records_from(name, offsets)
                if count:
                    return f"lag of {role}: {count} records of {name}"
        return ""

    async def transactions(self) -> str:
        """Transactions that nobody ends."""
        topics = self.topics
        written = (
            topics.results,
            topics.segments,
            topics.checkpoints,
            topics.job_status,
            topics.shards_retry,
            topics.control,
        )
        found = await self.readers.hanging(written)
        return f"open transactions: {', '.join(found)}" if found else ""

    async def reader(self) -> str:
        """The concurrent reader's rest."""
        return "" if await self.readers.caught_up() else "the concurrent reader is behind"


async def wait_quiet(
    quiet: Quiet, clients_done: Callable[[], bool], since_s: float, sleep: Callable[[float], Awaitable[None]]
) -> tuple[float, str]:
    """Wait until all is quiet; seconds since `since_s`, and what was not quiet when the wait was given up."""
    checks = (quiet.open_jobs, quiet.services_ready, quiet.brokers_in_sync, quiet.reader, quiet.transactions, quiet.lag)
    while True:
        still = "clients wait for their jobs" if not clients_done() else ""
        for check in () if still else checks:
            try:
                still = await check()
            except Exception as error:  # whatever a client says while a broker comes back
                still = f"{check.__name__}: {error!r}"
            if still:
                break
        waited_s = time.monotonic() - since_s
        if not still or waited_s > _LEFT_OUT_AFTER_S:
            return waited_s, still
        await sleep(0.5)
