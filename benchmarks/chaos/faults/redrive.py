"""Redrive in flight: the dead letters of a job that ended as partial run again, twice at once."""

import asyncio
import random

from chaos.faults.base import Context, Victim, picked
from chaos.ledger import Told
from chaos.plan import PlannedFault

_HEARD_S = 40.0
_TRIES = 3


class Redrive:
    """The same poison gives the same gaps again, as the next version; of two redrives at once one is refused."""

    executions = 0

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        if not any(context.ledger.open()):
            return None
        chosen = picked([told for told in context.ledger.all if _redrivable(told)], planned.pick)
        return Victim(chosen.label, f"{len(chosen.job.answer.failed)} dead letters") if chosen else None

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        told = context.ledger.by_label(victim.name)
        assert told is not None
        told.kept = True
        draws = [random.Random(f"redrive {planned.number} {number}") for number in range(2)]
        heard: list[str] = []
        for _ in range(_TRIES):  # one whose gateway is killed half-way is closed, and another one has to come
            told.ended = None
            heard += await asyncio.gather(*(context.workload.redrive(told, draw, _HEARD_S) for draw in draws))
            told.given_up = False
            await context.workload.follow(told, draws[0])
            if "taken" in heard:
                break
        ended = told.ended is not None and told.ended[1] > 1
        return f"{', '.join(heard)}, ended as {told.ended}" if "taken" in heard and ended else ""


def _redrivable(told: Told) -> bool:
    """Whether shards of its first version are missing: dead, or dropped by a cancellation."""
    if told.ended is None or told.ended[1] > 1 or told.kept:
        return False
    return told.ended[0] == "cancelled" or (told.ended[0] == "partial" and bool(told.job.answer.failed))
