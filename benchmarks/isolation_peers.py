"""What pebble, ProcessPoolExecutor and Celery prefork do on the faults that hostile shards make.

`python benchmarks/isolation_peers.py --kills 60 --limit-s 0.25 --slots 2` runs the three in turn, each driven by a process
of its own. A seeded mix of bad tasks (`FAULTS`, equal parts) goes in with two innocent ones (20 ms, then their number) to
each bad one, and so many are always queued that every slot is busy. Each peer is given the limit in its own way.

Tasks, driver and observer share a journal of JSON lines stamped with time.monotonic(), which is system-wide on Linux. The
observer is this process, outside the peer: it looks at /proc/<pid>/stat of each bad task once a millisecond (a zombie is
gone), and kills by pid what the peer does not end (`Plan.grace_s`). Grandchildren sleep longer than any run lasts.

The last line: {peer: {"version", "kills", "never_ended", "late", "overrun_ms", "refill_ms", "neighbour_failures",
"neighbours", "orphans", "unusable_after", "by_fault", "note"}}. `late` counts the bad tasks that still ran 3 s after their
limit, `never_ended` those of them that this benchmark had to kill. `overrun_ms` is from a hanging task's limit to its
pid's end, where the peer ended it for that; `fell_with_pool` in `by_fault` counts the hanging tasks that a broken pool
took along. `refill_ms` is from a bad task's end to the first task of a process not seen before.
"""

import argparse
import ctypes
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import platform
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

HANGS = ("sleep", "busy", "deaf", "fork")
FAULTS = (*HANGS, "segfault", "exit")
INNOCENT = "echo"
HANG_S, GRANDCHILD_S, ECHO_S = 60.0, 600.0, 0.02
LATE_S, COLLATERAL_S = 3.0, 0.1
LOOK_S, DRIVE_S = 0.001, 0.005
# No bad task runs and nothing has happened: the pool is unusable, whatever it says of itself. Celery looks every 5 s.
STALL_S = 10.0
PEER_LIMIT_S, CLOSE_LIMIT_S, READY_LIMIT_S, ORPHAN_WAIT_S = 120.0, 8.0, 20.0, 1.0
NAMES = {"pebble": "pebble", "futures": "ProcessPoolExecutor", "celery": "celery prefork"}
NOTES = {
    "pebble": "schedule(timeout=limit); SIGTERM at the limit, SIGKILL 3 s later",
    "futures": "result(timeout=limit), then cancel(), which ends no process: a hanging task dies only with its broken pool",
    "celery": "task_time_limit=limit, accepted as a float; no soft limit; redis on loopback",
}

Event = dict[str, Any]


class Journal:
    """A file to which every process appends whole lines with one write each, and which each reader follows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to, self._rest = 0, b""

    def write(self, event: str, **more: object) -> None:
        line = json.dumps({"event": event, "pid": os.getpid(), "at_s": time.monotonic(), **more}) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, line.encode())
        os.close(file)

    def news(self) -> list[Event]:
        """What was written since the last call."""
        if not self.path.exists() or self.path.stat().st_size == self._read_to:
            return []
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            found = file.read()
        self._read_to += len(found)
        *lines, self._rest = (self._rest + found).split(b"\n")
        return [json.loads(line) for line in lines]


# --- what runs in the slots ---


def busy() -> None:
    sum(range(4_000_000_000))  # one call into C, which lets no Python signal handler run and holds the GIL


def deaf() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):  # the C library keeps two for itself
            signal.signal(number, signal.SIG_IGN)
    time.sleep(HANG_S)


def fork(journal: Journal) -> None:
    if os.fork() == 0:
        journal.write("grandchild")
        time.sleep(GRANDCHILD_S)
        os._exit(0)
    time.sleep(HANG_S)


def execute(path: str, number: int, action: str) -> int:
    """The one task of all peers; a bad one never answers."""
    journal = Journal(Path(path))
    journal.write("start", number=number, action=action)
    if action == INNOCENT:
        time.sleep(ECHO_S)
        return number
    faults = {
        "sleep": lambda: time.sleep(HANG_S),
        "busy": busy,
        "deaf": deaf,
        "fork": lambda: fork(journal),
        "segfault": lambda: ctypes.string_at(0),
        "exit": lambda: os._exit(7),
    }
    faults[action]()
    return -1


# --- the peers ---


@dataclass(frozen=True)
class Plan:
    """What both the benchmark and the process that drives a peer are told."""

    peer: str
    kills: int
    limit_s: float
    slots: int
    seed: int

    @property
    def grace_s(self) -> float:
        """How long after its limit a task may run on before this benchmark kills it.

        Pebble waits 3 s between SIGTERM and SIGKILL, for one process after the other: with less than that for each slot
        it would be charged with never ending what it does end.
        """
        return LATE_S * self.slots + 1.0 if self.peer == "pebble" else LATE_S

    def arguments(self) -> list[str]:
        values = ("--kills", self.kills, "--limit-s", self.limit_s, "--slots", self.slots, "--seed", self.seed)
        return ["--peer", self.peer, *map(str, values)]


class Handle(Protocol):
    """The answer to come."""

    def done(self) -> bool: ...
    def result(self) -> int: ...


class Peer(Protocol):
    """A pool of processes, as the driver sees it."""

    version: str

    def submit(self, path: str, number: int, action: str) -> Handle: ...
    def renew(self) -> None: ...
    def close(self) -> None: ...


class PebblePeer:
    """pebble.ProcessPool, which is given the limit with each task."""

    def __init__(self, plan: Plan, _folder: Path) -> None:
        self._plan = plan
        self.version = importlib.metadata.version("pebble")
        self._open()

    def _open(self) -> None:
        from pebble import ProcessPool

        self._pool = ProcessPool(max_workers=self._plan.slots)

    def submit(self, path: str, number: int, action: str) -> Handle:
        return self._pool.schedule(execute, args=(path, number, action), timeout=self._plan.limit_s)

    def renew(self) -> None:
        self._pool.stop()
        self._open()

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


class FuturesPeer:
    """The standard library's executor; a thread to each bad task does what a caller can do at the limit."""

    def __init__(self, plan: Plan, _folder: Path) -> None:
        self._plan = plan
        self.version = f"Python {platform.python_version()}"
        self._pool = ProcessPoolExecutor(plan.slots)

    def submit(self, path: str, number: int, action: str) -> Handle:
        future = self._pool.submit(execute, path, number, action)
        if action != INNOCENT:
            threading.Thread(target=self._give_up, args=(future,), daemon=True).start()
        return future

    def _give_up(self, future: Future[int]) -> None:
        while not (future.running() or future.done()):
            time.sleep(DRIVE_S)
        try:
            future.result(timeout=self._plan.limit_s)
        except FutureTimeoutError:
            future.cancel()
        except BrokenExecutor:
            return

    def renew(self) -> None:
        self.close()
        self._pool = ProcessPoolExecutor(self._plan.slots)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class CeleryHandle:
    """An AsyncResult with the two methods of a future."""

    answer: Any

    def done(self) -> bool:
        return bool(self.answer.ready())

    def result(self) -> int:
        return int(self.answer.get(timeout=1))


def celery_app(port: int, limit_s: float) -> tuple[Any, Any]:
    """The application and its task, the same in the driver and in the worker."""
    import celery

    url = f"redis://127.0.0.1:{port}/0"
    app = celery.Celery("isolation_peers", broker=url, backend=url)
    app.conf.update(task_time_limit=limit_s, broker_connection_retry_on_startup=True)
    return app, app.task(name="execute")(execute)


def celery_worker(port: int, plan: Plan) -> None:
    app, _task = celery_app(port, plan.limit_s)
    app.worker_main(["worker", "--pool=prefork", f"--concurrency={plan.slots}", "--loglevel=CRITICAL"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes], limit_s: float) -> None:
    process.terminate()
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class CeleryPeer:
    """A Celery worker with its prefork pool, and the redis between it and the driver."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._port = plan, free_port()
        self.version = importlib.metadata.version("celery")
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--appendonly", "no"]
        self._redis = subprocess.Popen(["redis-server", *options], cwd=folder, stdout=subprocess.DEVNULL)
        self._app, self._task = celery_app(self._port, plan.limit_s)
        self._open()

    def _open(self) -> None:
        command = [sys.executable, __file__, *self._plan.arguments(), "--celery-worker", str(self._port)]
        self._worker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up_s = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < give_up_s:
            with suppress(ConnectionError, OSError, self._app.connection().connection_errors[0]):
                if self._app.control.ping(timeout=0.5):
                    return
            time.sleep(0.1)
        raise RuntimeError("the Celery worker did not start")

    def submit(self, path: str, number: int, action: str) -> Handle:
        return CeleryHandle(self._task.delay(path, number, action))

    def renew(self) -> None:
        end(self._worker, CLOSE_LIMIT_S / 2)
        self._app.control.purge()
        self._open()

    def close(self) -> None:
        end(self._worker, CLOSE_LIMIT_S / 2)
        end(self._redis, CLOSE_LIMIT_S / 4)


PEERS: dict[str, type[PebblePeer | FuturesPeer | CeleryPeer]] = {
    "pebble": PebblePeer,
    "futures": FuturesPeer,
    "celery": CeleryPeer,
}

# --- the driver: one process for each peer ---


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
            time.sleep(DRIVE_S)

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


# --- the observer: outside ---


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
        time.sleep(DRIVE_S)


# --- the figures ---


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


# --- one peer, and all ---


def watch(driver: subprocess.Popen[bytes], observer: Observer) -> str:
    """Observe until the driver ends or its time is over; what there is to say of that."""
    stop_s = time.monotonic() + PEER_LIMIT_S
    while driver.poll() is None:
        if time.monotonic() > stop_s:
            driver.kill()
            driver.wait()
            return f"stopped after {PEER_LIMIT_S:.0f} s"
        observer.look()
        time.sleep(LOOK_S)
    observer.look()
    return "" if driver.returncode == 0 else f"the driver ended with {driver.returncode}"


def run_peer(plan: Plan) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        observer = Observer(Journal(folder / "journal"), plan)
        command = [sys.executable, __file__, *plan.arguments(), "--drive", name]
        with (folder / "stderr").open("wb") as errors:
            driver = subprocess.Popen(command, stderr=errors, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            trouble = watch(driver, observer)
            grandchildren = observer.pids("grandchild")
            sweep(driver.pid, spared=set(grandchildren))
            time.sleep(ORPHAN_WAIT_S)
            orphans = sum(look_at(pid) is not None for pid in grandchildren)
        finally:
            sweep(driver.pid, spared=set())
        if trouble:
            print((folder / "stderr").read_text(errors="replace")[-4000:], file=sys.stderr)
    notes = [NOTES[plan.peer], *([trouble] if trouble else [])]
    return figures(observer, orphans) | {"note": "; ".join(notes)}


def row(plan: Plan) -> dict[str, Any]:
    needed = {"pebble": ["pebble"], "futures": [], "celery": ["celery", "redis"]}[plan.peer]
    if not all(importlib.util.find_spec(module) for module in needed):
        return {"note": "not installed"}
    if plan.peer == "celery" and not shutil.which("redis-server"):
        return {"note": "redis-server is not installed"}
    return run_peer(plan)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--limit-s", type=float, default=0.25)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", choices=list(NAMES))
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--celery-worker", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    plans = [
        Plan(peer, given.kills, given.limit_s, given.slots, given.seed)
        for peer in ([given.peer] if given.peer else NAMES)
    ]
    if given.drive:
        drive(plans[0], given.drive)
    elif given.celery_worker:
        celery_worker(given.celery_worker, plans[0])
    else:
        print(json.dumps({NAMES[plan.peer]: row(plan) for plan in plans}))


if __name__ == "__main__":
    main()
