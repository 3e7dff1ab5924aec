"""Carries out a plan: finds victims with work, strikes, lets faults overlap, and notes what each one found."""

import asyncio
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaos.checker import Disturbance
from chaos.faults.base import Context, Fault, Victim
from chaos.faults.brokers import (
    FillDisk,
    KillBroker,
    RollingRestart,
    SuspendBroker,
    group_coordinator,
    transaction_coordinator,
)
from chaos.faults.jobs import CancelInFlight, Poison
from chaos.faults.redrive import Redrive
from chaos.faults.requests import DisturbRequests
from chaos.faults.services import KillService, RebalanceStorm, SuspendService
from chaos.plan import Kind, PlannedFault
from regather_cli.service_process import Role

_LOOK_AGAIN_S = 0.5
_NOBODY_S = 90.0
_PATIENCE_S = 40.0
"""So long a fault waits for a kind that is still to come before another is struck in its place."""

_OFTEN_ENOUGH = 2
"""A kind that was struck only once may have met a lucky moment."""

_LEAST_GAP_S = 2.0
"""Between two faults, however late the plan is: a storm of all that was missed would be no part of it."""

_SLACK_MS = 30_000
"""What a fault has set going, rebalances and repeats, may take so long after it is healed."""


def all_faults() -> dict[Kind, Fault]:
    """Every sort of fault."""
    return {
        Kind.WORKER_KILL: KillService(Role.WORKER),
        Kind.GATEWAY_KILL: KillService(Role.GATEWAY),
        Kind.AGGREGATOR_KILL: KillService(Role.AGGREGATOR),
        Kind.WORKER_ZOMBIE: SuspendService(Role.WORKER),
        Kind.GATEWAY_ZOMBIE: SuspendService(Role.GATEWAY),
        Kind.AGGREGATOR_ZOMBIE: SuspendService(Role.AGGREGATOR),
        Kind.BROKER_KILL: KillBroker(),
        Kind.BROKER_PAUSE: SuspendBroker(),
        Kind.ROLLING_RESTART: RollingRestart(),
        Kind.TRANSACTION_COORDINATOR_KILL: KillBroker(transaction_coordinator),
        Kind.GROUP_COORDINATOR_KILL: KillBroker(group_coordinator),
        Kind.DISK_FULL: FillDisk(),
        Kind.REBALANCE_STORM: RebalanceStorm(),
        Kind.POISON: Poison(),
        Kind.CANCEL: CancelInFlight(),
        Kind.PROXY: DisturbRequests(),
        Kind.REDRIVE: Redrive(),
    }


@dataclass(slots=True)
class Fired:
    """A fault that counted. Times are seconds since 1970; `found` is "" while, or if, it found nothing to do."""

    number: int
    kind: Kind
    victim: Victim
    began_s: float
    executions: int
    ended_s: float = 0.0
    found: str = ""
    error: str = ""

    def __str__(self) -> str:
        took = f"{self.ended_s - self.began_s:.1f} s" if self.ended_s else "running"
        return f"{self.number} {self.kind} {self.victim.name} ({self.victim.had}): {self.found or 'NOTHING'} [{took}]"


class Nemesis:
    """One run of a plan."""

    def __init__(
        self,
        context: Context,
        faults: Mapping[Kind, Fault],
        began_s: float,
        *,
        gap_s: float = _LEAST_GAP_S,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._context = context
        self._gap_s = gap_s
        self._patience_s = patience_s
        self._faults = faults
        self._began_s = began_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: list[Kind] = []
        self._planned: Counter[Kind] = Counter()
        self.fired: list[Fired] = []
        self.chosen_anew = 0
        """How many were of a kind that the plan has not, because nobody had anything of what was still to come."""

    @property
    def by_kind(self) -> Counter[str]:
        """How many of each sort have counted."""
        return Counter(fired.kind.value for fired in self.fired)

    @property
    def too_rare(self) -> list[str]:
        """Kinds of the plan that came less than twice, or not at all if the plan has them once."""
        struck = Counter(fired.kind for fired in self.fired)
        return [kind for kind, count in self._planned.items() if struck[kind] < min(count, _OFTEN_ENOUGH)]

    @property
    def idle(self) -> list[Fired]:
        """Those that found nothing to do."""
        return [fired for fired in self.fired if not fired.found]

    async def run(self, plan: Sequence[PlannedFault]) -> None:
        """Strike at the planned times; returns when every fault is healed.

        A kind that finds nobody at its time is struck at the next one at which it does, and a later one comes first: so
        that the rare ones, which need most to be as they want it, are not those that never come.
        """
        last_s = 0.0
        self._due = [planned.kind for planned in plan]
        self._planned = Counter(self._due)
        for planned in plan:
            due_s = max(self._began_s + planned.at_s, last_s + self._gap_s)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await self._fire(planned)
            last_s = time.monotonic()
        await asyncio.gather(*self._tasks)

    def disturbances(self) -> list[Disturbance]:
        """When faults may have caused further executions, on the brokers' clock, which is this machine's."""
        return [
            Disturbance(int(fired.began_s * 1000), int(fired.ended_s * 1000) + _SLACK_MS, fired.executions)
            for fired in self.fired
            if fired.executions
        ]

    async def _fire(self, planned: PlannedFault) -> None:
        began_s = time.monotonic()
        while (waited_s := time.monotonic() - began_s) < _NOBODY_S:
            for kind in dict.fromkeys([*self._due, *(planned.otherwise if waited_s >= self._patience_s else ())]):
                victim = await self._faults[kind].victim(self._context, planned)
                if victim is not None:
                    self._cross_off(kind)
                    self._start(planned, kind, victim)
                    return
            await asyncio.sleep(_LOOK_AGAIN_S)
        raise TimeoutError(f"nobody could be struck for {_NOBODY_S:g} s: {planned}")

    def _cross_off(self, kind: Kind) -> None:
        if kind in self._due:
            self._due.remove(kind)
        else:
            self.chosen_anew += 1

    def _start(self, planned: PlannedFault, kind: Kind, victim: Victim) -> None:
        fault = self._faults[kind]
        fired = Fired(planned.number, kind, victim, time.time(), fault.executions)
        self.fired.append(fired)
        self._context.struck.add(victim.name)
        task = asyncio.create_task(self._strike(fault, planned, fired), name=f"fault-{planned.number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _strike(self, fault: Fault, planned: PlannedFault, fired: Fired) -> None:
        try:
            fired.found = await fault.strike(self._context, planned, fired.victim)
        except Exception as error:  # a service or a broker that does not come back is the checker's to judge
            fired.error = repr(error)
            traceback.print_exc(file=sys.stderr)
        finally:
            fired.ended_s = time.time()
            self._context.struck.discard(fired.victim.name)
            print(f"{time.monotonic() - self._began_s:7.1f} s  {fired} {fired.error}", flush=True)
