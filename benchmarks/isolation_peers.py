"""What pebble, ProcessPoolExecutor and Celery prefork do on the faults that hostile shards make.

`python benchmarks/isolation_peers.py --kills 60 --limit-s 0.25 --slots 2` runs the three in turn, each driven by a process
of its own. A seeded mix of bad tasks (`FAULTS`, equal parts) goes in with two innocent ones (20 ms, then their number) to
each bad one, and so many are always queued that every slot is busy. `peers/pools.py` says how each is given the limit.

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
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers.driver import drive
from peers.figures import figures
from peers.journal import Journal
from peers.observer import Observer, look_at, sweep
from peers.plan import Plan
from peers.pools import NAMES, NOTES, celery_worker

LOOK_S = 0.001
PEER_LIMIT_S, ORPHAN_WAIT_S = 120.0, 1.0


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
        command = plan.command("--drive", name)
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
