"""Faults of single requests between services and brokers, by whatever stands between them (`Context.requests`)."""

from chaos.faults.base import Context, Victim, picked
from chaos.plan import PlannedFault

_REQUESTS = (
    ("EndTxn", "hold"),
    ("EndTxn", "drop"),
    ("Produce", "drop"),
    ("Produce", "reset"),
    ("OffsetCommit", "reset"),
    ("Heartbeat", "hold"),
)
_SECONDS = 4.0


class DisturbRequests:
    """Hold, drop or reset requests of one sort for some seconds. There is none of it without `Context.requests`."""

    executions = 6

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        chosen = picked(_REQUESTS, planned.pick)
        if context.requests is None or chosen is None or not any(context.ledger.open()):
            return None
        return Victim(f"{chosen[1]} {chosen[0]}", "a job is open")

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        assert context.requests is not None
        how, api = victim.name.split()
        hit = await context.requests.disturb(api, how, _SECONDS * (0.5 + planned.vigour))
        return f"{hit} requests" if hit else ""
