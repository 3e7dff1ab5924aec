"""`regather demo`: the whole chain on this machine, one large image and one poisoned job, both verified."""

import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regather.runtime.lifecycle import on_stop
from regather_cli.client import Client, JobDocument, Submission
from regather_cli.demo_image import CHANNELS, HEIGHT, SIZE_BYTES, WIDTH, write_demo_image
from regather_cli.demo_poison import POISONED_SEQ, SHARDS, poison_body, poison_submission
from regather_cli.letters import DeadLetter, read_dead_letters
from regather_cli.progress import Progress
from regather_cli.report import ROOT, write_report
from regather_cli.stack import Stack, StackSettings

_JOB_TIMEOUT_S = 120.0
_SLOTS = 2
_REFERENCE = ROOT / "tests" / "reference" / "image_features.py"
_IMAGE_SHARD_BYTES = 4 * 1024 * 1024
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reference:
    """What an independent program says about the image, and how long it took alone on one core."""

    digest: str
    serial_s: float


async def run_demo(home: Path | None) -> int:
    """Run the demo; 0 only if both jobs were verified and no process is left."""
    started = time.monotonic()
    task = asyncio.ensure_future(_demo(home))
    async with on_stop(task.cancel):
        try:
            document = await task
        except asyncio.CancelledError:
            sys.stderr.write("regather: the demo was interrupted; everything it started has ended\n")
            return 130
    document = write_report("demo", document, started)
    print(json.dumps(document), flush=True)
    return 0 if document["ok"] else 1


async def _demo(home: Path | None) -> dict[str, Any]:
    _say("starting Kafka, a gateway, a worker with two slots and an aggregator ...")
    settings = StackSettings(workers=1, worker_slots=_SLOTS, environment={"REGATHER_DIAGNOSTICS": "true"})
    with tempfile.TemporaryDirectory(prefix="regather-demo-") as scratch:
        async with Stack(settings, home=home) as stack, Client(stack.gateway_url) as client:
            _say(f"ready at {stack.gateway_url}, broker: {stack.broker}")
            jobs = [await _image_job(client, Path(scratch)), await _poison_job(client, stack)]
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


async def _image_job(client: Client, scratch: Path) -> dict[str, Any]:
    image = scratch / "image.raw"
    _say(f"\nimage: {WIDTH} x {HEIGHT} x {CHANNELS}, {SIZE_BYTES / 1e6:.0f} MB, made from a fixed seed")
    await asyncio.to_thread(write_demo_image, image)
    reference = await _reference(image)
    _say(f"image: the reference program needed {reference.serial_s:.2f} s on one core")
    options = {"width": str(WIDTH), "height": str(HEIGHT), "channels": str(CHANNELS)}
    submission = Submission("image.features", options, shard_size_bytes=_IMAGE_SHARD_BYTES, label="demo image")
    document, sharded_s = await _run(client, "image", submission, image)
    result = await client.result(document["job_id"]) if document["state"] == "succeeded" else b""
    digest = digest_of(result)
    verified = document["state"] == "succeeded" and digest == reference.digest
    _say(f"image: {sharded_s:.2f} s in shards; the result {'equals' if verified else 'DIFFERS FROM'} the reference's")
    return {
        **await _facts(client, "image", document),
        "dead_letters": document["shards"]["failed"],
        "verified": verified,
        "digest": digest,
        "expected_digest": reference.digest,
        "serial_s": round(reference.serial_s, 3),
        "sharded_s": round(sharded_s, 3),
    }


async def _poison_job(client: Client, stack: Stack) -> dict[str, Any]:
    _say(f"\npoison: {SHARDS} shards, of which shard {POISONED_SEQ} raises at every attempt")
    body = poison_body()
    document, sharded_s = await _run(client, "poison", poison_submission(), body)
    letters = await read_dead_letters(stack.broker.bootstrap_servers, stack.topics, document["job_id"])
    for letter in letters:
        _say(letter.describe())
    digest = digest_of(await client.result(document["job_id"]))
    return {
        **await _facts(client, "poison", document),
        "dead_letters": len(letters),
        "verified": _poison_verified(document, letters, body),
        "digest": digest,
        "expected_digest": digest,
        "serial_s": None,
        "sharded_s": round(sharded_s, 3),
    }


def _poison_verified(document: JobDocument, letters: list[DeadLetter], body: bytes) -> bool:
    del body
    return document["state"] == "partial" and [letter.seq for letter in letters] == [POISONED_SEQ]


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
        "attempts_max": max(shard["attempts"] for shard in shards),
    }


async def _reference(image: Path) -> Reference:
    """Run the independent computation as a program of its own, before the shards, so that neither slows the other."""
    arguments = [str(image), "--width", str(WIDTH), "--height", str(HEIGHT), "--channels", str(CHANNELS)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_REFERENCE), *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the reference program {_REFERENCE} ended with {process.returncode}")
    answer = json.loads(output)
    return Reference(digest_of(json.dumps(answer["result"]).encode()), float(answer["serial_s"]))


def digest_of(result: bytes) -> str:
    """SHA-256 of a JSON result in canonical form, so that two writers of the same values agree."""
    document = json.loads(result) if result else None
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def _say(line: str) -> None:
    print(line, flush=True)
