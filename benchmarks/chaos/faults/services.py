"""Faults of services: killed, suspended until others have taken over, joined and left by extra workers."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.faults.base import Context, Victim, picked
from chaos.monitor import Metrics
from chaos.plan import PlannedFault
from regather.testing.waiting import eventually
from regather_cli.service_process import Role, Service

_BACK_S = 60.0
_ROUNDS = 3
_EVICTED = ("UnknownMember", "not recognized", "IllegalGeneration", "session expired", "RebalanceInProgress")


def _worker_has(metrics: Metrics) -> str:
    busy, queued = metrics.get("regather_slots_busy", 0), metrics.get("regather_shards_queued", 0)
    owned = metrics.get("regather_partitions", 0)
    return f"{busy:g} slots busy, {queued:g} queued, {owned:g} partitions" if busy and owned else ""


def _aggregator_has(metrics: Metrics) -> str:
    owned, jobs = metrics.get("regather_partitions", 0), metrics.get("regather_jobs_open", 0)
    return f"{owned:g} partitions, {jobs:g} jobs open" if owned and jobs else ""


def _gateway_has(metrics: Metrics) -> str:
    active = metrics.get("regather_requests_active", 0)
    return f"{active:g} requests active" if active else ""


_HAS: dict[Role, Callable[[Metrics], str]] = {
    Role.WORKER: _worker_has,
    Role.AGGREGATOR: _aggregator_has,
    Role.GATEWAY: _gateway_has,
}


async def at_work(context: Context, role: Role, pick: float) -> Victim | None:
    """A service of this role that has work now, that nothing else strikes, and while a job is open."""
    if not any(context.ledger.open()):
        return None
    services = [service for service in context.stack.of(role) if service.name not in context.struck]
    found = await asyncio.gather(*(context.monitor.read(service) for service in services))
    with_work = [
        Victim(service.name, had)
        for service, metrics in zip(services, found, strict=True)
        if metrics is not None and (had := _HAS[role](metrics))
    ]
    return picked(with_work, pick)


def service_of(context: Context, name: str) -> Service:
    """The service of this name."""
    return next(service for service in context.stack.services if service.name == name)


@dataclass(frozen=True, slots=True)
class KillService:
    """kill -9; the supervisor starts it again."""

    role: Role
    executions: int = 4

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        return await at_work(context, self.role, planned.pick)

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        service = service_of(context, victim.name)
        pid, began_s = service.pid, time.monotonic()
        alive = service.running
        await asyncio.to_thread(service.kill)
        what = "the supervisor's restart"
        await eventually(lambda: service.running and service.pid != pid, timeout_s=_BACK_S, what=what)
        await eventually(lambda: context.monitor.ready(service), timeout_s=_BACK_S, what=what, interval_s=0.2)
        return f"pid {pid}, ready again after {time.monotonic() - began_s:.1f} s" if alive else ""


@dataclass(frozen=True, slots=True)
class SuspendService:
    """SIGSTOP until the others own all that it owned, then SIGCONT: a zombie that knows nothing of its loss."""

    role: Role
    executions: int = 4

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        free = [service for service in context.stack.of(self.role) if service.name not in context.struck]
        return await at_work(context, self.role, planned.pick) if len(free) > 1 else None

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        service = service_of(context, victim.name)
        log_from, began_s = service.log_path.stat().st_size, time.monotonic()
        least_s = context.session_s * 1.2 + planned.vigour * 4
        taken_over = self.role is Role.GATEWAY
        service.suspend()
        try:
            while (paused_s := time.monotonic() - began_s) < least_s or (not taken_over and paused_s < least_s + 8):
                taken_over = taken_over or await self._taken_over(context, service)
                await asyncio.sleep(0.3)
        finally:
            service.resume()
        await eventually(
            lambda: context.monitor.ready(service), timeout_s=_BACK_S, what=f"{service.name}", interval_s=0.2
        )
        said = await asyncio.to_thread(_said_since, service, log_from)
        evicted = taken_over or any(word in said for word in _EVICTED)
        return f"suspended for {paused_s:.1f} s, {victim.had} were taken over" if evicted else ""

    async def _taken_over(self, context: Context, service: Service) -> bool:
        others = [other for other in context.stack.of(self.role) if other is not service and other.running]
        found = await asyncio.gather(*(context.monitor.read(other) for other in others))
        owned = sum(metrics.get("regather_partitions", 0.0) for metrics in found if metrics is not None)
        return owned >= await partitions_of(context, self.role)


class RebalanceStorm:
    """Two extra workers join and leave, by SIGTERM and by kill -9 in turn, as soon as they own anything."""

    executions = 4 * _ROUNDS

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        if "storm" in context.struck:
            return None
        at_work_now = await at_work(context, Role.WORKER, planned.pick)
        return Victim("storm", f"{at_work_now.name}: {at_work_now.had}") if at_work_now else None

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        joined = await asyncio.gather(*(self._come_and_go(context, number) for number in range(2)))
        return f"{sum(joined)} times an extra worker owned partitions" if any(joined) else ""

    async def _come_and_go(self, context: Context, lane: int) -> int:
        joined = 0
        for number in range(_ROUNDS):
            worker = context.stack.launch(Role.WORKER)
            context.supervision.release(worker)
            context.struck.add(worker.name)
            joined += await self._owns_something(context, worker)
            await context.stack.dismiss(worker, grace_s=0 if (number + lane) % 2 else 8)
            context.struck.discard(worker.name)
        return joined

    async def _owns_something(self, context: Context, worker: Service) -> bool:
        # As long as any service may take to come back: the coordinator of its group may be restarting too.
        end_s = time.monotonic() + _BACK_S
        while time.monotonic() < end_s:
            worker.read_address()
            metrics = await context.monitor.read(worker)
            if metrics is not None and metrics.get("regather_partitions", 0):
                return True
            await asyncio.sleep(0.2)
        return False


async def partitions_of(context: Context, role: Role) -> int:
    """How many partitions the group of a role shares out."""
    topics = context.stack.topics
    names = (
        {topics.job_events}
        if role is Role.AGGREGATOR
        else {topics.shards_small, topics.shards_bulk, topics.shards_retry}
    )
    return sum(spec.partitions for spec in context.stack.topic_specs() if spec.name in names)


def _said_since(service: Service, offset: int) -> str:
    with service.log_path.open(errors="replace") as log:
        log.seek(offset)
        return log.read()
