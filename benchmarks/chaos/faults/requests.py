"""Faults of single requests and replies between services and brokers, by a proxy that stands between them."""

import asyncio
import contextlib
from dataclasses import replace

from chaos.faults.base import Context, Victim, picked
from chaos.plan import PlannedFault
from regather.testing.fault_proxy import Rule
from regather.testing.waiting import eventually

_SEEN_S = 20.0
_LEAST_HOLD_S, _MORE_HOLD_S = 2.0, 10.0
"""From less than a session to more than a request may take."""

RULES: tuple[Rule, ...] = (
    Rule("EndTxn", "request", "hold", "regather-aggregator", count=2),
    Rule("EndTxn", "reply", "drop", "regather-aggregator", count=1),
    Rule("AddPartitionsToTxn", "reply", "reset", "regather-aggregator", count=2),
    Rule("Produce", "request", "hold", "regather-aggregator", count=2),
    Rule("Produce", "reply", "drop", "regather-aggregator", count=2),
    Rule("Produce", "reply", "reset", "regather-worker", count=3),
    Rule("Produce", "reply", "drop", "regather-worker", count=2),
    Rule("Produce", "reply", "reset", "regather-gateway", count=3),
    Rule("Produce", "request", "hold", "regather-gateway", count=2),
    Rule("OffsetCommit", "reply", "reset", count=3),
    Rule("OffsetCommit", "request", "hold", "regather-worker", count=2),
    Rule("Heartbeat", "request", "hold", "regather-worker", count=3),
    Rule("Heartbeat", "request", "drop", "regather-aggregator", count=3),
    Rule("Fetch", "reply", "reset", count=6),
    Rule("Fetch", "reply", "garble", count=3),
    Rule("Fetch", "request", "hold", "regather-aggregator", count=2),
    Rule("Metadata", "reply", "drop", count=2),
)


class DisturbRequests:
    """Hold, drop, reset or garble the next few frames of one sort. There is none of it without `Context.proxy`."""

    executions = 6

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """See Fault."""
        rule = picked(RULES, planned.pick)
        if context.proxy is None or rule is None or not any(context.ledger.open()):
            return None
        name = f"{rule.action} {rule.side} {rule.api} {rule.client_id or 'any'}"
        return None if name in context.struck else Victim(name, "a job is open")

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """See Fault."""
        proxy, rule = context.proxy, picked(RULES, planned.pick)
        assert proxy is not None
        assert rule is not None
        hold_s = round(_LEAST_HOLD_S + planned.vigour * _MORE_HOLD_S, 1)
        if rule.action == "hold":
            rule = replace(rule, hold_s=hold_s)
        armed = proxy.arm(rule)
        try:
            with contextlib.suppress(AssertionError):  # then it found nothing to do
                await eventually(lambda: armed.fired, timeout_s=_SEEN_S, interval_s=0.1)
                await asyncio.sleep(hold_s)
        finally:
            proxy.disarm(armed)
        return f"{armed.fired} frames in {hold_s} s" if armed.fired else ""
