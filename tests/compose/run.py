"""`make test-compose`: docker-compose.yml as its users run it, with one JSON object as the last line.

One job of at least 60 s while workers are scaled 1, 4, 2 and one container is killed; the result is read by a plain
Kafka client outside of compose; then the example plug-in counts words.
{"scaled", "workers_seen", "killed", "attempts_spent_by_scaling", "finals", "duplicate_finals", "verified"}
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition

from regather.testing.waiting import eventually
from regather_cli.report import write_report

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "regather-test"
SHARDS, SHARD_BYTES, SHARD_S = 1800, 1024, 0.2
JOB_LEAST_S = 60.0
WORDS = " ".join(random.Random(1).choices(["scatter", "process", "regather", "é", "über"], k=20_000))


class ComposeError(RuntimeError):
    """Docker did not do what it was told to."""


@dataclass
class Installation:
    """The compose project on ports of its own."""

    port: int
    kafka_port: int
    log: list[str] = field(default_factory=list)

    def compose(self, *arguments: str, check: bool = True) -> str:
        environment = os.environ | {
            "REGATHER_PORT": str(self.port),
            "REGATHER_KAFKA_PORT": str(self.kafka_port),
            "REGATHER_PLUGINS": "./examples",
            "REGATHER_DIAGNOSTICS": "true",
        }
        command = ["docker", "compose", "-p", PROJECT, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise ComposeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout

    async def scale(self, workers: int) -> None:
        say(f"scaling to {workers} workers")
        await asyncio.to_thread(self.compose, "up", "-d", "--no-recreate", "--scale", f"shard-worker={workers}")

    def worker_containers(self) -> list[str]:
        return self.compose("ps", "-q", "shard-worker").split()


def say(line: str) -> None:
    print(line, flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Any, what: str, timeout_s: float = 90.0) -> Any:
    """Wait for what a gateway says that may not be there yet."""

    async def answered() -> Any:
        try:
            return await condition()
        except httpx2.TransportError:
            return None

    return await eventually(answered, timeout_s=timeout_s, what=what, interval_s=0.5)


async def ready(client: httpx2.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


async def live_workers(client: httpx2.AsyncClient) -> set[str]:
    workers = (await client.get("/v1/workers")).json()["workers"]
    return {worker["worker"] for worker in workers if worker["state"] == "live"}


async def shards_of(client: httpx2.AsyncClient, job_id: str) -> list[dict[str, Any]]:
    page = (await client.get(f"/v1/jobs/{job_id}/shards", params={"limit": SHARDS})).json()
    shards: list[dict[str, Any]] = page["shards"]
    return shards


async def finals_outside(kafka_port: int) -> list[tuple[str, bytes]]:
    """Every final that a read_committed client sees from outside: job id and value."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=f"127.0.0.1:{kafka_port}", isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        partitions = [TopicPartition("results", number) for number in range(4)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[tuple[str, bytes]] = []
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [(dict(record.headers)["job_id"].decode(), record.value) for record in records]
        return found
    finally:
        await consumer.stop()


async def scaled_job(installation: Installation, client: httpx2.AsyncClient) -> dict[str, Any]:
    """Run the long job over 1, 4 and 2 workers and a killed container."""
    body = bytes(range(256)) * (SHARDS * SHARD_BYTES // 256)
    query = {
        "kind": "diagnostics",
        "shard_size": str(SHARD_BYTES),
        "option.do": "sleep",
        "option.seconds": str(SHARD_S),
    }
    begun_s = time.monotonic()
    document = (await client.post("/v1/jobs", params=query, content=body)).raise_for_status().json()
    job_id = document["job_id"]

    async def done(share: float) -> bool:
        found = (await client.get(f"/v1/jobs/{job_id}")).json()
        return bool(found["shards"]["done"] >= SHARDS * share)

    await until(lambda: done(0.05), "a twentieth of the shards on one worker")
    await installation.scale(4)

    async def four() -> bool:
        return len(await live_workers(client)) == 4

    await until(four, "four live workers")
    await until(lambda: done(0.35), "a third of the shards")
    victim = installation.worker_containers()[0]
    say(f"killing container {victim[:12]}")
    await asyncio.to_thread(subprocess.run, ["docker", "kill", victim], capture_output=True, check=True)
    await until(lambda: done(0.5), "half of the shards")
    await installation.scale(2)
    document = await until(lambda: ended(client, job_id), "the end of the job", 240)
    seconds = time.monotonic() - begun_s
    shards = await shards_of(client, job_id)
    return {
        "job_id": job_id,
        "state": document["state"],
        "job_s": round(seconds, 1),
        "shards": len(shards),
        "scaled": [1, 4, 2],
        "workers_seen": len({shard["worker"] for shard in shards}),
        "killed": 1,
        "attempts_spent_by_scaling": sum(shard["attempts"] - 1 for shard in shards),
        "right": [shard["seq"] for shard in shards] == list(range(SHARDS))
        and sum(shard["input_bytes"] for shard in shards) == len(body)
        and seconds >= JOB_LEAST_S,
    }


async def ended(client: httpx2.AsyncClient, job_id: str) -> dict[str, Any] | None:
    document: dict[str, Any] = (await client.get(f"/v1/jobs/{job_id}")).json()
    return document if document["state"] in ("succeeded", "partial", "failed", "expired") else None


async def word_count(client: httpx2.AsyncClient) -> tuple[str, bool]:
    """Run the example plug-in; job id and whether it counts what Python counts."""
    query = {"kind": "word.count", "shard_size": "1024"}
    response = await client.post("/v1/jobs", params=query, content=WORDS.encode(), headers={"Prefer": "wait=30"})
    document = response.raise_for_status().json()
    found = (await client.get(f"/v1/jobs/{document['job_id']}/result")).json()
    return document["job_id"], found["counts"] == Counter(WORDS.split())


async def prove(installation: Installation) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{installation.port}", timeout=40) as client:
        await until(lambda: ready(client), "the gateway")

        async def one() -> bool:
            return len(await live_workers(client)) == 1

        await until(one, "one live worker")
        job = await scaled_job(installation, client)
        words_id, words_right = await word_count(client)
        result = (await client.get(f"/v1/jobs/{job['job_id']}/result")).content
    finals = await finals_outside(installation.kafka_port)
    counts = Counter(job_id for job_id, _ in finals)
    same = dict(finals).get(job["job_id"]) == result and words_id in counts
    return {
        **job,
        "plugin": "word.count" if words_right else "WRONG",
        "finals": len(counts),
        "duplicate_finals": sum(counts.values()) - len(counts),
        "verified": bool(job["right"] and job["state"] == "succeeded" and words_right and same),
    }


def main() -> int:
    started = time.monotonic()
    installation = Installation(free_port(), free_port())
    try:
        say("building the image and starting the services")
        installation.compose("up", "-d", "--build", "--scale", "shard-worker=1")
        document = asyncio.run(prove(installation))
        ok = bool(
            document["verified"]
            and document["workers_seen"] >= 4
            and document["attempts_spent_by_scaling"] == 0
            and document["duplicate_finals"] == 0
        )
    except (ComposeError, AssertionError, httpx2.HTTPError, OSError) as error:
        document, ok = {"error": str(error), "logs": installation.compose("logs", "--tail", "30", check=False)}, False
    finally:
        installation.compose("down", "-v", "--timeout", "10", check=False)
    print(json.dumps(write_report("test-compose", {"ok": ok, **document}, started)), flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
