"""Redrive in flight: the dead letters of a job that ended as partial run again, twice at once."""

import asyncio
import random

from chaos.faults.base import Context, Victim, picked
from chaos.ledger import Told
from chaos.plan import PlannedFault

_HEARD_S = 40.0


class Redrive:
    """The same poison gives the same gaps again, as the next version; of two redrives at once one is refused."""

    executions = 0

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        chosen = picked([told for told in context.ledger.all if _redrivable(told)], planned.pick)
        return Victim(chosen.label, f"{len(chosen.job.answer.failed)} dead letters") if chosen else None

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        told = context.ledger.by_label(victim.name)
        assert told is not None
        draws = [random.Random(f"redrive {planned.number} {number}") for number in range(2)]
        heard = await asyncio.gather(*(context.workload.redrive(told, draw, _HEARD_S) for draw in draws))
        told.ended, told.given_up = None, False
        await context.workload.follow(told, draws[0])
        ended = told.ended is not None and told.ended[1] > 1
        return f"{' and '.join(heard)}, ended as {told.ended}" if "taken" in heard and ended else ""


def _redrivable(told: Told) -> bool:
    return told.ended is not None and told.ended[:2] == ("partial", 1) and bool(told.job.answer.failed)
