"""`make bench-smoke`: 10,000 shards of 1 KiB in one job, and single tiny jobs in sequence, both over HTTP.

Every shard is a record, an outcome and an attempt of its own. Each answer is checked against zlib. The broker and the
services run on this machine, so figures of different machines, or hours, do not compare; ratios within one run do:
`floor_*` is what the bare client does in the same run, just before and without anything that makes a product.
"""

import asyncio
import http.client
import json
import os
import statistics
import sys
import time
import zlib
from typing import Any
from urllib.parse import urlsplit

import floor
import httpx2

from regather_cli.report import write_report
from regather_cli.stack import Stack, StackSettings

SHARDS = 10_000
SHARD_BYTES = 1024
ROUNDS = 7
WARM_UP_CALLS, WARM_UP_CLIENTS = 5000, 16
CALLS = 500
GOAL_SHARDS_S = 15_000
GOAL_P50_MS = 12.0


async def submit(client: httpx2.AsyncClient, body: bytes) -> tuple[float, dict[str, Any]]:
    """Seconds from the request to the ended job's document; raises if the answer is wrong."""
    params = {"kind": "bytes.digest", "shard_size": str(SHARD_BYTES)}
    started = time.perf_counter()
    response = await client.post("/v1/jobs", params=params, content=body, headers={"Prefer": "wait=30"})
    seconds = time.perf_counter() - started
    response.raise_for_status()
    document = response.json()
    if document["state"] != "succeeded":
        raise RuntimeError(f"job ended as {document['state']}: {document}")
    return seconds, document


async def check(client: httpx2.AsyncClient, document: dict[str, object], body: bytes) -> None:
    """Compare the job's result with zlib's own."""
    result = (await client.get(f"/v1/jobs/{document['job_id']}/result")).json()
    expected = zlib.crc32(body)
    if result["crc32"] != expected or result["size_bytes"] != len(body):
        raise RuntimeError(f"wrong result {result}, expected crc32 {expected} of {len(body)} bytes")


async def tiny_jobs(client: httpx2.AsyncClient, count: int) -> list[float]:
    """Milliseconds of `count` jobs of one 1 KiB shard, one after the other."""
    took = []
    for number in range(count):
        body = number.to_bytes(8, "big") * (SHARD_BYTES // 8)
        seconds, document = await submit(client, body)
        took.append(seconds * 1e3)
        if number % 100 == 0:
            await check(client, document, body)
    return took


async def warm_up(client: httpx2.AsyncClient) -> None:
    """Let every service, and the broker's compiler, see the path often enough before anything is timed."""
    await asyncio.gather(*(tiny_jobs(client, WARM_UP_CALLS // WARM_UP_CLIENTS) for _ in range(WARM_UP_CLIENTS)))


def single_calls(url: str, count: int) -> list[float]:
    """Milliseconds of `count` tiny jobs in sequence, with the standard library's client, which adds least of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    took = []
    for number in range(count):
        body = number.to_bytes(8, "big") * (SHARD_BYTES // 8)
        started = time.perf_counter()
        path = f"/v1/jobs?kind=bytes.digest&shard_size={SHARD_BYTES}"
        connection.request("POST", path, body, {"Prefer": "wait=30"})
        document = json.loads(connection.getresponse().read())
        took.append((time.perf_counter() - started) * 1e3)
        if document["state"] != "succeeded":
            raise RuntimeError(f"job ended as {document['state']}: {document}")
    connection.close()
    return took


async def many_shards(client: httpx2.AsyncClient) -> list[float]:
    """Shards per second of ROUNDS jobs of 10,000 shards."""
    rates = []
    for number in range(ROUNDS):
        body = os.urandom(SHARDS * SHARD_BYTES)
        seconds, document = await submit(client, body)
        await check(client, document, body)
        if document["shards"]["total"] != SHARDS:
            raise RuntimeError(f"{document['shards']} shards, expected {SHARDS}")
        rates.append(SHARDS / seconds)
        print(f"round {number}: {rates[-1]:,.0f} shards/s", flush=True)
    return rates


async def main() -> int:
    started = time.monotonic()
    async with (
        Stack(StackSettings(workers=1, worker_slots=2)) as stack,
        httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as client,
    ):
        least = await floor.measure(
            stack.broker.bootstrap_servers, shards=SHARDS, shard_bytes=SHARD_BYTES, calls=2 * CALLS
        )
        print(json.dumps(least), flush=True)
        await warm_up(client)
        rates = await many_shards(client)
        calls = sorted(single_calls(stack.gateway_url, CALLS))
    steady = statistics.median(rates[2:])
    p50 = statistics.median(calls)
    document = {
        "ok": steady >= GOAL_SHARDS_S and p50 <= GOAL_P50_MS,
        "W2_shards_s": round(steady),
        "W2_first_shards_s": round(rates[0]),
        "W3_p50_ms": round(p50, 2),
        "W3_p99_ms": round(calls[int(len(calls) * 0.99)], 2),
        **least,
        "W2_of_floor": round(steady / least["floor_shards_s"], 2),
        "W3_of_floor": round(p50 / least["floor_p50_ms"], 2),
        "goals": {"W2_shards_s": GOAL_SHARDS_S, "W3_p50_ms": GOAL_P50_MS},
        "cores": os.cpu_count(),
    }
    document = write_report("bench-smoke", document, started)
    print(json.dumps(document), flush=True)
    return 0 if document["ok"] else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
