"""`regather demo`: starts everything on this machine, runs jobs of several kinds and a poisoned one, verifies all."""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from regather.core.errors import TransportError
from regather.service.lifecycle import on_stop
from regather_cli.client import ApiError, Client, JobDocument, Submission, WaitTimeout
from regather_cli.dead_letters import read_dead_letters
from regather_cli.demo import frames, image, model, poison, table
from regather_cli.demo.reference import NoReference, digest_of
from regather_cli.demo.verified import VerifiedJob
from regather_cli.progress import Progress
from regather_cli.report import write_report
from regather_cli.stack import START_ERRORS, Stack, StackSettings

_JOB_TIMEOUT_S = 120.0
_SLOTS = 2
_FAILURES = (*START_ERRORS, ApiError, WaitTimeout, TransportError, NoReference, TimeoutError)


async def run_demo(home: Path | None) -> int:
    """Run the demo; return 0 only if every job was verified and no process is left."""
    started = time.monotonic()
    task = asyncio.ensure_future(_demo(home))

    def interrupt() -> None:
        task.cancel()

    async with on_stop(interrupt):
        try:
            document = await task
        except asyncio.CancelledError:
            sys.stderr.write("regather: the demo was interrupted; everything it started has ended\n")
            return 130
        except _FAILURES as error:
            document = {"demo": "failed", "ok": False, "error": str(error)}
    document = write_report("demo", document, started)
    print(json.dumps(document), flush=True)
    return 0 if document["ok"] else 1


async def _demo(home: Path | None) -> dict[str, Any]:
    _say("starting Kafka, a gateway, a worker with two slots and an aggregator ...")
    settings = StackSettings(workers=1, worker_slots=_SLOTS, environment={"REGATHER_DIAGNOSTICS": "true"})
    async with Stack(settings, home=home) as stack, Client(stack.gateway_url) as client:
        _say(f"ready at {stack.gateway_url}, broker: {stack.broker}")
        jobs: list[dict[str, Any]] = []
        for prepare in (image.jobs, table.jobs, model.jobs, frames.jobs):
            with tempfile.TemporaryDirectory(prefix="regather-demo-") as scratch:
                jobs += [await _verified(client, job) for job in await prepare(Path(scratch))]
        jobs.append(await _poison_job(client, stack))
        kafka = {"rung": stack.broker.rung.value, "version": stack.broker.version}
    leftover = stack.leftover_pids()
    ok = all(job["verified"] for job in jobs) and not leftover
    return {
        "demo": "ok" if ok else "failed",
        "ok": ok,
        "kafka": kafka,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jobs": jobs,
        "leftover_pids": leftover,
    }


async def _verified(client: Client, job: VerifiedJob) -> dict[str, Any]:
    _say(f"\n{job.name}: {job.note}")
    document, sharded_s = await _run(client, job.name, job.submission, job.body)
    succeeded = document["state"] == "succeeded"
    digest = job.check.digest(await client.result(document["job_id"])) if succeeded else document["error"]
    verified = digest == job.check.expected
    verdict = "equals" if verified else "DIFFERS FROM"
    _say(
        f"{job.name}: {sharded_s:.2f} s from the upload's first byte to the result, which {verdict} the independent one"
    )
    return {
        **await _facts(client, job.name, document),
        "dead_letters": document["shards"]["failed"],
        "verified": verified,
        "digest": digest,
        "expected_digest": job.check.expected,
        "reference_s": job.reference_s,
        "serial_s": round(job.serial_s, 3) if job.serial_s else None,
        "sharded_s": round(sharded_s, 3),
    }


async def _poison_job(client: Client, stack: Stack) -> dict[str, Any]:
    _say(f"\npoison: {poison.SHARDS} shards, of which shard {poison.POISONED_SEQ} raises at every attempt")
    document, sharded_s = await _run(client, "poison", poison.SUBMISSION, poison.BODY)
    letters = await read_dead_letters(stack.broker.bootstrap_servers, stack.topics, document["job_id"])
    for letter in letters:
        _say(letter.describe())
    result = json.loads(await client.result(document["job_id"])) if document["state"] == "partial" else None
    complaints = poison.complaints(document, letters)
    _say(f"poison: FAILED: not met: {', '.join(complaints)}" if complaints else "poison: a result with one named gap")
    return {
        **await _facts(client, "poison", document),
        "dead_letters": len(letters),
        "verified": not complaints and result == poison.EXPECTED_RESULT,
        "digest": digest_of(result),
        "expected_digest": digest_of(poison.EXPECTED_RESULT),
        "reference_s": None,
        "serial_s": None,
        "sharded_s": round(sharded_s, 3),
    }


async def _run(client: Client, name: str, submission: Submission, body: Path | bytes) -> tuple[JobDocument, float]:
    started = time.perf_counter()
    progress = Progress(name)
    document = await client.submit(submission, body)
    document = await client.wait(document["job_id"], timeout_s=_JOB_TIMEOUT_S, on_progress=progress.show, every_s=0.05)
    progress.close()
    return document, time.perf_counter() - started


async def _facts(client: Client, name: str, document: JobDocument) -> dict[str, Any]:
    shards = await client.shards(document["job_id"])
    return {
        "name": name,
        "job_id": document["job_id"],
        "kind": document["kind"],
        "input_bytes": document["input"]["size_bytes"],
        "shards": document["shards"]["total"],
        "state": document["state"],
        "attempts_max": max((shard["attempts"] for shard in shards), default=0),
    }


def _say(line: str) -> None:
    print(line, flush=True)
