"""The body of the process that drives a peer: tasks in, answers judged, a broken pool made new."""

import itertools
import os
import random
import resource
import threading
import time
from collections import deque
from concurrent.futures import BrokenExecutor
from pathlib import Path

from peers.faults import FAULTS, INNOCENT
from peers.journal import Journal
from peers.plan import POLL_S, Plan
from peers.pools import CLOSE_LIMIT_S, PEERS, Handle, Peer

# No bad task runs and nothing has happened: the pool is unusable, whatever it says of itself. Celery looks every 5 s.
STALL_S = 10.0


def mix(plan: Plan) -> list[str]:
    """The actions in order; the first innocents are there so that every process has been seen before the first fault."""
    faults = [fault for fault, _ in zip(itertools.cycle(FAULTS), range(plan.kills), strict=False)]
    random.Random(plan.seed).shuffle(faults)
    return [INNOCENT] * (4 * plan.slots) + [action for fault in faults for action in (INNOCENT, INNOCENT, fault)]


class Driver:
    """Keeps the peer's queue filled, judges the answers, and makes a broken pool new."""

    def __init__(self, peer: Peer, journal: Journal, plan: Plan) -> None:
        self._peer, self._journal = peer, journal
        self._queued = 4 * plan.slots
        self._actions = dict(enumerate(mix(plan)))
        self._todo = deque(self._actions)
        self._flying: dict[int, Handle] = {}
        self._started: set[int] = set()
        self._running: set[int] = set()
        self._broken, self._last_s = False, time.monotonic()

    def run(self) -> None:
        while self._todo or self._flying or self._running:
            self._submit()
            done = [number for number, handle in self._flying.items() if handle.done()]
            self._follow()
            for number in done:
                self._settle(number)
            if self._broken or self._stalled():
                self._heal()
            time.sleep(POLL_S)

    def _submit(self) -> None:
        while self._todo and len(self._flying) < self._queued:
            number = self._todo[0]
            try:
                self._flying[number] = self._peer.submit(str(self._journal.path), number, self._actions[number])
            except BrokenExecutor:
                self._broken = True
                return
            self._todo.popleft()

    def _follow(self) -> None:
        for event in self._journal.news():
            self._last_s = time.monotonic()
            number = event.get("number", -1)
            if event["event"] == "start" and event["action"] != INNOCENT:
                self._started.add(number)
                self._running.add(event["pid"])
            elif event["event"] == "gone":
                self._running.discard(event["task_pid"])
                self._flying.pop(number, None)  # its outcome may come much later, and no slot is busy with it

    def _settle(self, number: int) -> None:
        handle = self._flying.pop(number, None)
        if handle is None:
            return
        try:
            right = handle.result() == number
        except BrokenExecutor:
            right, self._broken = False, True
        except Exception:  # a peer's own error of any sort: the task failed
            right = False
        self._judge(number, right=right)

    def _judge(self, number: int, *, right: bool) -> None:
        if self._actions[number] == INNOCENT:
            self._journal.write("answer", number=number, right=right)
        elif number not in self._started:
            self._todo.appendleft(number)  # it went down with another's pool and has still to be seen

    def _stalled(self) -> bool:
        return bool(self._flying) and not self._running and time.monotonic() - self._last_s > STALL_S

    def _heal(self) -> None:
        reason = "broken" if self._broken else "stalled"
        for number in list(self._flying):
            del self._flying[number]
            self._judge(number, right=False)
        if self._broken or self._todo:  # at the very end, a lost answer alone is no sign of a broken pool
            self._journal.write("unusable", reason=reason)
            self._peer.renew()
        self._broken, self._last_s = False, time.monotonic()


def drive(plan: Plan, folder: Path) -> None:
    """The body of the peer's own process; it leaves without the exit handlers, which would wait for what hangs."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    journal = Journal(folder / "journal")
    peer = PEERS[plan.peer](plan, folder)
    journal.write("ready", version=peer.version)
    Driver(peer, journal, plan).run()
    closer = threading.Thread(target=peer.close, daemon=True)
    closer.start()
    closer.join(CLOSE_LIMIT_S)
    os._exit(0)
