"""`make hostile-shards GOOD=10000 BAD=1000 SEED=1`: one job in which every eleventh shard tries to take its worker down.

Time-outs of four sorts, crashes, exits, closed channels, memory, huge and wrong answers, in a seeded mix with shards that
behave (some of which print a megabyte or leave processes behind). Every good shard must be right with its first
execution, every bad one a dead letter with the true reason, and the worker must be as whole afterwards as before.
{"good_right", "bad_dead_lettered", "reason_wrong", "slots_lost", "rss_slope_mb_h"}
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx2

from regather.testing.waiting import eventually
from regather_cli.client import Client
from regather_cli.dead_letters import read_dead_letters
from regather_cli.process_table import descendants
from regather_cli.report import write_report
from regather_cli.stack import Role, Stack, StackSettings

SHARD_BYTES = 1024
TIMEOUT_S = 0.5
"""What must end for another reason, such as taking 48 MiB, ends long before on a machine that others use, too."""
SLOTS = 2
MIB = 1024 * 1024
GOOD: list[dict[str, Any]] = [{"do": "echo"}] * 40 + [
    {"do": "flood", "size_bytes": MIB},
    {"do": "orphan", "seconds": 60},
]
BAD: list[tuple[dict[str, Any], str, int]] = [  # what it does, the reason it must have, how often it is executed
    ({"do": "sleep", "seconds": 60}, "timed-out", 4),
    ({"do": "busy", "seconds": 60}, "timed-out", 4),
    ({"do": "deaf", "seconds": 60}, "timed-out", 4),
    ({"do": "fork", "seconds": 60}, "timed-out", 4),
    ({"do": "segfault"}, "crashed", 4),
    ({"do": "closed"}, "crashed", 4),
    ({"do": "exit"}, "exited", 4),
    ({"do": "allocate", "size_bytes": 4096 * MIB}, "out-of-memory", 4),
    ({"do": "return_huge", "size_bytes": 11 * MIB}, "returned-too-much", 1),
    ({"do": "return_wrong"}, "raised", 4),
    ({"do": "raise"}, "raised", 4),
    ({"do": "permanent"}, "permanent", 1),
]
ENVIRONMENT = {
    "REGATHER_DIAGNOSTICS": "true",
    "REGATHER_MEMORY_LIMIT_BYTES": str(48 * MIB),
    "REGATHER_RETRY_CAP_MS": "1000",
}


def shards_of(good: int, bad: int, seed: int) -> list[tuple[dict[str, Any], str, int]]:
    """What each shard does, the reason it must fail for (empty: it must not), its executions."""
    draw = random.Random(seed)
    chosen = [(draw.choice(GOOD), "", 1) for _ in range(good)] + [BAD[number % len(BAD)] for number in range(bad)]
    draw.shuffle(chosen)
    return chosen


def body_of(chosen: Iterable[dict[str, Any]]) -> bytes:
    """Shards whose first line says what each does."""
    return b"".join((json.dumps(does).encode() + b"\n").ljust(SHARD_BYTES, b".") for does in chosen)


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of these processes."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * 4096 / MIB


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def slope_mb_h(samples: list[tuple[float, float]]) -> float:
    """Memory over time, by least squares over the second half of the run; the first half warms up."""
    later = samples[len(samples) // 2 :]
    if len(later) < 2:
        return 0.0
    fit = statistics.linear_regression([at_s for at_s, _ in later], [mb for _, mb in later])
    return round(fit.slope * 3600, 1)


async def run(stack: Stack, chosen: list[tuple[dict[str, Any], str, int]]) -> dict[str, Any]:
    worker = stack.of(Role.WORKER)[0]
    assert worker.pid is not None
    pid, samples = worker.pid, []
    query = {
        "kind": "diagnostics", "shard_size": str(SHARD_BYTES), "timeout_s": str(TIMEOUT_S), "on_error": "skip",
        "option.do": "as_payload_says",
    }  # fmt: skip
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as http, Client(stack.gateway_url) as client:
        answer = (
            (await http.post("/v1/jobs", params=query, content=body_of(does for does, _, _ in chosen)))
            .raise_for_status()
            .json()
        )
        job_id, begun_s = answer["job_id"], time.monotonic()
        while (document := await client.status(job_id))["state"] not in ("partial", "succeeded", "failed", "expired"):
            samples.append((time.monotonic() - begun_s, rss_mb({pid} | descendants(pid))))
            await asyncio.sleep(0.5)
        shards = await client.shards(job_id)
    letters = await read_dead_letters(stack.broker.bootstrap_servers, stack.topics, job_id)
    return (
        {"state": document["state"], "job_s": round(time.monotonic() - begun_s, 1)}
        | judged(chosen, shards, letters)
        | {
            "slots_lost": SLOTS - await whole_slots(pid),
            "rss_slope_mb_h": slope_mb_h(samples),
        }
    )


async def whole_slots(pid: int) -> int:
    """Children that are ready below the zygote, once what was killed is gone."""

    def settled() -> int:
        (zygote,) = children_of(pid)
        below = descendants(pid)
        return len(below.intersection(children_of(zygote))) if len(below) == 1 + SLOTS else 0

    try:
        return int(await eventually(settled, timeout_s=20, what="the usual processes"))
    except AssertionError:
        return len(descendants(pid)) - 1


def judged(
    chosen: list[tuple[dict[str, Any], str, int]], shards: list[dict[str, Any]], letters: list[Any]
) -> dict[str, Any]:
    """Hold every shard against what it was told to do."""
    good_right = bad_dead_lettered = reason_wrong = 0
    lettered = {letter.seq: letter for letter in letters}
    wrong: list[str] = []
    for (does, reason, executions), shard in zip(chosen, shards, strict=True):
        seq = shard["seq"]
        if not reason:
            right = shard["state"] == "done" and shard["attempts"] == 1 and seq not in lettered
            good_right += right
        else:
            there = shard["state"] == "failed" and shard["attempts"] == executions and seq in lettered
            right = there and lettered[seq].reason == reason
            bad_dead_lettered += there
            reason_wrong += there and not right
        if not right:
            told = lettered[seq].reason if seq in lettered else shard["state"]
            wrong.append(f"shard {seq}, {does['do']}: {told} after {shard['attempts']} executions")
    return {
        "good_right": good_right,
        "bad_dead_lettered": bad_dead_lettered,
        "reason_wrong": reason_wrong,
        "wrong": wrong[:10],
    }


async def main(good: int, bad: int, seed: int) -> int:
    started = time.monotonic()
    chosen = shards_of(good, bad, seed)
    settings = StackSettings(workers=1, worker_slots=SLOTS, environment=ENVIRONMENT)
    async with Stack(settings) as stack:
        found = await run(stack, chosen)
    ok = (found["good_right"], found["bad_dead_lettered"], found["reason_wrong"], found["slots_lost"]) == (
        good,
        bad,
        0,
        0,
    )
    document = {"ok": ok, "good": good, "bad": bad, "seed": seed, **found}
    print(json.dumps(write_report("hostile-shards", document, started)), flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", type=int, default=10_000)
    parser.add_argument("--bad", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.good, arguments.bad, arguments.seed)))
