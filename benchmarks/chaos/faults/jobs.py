"""Faults that come in by the front door: jobs that hurt, and jobs that are not wanted any more."""

import asyncio
import random
import time

from chaos import jobs
from chaos.faults.base import Context, Victim
from chaos.ledger import Told
from chaos.plan import PlannedFault

_IN_FLIGHT_S = 20.0
_HEARD_S = 40.0
_LONG = 60


class Poison:
    """A job of which shards raise, hang, exit and crash, beside those of others."""

    executions = 0

    def __init__(self) -> None:
        self._told: dict[int, Told] = {}

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        draw = random.Random(f"poison {planned.number} {planned.vigour}")
        job = jobs.poison(draw, "poison") if planned.pick < 0.7 else jobs.bad_rows(draw, "bad-rows")
        told = await context.workload.one(job, draw)
        if not told.accepted:
            return None
        self._told[planned.number] = told
        return Victim(told.label, repr(job))

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        told = self._told.pop(planned.number)
        await context.workload.follow(told, random.Random(f"poison {planned.number}"))
        return f"ended as {told.ended[0]}" if told.ended and told.ended[0] == "partial" else ""


class CancelInFlight:
    """A job whose shards run and wait is cancelled."""

    executions = 0

    def __init__(self) -> None:
        self._told: dict[int, Told] = {}

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        draw = random.Random(f"cancel {planned.number} {planned.vigour}")
        told = await context.workload.one(jobs.sleepers("long", _LONG, 1.0), draw)
        end_s = time.monotonic() + _IN_FLIGHT_S
        while told.accepted and time.monotonic() < end_s:
            document = await context.workload.document(told, draw)
            done = document["shards"]["done"] if document else 0
            if done:
                self._told[planned.number] = told
                return Victim(told.label, f"{done} of {_LONG} shards done")
            await asyncio.sleep(0.2)
        if told.accepted:  # it is in nobody's way, but nobody should have to wait for it either
            await context.workload.cancel(told, draw, _HEARD_S)
        return None

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        told, draw = self._told.pop(planned.number), random.Random(f"cancel {planned.number}")
        heard = await context.workload.cancel(told, draw, _HEARD_S)
        await context.workload.follow(told, draw)
        cancelled = told.ended is not None and told.ended[0] == "cancelled"
        return f"{victim.had}; {heard}" if cancelled else ""
