"""`make bench-isolation`: what shards that hang and crash cost everybody else, with every slot busy and 2 workers.

1. Kills: a job in which every third shard hangs (four ways), crashes or exits. Overrun is from a hanging shard's deadline
   to its child's end: by the supervisors' clock, and by an outside observer who looks at the process table. Neighbours are
   the shards that behave: each must be done with its first execution.
2. Cancel: from the request to the last slot's becoming idle, of a job that holds all of them in C.
3. Rebalances: a worker joins and leaves while a job runs; how many outcomes came twice.
4. Lanes: jobs of 3 shards and 64 KiB alone, then beside a job of 10,000 shards.
5. Peers on the same faults (`isolation_peers.py`), with the Python that PEERS_PYTHON names.
"""

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
from death_observer import DeathObserver
from hostile_shards import SHARD_BYTES, body_of, children_of

from regather.testing.waiting import eventually
from regather_cli.client import Client, has_ended
from regather_cli.dead_letters import DeadLetter, read_dead_letters
from regather_cli.process_table import descendants
from regather_cli.report import write_report
from regather_cli.stack import Role, Stack, StackSettings

WORKERS, SLOTS = 2, 1
LIMIT_S = 0.25
HANGS: list[dict[str, Any]] = [{"do": do, "seconds": 60} for do in ("sleep", "busy", "deaf", "fork")]
CRASHES: list[dict[str, Any]] = [{"do": "segfault"}, {"do": "exit"}]
NEIGHBOUR: dict[str, Any] = {"do": "sleep", "seconds": 0.01}
SMALL_BODY = os.urandom(64 * 1024 - 1)
_LAST_WORDS = re.compile(r"pid (\d+) hangs from ([\d.]+)")
Query = dict[str, str]


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else float("nan")


def quantiles(values: list[float]) -> dict[str, float]:
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": percentile(values, 1)}


async def scraped(stack: Stack, role: Role, name: str, **labels: str) -> list[float]:
    """Every sample of one metric, of all living services of a role."""
    living = [service for service in stack.of(role) if service.running]
    return [value for service in living for value in await service.metric(name, **labels)]


async def begin(http: httpx2.AsyncClient, body: bytes, **parameters: str) -> str:
    query = {"kind": "diagnostics", "shard_size": str(SHARD_BYTES), "on_error": "skip"} | parameters
    return str((await http.post("/v1/jobs", params=query, content=body)).raise_for_status().json()["job_id"])


async def kills(stack: Stack, http: httpx2.AsyncClient, client: Client, wanted: int, seed: int) -> dict[str, Any]:
    """Phase 1."""
    hanging = -(-wanted // 4)
    bad = [HANGS[n % len(HANGS)] for n in range(hanging)] + [CRASHES[n % 2] for n in range(hanging // 4)]
    chosen = bad + [NEIGHBOUR] * (2 * len(bad))
    random.Random(seed).shuffle(chosen)
    pids = [worker.pid for worker in stack.of(Role.WORKER)]
    observer = DeathObserver([zygote for pid in pids for zygote in children_of(pid)])
    observer.start()
    job_id = await begin(
        http, body_of(chosen), timeout_s=str(LIMIT_S), max_failed_pct="100", **{"option.do": "as_payload_says"}
    )
    document = await client.wait(job_id, timeout_s=900)
    observer.done()
    shards = await client.shards(job_id)
    letters = await read_dead_letters(stack.broker.bootstrap_servers, stack.topics, job_id)
    innocent = [shard for shard, does in zip(shards, chosen, strict=True) if does is NEIGHBOUR]
    failures = sum(shard["state"] != "done" or shard["attempts"] != 1 for shard in innocent)
    seen = overruns_ms(letters, observer)
    timed_out = sum(error.reason.value == "timed-out" for letter in letters for error in letter.attempts)
    return {
        "state": document["state"],
        "kills": timed_out,
        "crashes": sum(len(letter.attempts) for letter in letters) - timed_out,
        "observed": len(seen),
        "overrun_ms": quantiles(seen) | await of_supervisors(stack, "regather_child_overrun_seconds"),
        "refill_ms": await of_supervisors(stack, "regather_child_refill_seconds"),
        "neighbours": len(innocent),
        "neighbour_failures": failures,
        "bad_without_letter": len(bad) - len(letters),
        "orphans": await orphans(pids),
    }


def overruns_ms(letters: list[DeadLetter], observer: DeathObserver) -> list[float]:
    """From each hanging execution's deadline, which it named itself, to the end that the observer saw."""
    found = []
    for letter in letters:
        for error in letter.attempts:
            said = _LAST_WORDS.findall(error.error) if error.reason.value == "timed-out" else []
            if said:  # the last line: those before are of others in its micro-batch
                pid, since_s = int(said[-1][0]), float(said[-1][1])
                gone_s = observer.gone_after(pid, since_s)
                found += [] if gone_s is None else [(gone_s - since_s - LIMIT_S) * 1000]
    return found


async def of_supervisors(stack: Stack, name: str) -> dict[str, float]:
    """The worst worker's quantiles, by its own clock."""
    return {
        f"supervisor_{short}": round(1000 * max(await scraped(stack, Role.WORKER, name, quantile=quantile)), 1)
        for short, quantile in (("p50", "0.5"), ("p99", "0.99"))
    }


async def orphans(pids: list[int]) -> int:
    """Processes below the workers that are neither zygote nor child, once what was killed is gone."""

    def surplus() -> int:
        return sum(len(descendants(pid)) for pid in pids) - len(pids) * (1 + SLOTS)

    try:
        await eventually(lambda: surplus() == 0, timeout_s=10, what="the usual processes")
    except AssertionError:
        return surplus()
    return 0


async def cancel_to_idle_s(stack: Stack, http: httpx2.AsyncClient) -> float:
    """Phase 2."""
    options = {"option.do": "busy", "option.seconds": "60", "timeout_s": "120"}
    job_id = await begin(http, bytes(200 * SHARD_BYTES), **options)

    async def busy_are(count: int) -> bool:
        return sum(await scraped(stack, Role.WORKER, "regather_slots_busy")) == count

    await eventually(lambda: busy_are(WORKERS * SLOTS), timeout_s=60, what="all slots busy")
    begun_s = time.monotonic()
    (await http.post(f"/v1/jobs/{job_id}:cancel")).raise_for_status()
    await eventually(lambda: busy_are(0), timeout_s=60, what="idle slots")
    return round(time.monotonic() - begun_s, 2)


async def duplicates_per_rebalance(stack: Stack, http: httpx2.AsyncClient, client: Client) -> dict[str, float]:
    """Phase 3: two workers come and go, which is four rebalances."""
    name = "regather_events_dropped_total"
    before = sum(await scraped(stack, Role.AGGREGATOR, name))
    options = {"option.do": "sleep", "option.seconds": "0.02"}
    job_id = await begin(http, bytes(6000 * SHARD_BYTES), **options)
    for _ in range(2):
        joined = await stack.add_worker()
        await asyncio.to_thread(joined.stop, 20.0)
    during = await client.status(job_id)
    document = await client.wait(job_id, timeout_s=300)
    if has_ended(during) or document["state"] != "succeeded":
        raise RuntimeError(f"the job ended as {document['state']}, or before the last rebalance")

    async def counted() -> float:
        return sum(await scraped(stack, Role.AGGREGATOR, name)) - before

    shards = await client.shards(job_id)
    spent = sum(shard["attempts"] - 1 for shard in shards)
    return {"duplicates_per_rebalance": await counted() / 4, "attempts_spent_by_rebalances": spent}


async def small_jobs_ms(http: httpx2.AsyncClient, count: int) -> list[float]:
    """Milliseconds of jobs of three shards, one after the other, from the request to the result's being there."""
    took = []
    for _ in range(count):
        begun_s = time.perf_counter()
        query = {"kind": "bytes.digest", "shard_size": str(22 * 1024)}
        answer = await http.post("/v1/jobs", params=query, content=SMALL_BODY, headers={"Prefer": "wait=30"})
        took.append((time.perf_counter() - begun_s) * 1000)
        document = answer.raise_for_status().json()
        if document["state"] != "succeeded" or document["shards"]["total"] != 3:
            raise RuntimeError(f"a small job came to {document}")
    return took


async def lanes(http: httpx2.AsyncClient, client: Client, count: int) -> dict[str, Any]:
    """Phase 4."""
    await small_jobs_ms(http, 500)  # the broker's first jobs are slow
    alone = await small_jobs_ms(http, count)
    big = await begin(http, bytes(10_000 * SHARD_BYTES), **{"option.do": "busy", "option.seconds": "0.005"})
    beside = await small_jobs_ms(http, count)
    document = await client.status(big)
    if has_ended(document):
        raise RuntimeError("the big job ended before the small ones")
    (await http.post(f"/v1/jobs/{big}:cancel")).raise_for_status()
    return {
        "small_alone_ms": quantiles(alone),
        "small_beside_ms": quantiles(beside),
        "small_job_p99_ratio": round(percentile(beside, 0.99) / percentile(alone, 0.99), 2),
        "small_input_p99_ms": percentile(beside, 0.99),
    }


def peers() -> dict[str, Any]:
    """Phase 5, in an environment of its own."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    script = Path(__file__).with_name("isolation_peers.py")
    command = [python, str(script), "--limit-s", str(LIMIT_S), "--slots", str(WORKERS * SLOTS)]
    completed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    found: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    return found


def goals_met(found: dict[str, Any], wanted: int) -> dict[str, bool]:
    overrun = found["overrun_ms"]
    return {
        "kills": found["kills"] >= wanted,
        "overrun": overrun["p99"] < 50 and overrun["supervisor_p99"] < 50,
        "refill": found["refill_ms"]["supervisor_p50"] < 100,
        "neighbours": found["neighbour_failures"] == found["bad_without_letter"] == found["orphans"] == 0,
        "cancel": found["cancel_to_idle_s"] < 1,
        "lanes": found["small_job_p99_ratio"] <= 3 and found["small_input_p99_ms"] < 100,
    }


async def main(given: argparse.Namespace) -> int:
    started = time.monotonic()
    environment = {"REGATHER_DIAGNOSTICS": "true", "REGATHER_RETRY_CAP_MS": "1000"}
    settings = StackSettings(workers=WORKERS, worker_slots=SLOTS, environment=environment)
    async with (
        Stack(settings) as stack,
        httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as http,
        Client(stack.gateway_url) as client,
    ):
        found = await kills(stack, http, client, given.kills, given.seed)
        found["cancel_to_idle_s"] = await cancel_to_idle_s(stack, http)
        found |= await duplicates_per_rebalance(stack, http, client)
        found |= await lanes(http, client, given.jobs)
    found["peers"] = peers() if given.peers else {}
    goals = goals_met(found, given.kills)
    document = {"ok": all(goals.values()), "goals": goals, "seed": given.seed, **found}
    print(json.dumps(write_report("bench-isolation", document, started)), flush=True)
    return 0 if document["ok"] else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    sys.exit(asyncio.run(main(parser.parse_args())))
