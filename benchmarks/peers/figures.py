"""What the benchmark says of one peer, from what the observer has seen."""

import math
from collections import deque
from typing import Any

from peers.faults import FAULTS, HANGS, INNOCENT
from peers.journal import Event
from peers.observer import Bad, Observer
from peers.plan import LATE_S


def percentiles(values_ms: list[float]) -> dict[str, float] | None:
    """The nearest rank of each."""
    if not values_ms:
        return None
    ranked = sorted(values_ms)
    return {f"p{share}": round(ranked[math.ceil(share / 100 * len(ranked)) - 1], 1) for share in (50, 99)}


def refills_ms(events: list[Event], bad: list[Bad]) -> list[float]:
    """Each end is paired with the earliest process not yet paired that was first seen after it."""
    first_s: dict[int, float] = {}
    for event in events:
        if event["event"] == "start":
            first_s.setdefault(event["pid"], event["at_s"])
    fresh = deque(sorted(first_s.values()))
    found = []
    for gone_s in sorted(task.gone_s for task in bad if not math.isnan(task.gone_s)):
        while fresh and fresh[0] <= gone_s:
            fresh.popleft()
        if fresh:
            found.append((fresh.popleft() - gone_s) * 1e3)
    return found


def overruns_ms(bad: list[Bad]) -> list[float]:
    hanging = [task for task in bad if task.fault in HANGS]
    return [task.overrun_ms for task in hanging if task.ended_by_peer and not task.fell_with_pool]


def by_fault(bad: list[Bad]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for fault in FAULTS:
        tasks = [task for task in bad if task.fault == fault]
        rows[fault] = {"tasks": len(tasks), "never_ended": sum(task.killed_by_us for task in tasks)}
        if fault in HANGS:
            fell = sum(task.fell_with_pool for task in tasks)
            rows[fault] |= {"fell_with_pool": fell, "overrun_ms": percentiles(overruns_ms(tasks))}
    return rows


def figures(observer: Observer, orphans: int) -> dict[str, Any]:
    events, bad = observer.events, observer.bad
    innocents = {e["number"] for e in events if e["event"] == "start" and e["action"] == INNOCENT}
    answers = {event["number"]: event["right"] for event in events if event["event"] == "answer"}
    return {
        "version": next((event["version"] for event in events if event["event"] == "ready"), None),
        "kills": sum(task.ended_by_peer for task in bad),
        "never_ended": sum(task.killed_by_us for task in bad),
        "late": sum(task.overrun_ms > LATE_S * 1e3 for task in bad),
        "overrun_ms": percentiles(overruns_ms(bad)),
        "refill_ms": percentiles(refills_ms(events, bad)),
        "neighbour_failures": sum(not right for right in answers.values()),
        "neighbours": len(innocents | set(answers)),
        "orphans": orphans,
        "unusable_after": len(observer.pids("unusable")),
        "by_fault": by_fault(bad),
    }
