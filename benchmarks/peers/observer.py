"""Sees from outside, in /proc, when bad tasks end, and kills what the peer does not end."""

import math
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from peers.faults import INNOCENT
from peers.journal import Event, Journal
from peers.plan import POLL_S, Plan

COLLATERAL_S = 0.1


@dataclass(frozen=True)
class Seen:
    """A process as /proc tells it: its birth tells it from a later one with the same pid."""

    birth: str
    session: int


def look_at(pid: int) -> Seen | None:
    """None when there is no such process, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else Seen(birth=fields[19], session=int(fields[3]))


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass
class Bad:
    """A bad task from its start on."""

    number: int
    fault: str
    pid: int
    deadline_s: float
    seen: Seen | None
    killed_by_us: bool = False
    fell_with_pool: bool = False  # a broken pool took it along: the peer did not end it for its limit
    gone_s: float = math.nan

    @property
    def overrun_ms(self) -> float:
        return (self.gone_s - self.deadline_s) * 1e3

    @property
    def ended_by_peer(self) -> bool:
        return not math.isnan(self.gone_s) and not self.killed_by_us


@dataclass
class Observer:
    """Sees bad tasks start and end, and keeps everything that was written."""

    journal: Journal
    plan: Plan
    events: list[Event] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    running: list[Bad] = field(default_factory=list)
    last_kill_s: float = -math.inf

    def look(self) -> None:
        for event in self.journal.news():
            self.events.append(event)
            if event["event"] == "start" and event["action"] != INNOCENT:
                self._take(event)
        for task in list(self.running):
            self._check(task)

    def _take(self, event: Event) -> None:
        deadline_s = event["at_s"] + self.plan.limit_s
        task = Bad(event["number"], event["action"], event["pid"], deadline_s, look_at(event["pid"]))
        self.bad.append(task)
        self.running.append(task)

    def _check(self, task: Bad) -> None:
        seen = look_at(task.pid)
        if seen is None or seen != task.seen:
            task.gone_s = time.monotonic()
            beside_our_kill = task.gone_s - self.last_kill_s < COLLATERAL_S
            task.fell_with_pool = not task.killed_by_us and (task.overrun_ms < 0 or beside_our_kill)
            self.running.remove(task)
            self.journal.write("gone", number=task.number, task_pid=task.pid)
        elif not task.killed_by_us and time.monotonic() > task.deadline_s + self.plan.grace_s:
            task.killed_by_us = True
            self.last_kill_s = time.monotonic()
            kill(task.pid)

    def pids(self, event: str) -> list[int]:
        return [found["pid"] for found in self.events if found["event"] == event]


def members(session: int) -> list[int]:
    """The living processes of one session: all that a driver has started, however deep."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if (seen := look_at(pid)) and seen.session == session]


def sweep(session: int, spared: set[int]) -> None:
    """More than once, because a pool replaces what is killed."""
    for _ in range(100):
        found = set(members(session)) - spared
        if not found:
            return
        for pid in found:
            kill(pid)
        time.sleep(POLL_S)
