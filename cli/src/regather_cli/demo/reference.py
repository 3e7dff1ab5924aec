"""The expected results: runs programs of tests/reference/ in separate processes, and caches their answers."""

import asyncio
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regather.embedded.kafka_jars import cache_dir, sha256_of
from regather_cli.report import ROOT

_PROGRAMS = ROOT / "tests" / "reference"


class NoReference(RuntimeError):
    """The independent program is missing or failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of an independent program, the seconds it took, and whether it comes from an earlier run."""

    features: dict[str, Any]
    seconds: float
    kept: bool


async def independent_answer(program: str, file: Path, *arguments: str, keep: bool = True) -> Answer:
    """Run a program of tests/reference/ over a file; raises NoReference.

    With `keep` the answer is cached by the digests of program, file and arguments, which determine it.
    """
    script = _PROGRAMS / f"{program}.py"
    if not script.exists():
        raise NoReference(f"{script} is missing: the demo needs a checkout of the repository")
    if not keep:
        return _answer(await _run_program(script, file, arguments), kept=False)
    digests = await asyncio.to_thread(lambda: sha256_of(script) + sha256_of(file))
    name = hashlib.sha256("\0".join([digests, *arguments]).encode()).hexdigest()[:32]
    path = cache_dir() / f"demo-reference-{name}.json"
    kept = path.exists()
    if not kept:
        output = await _run_program(script, file, arguments)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(output)
        partial.replace(path)
    return _answer(path.read_bytes(), kept=kept)


def digest_of(value: object) -> str:
    """Return the SHA-256 of a JSON value in canonical form, which does not depend on its formatting."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def _answer(output: bytes, *, kept: bool) -> Answer:
    found = json.loads(output)
    return Answer(found["features"], float(found["seconds"]), kept)


async def _run_program(script: Path, file: Path, arguments: tuple[str, ...]) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(file), *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise NoReference(f"{script} ended with exit code {process.returncode}")
    return output
