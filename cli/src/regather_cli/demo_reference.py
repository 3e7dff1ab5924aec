"""The demo image's features computed without Regather's chain: by an independent program, and serially by the same code."""

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from regather.processors.base import FileSplitter, Piece, ShardView, SplitRequest, Splitter
from regather.processors.registry import all_kinds, parse_options
from regather.testing.kafka_jars import cache_dir, sha256_of
from regather_cli.demo_image import KIND, OPTIONS, SHARD_BYTES, SIZE_BYTES
from regather_cli.report import ROOT

_PROGRAM = ROOT / "tests" / "reference" / "image_features.py"
_CHUNK_BYTES = 256 * 1024


class NoReference(RuntimeError):
    """The independent program is missing or failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the independent program says about the image, how long it took, and whether that was in an earlier run."""

    features: dict[str, Any]
    seconds: float
    kept: bool


async def independent_answer(image: Path) -> Answer:
    """Run the program in a process of its own; raises NoReference.

    Its answer is kept under the digests of program and image: the same two would give the same answer again.
    """
    if not _PROGRAM.exists():
        raise NoReference(f"{_PROGRAM} is missing: the demo needs a checkout of the repository")
    digests = await asyncio.to_thread(lambda: sha256_of(_PROGRAM) + sha256_of(image))
    path = cache_dir() / f"demo-reference-{hashlib.sha256(digests.encode()).hexdigest()[:32]}.json"
    kept = path.exists()
    if not kept:
        output = await _run_program(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(output)
        partial.replace(path)
    answer = json.loads(path.read_bytes())
    return Answer(answer["features"], float(answer["seconds"]), kept)


async def _run_program(image: Path) -> bytes:
    arguments = [str(image), *(word for name, value in OPTIONS.items() for word in (f"--{name}", value))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_PROGRAM), *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise NoReference(f"{_PROGRAM} ended with exit code {process.returncode}")
    return output


def serial_seconds(image: Path) -> float:
    """Seconds of the same cut, the same code and the same merge in this process, one shard after the other."""
    processor = all_kinds().require(KIND)
    options = parse_options(processor, OPTIONS)
    started = time.perf_counter()
    splitter = processor.splitter(options, SplitRequest(SHARD_BYTES, size_bytes=SIZE_BYTES))
    assert not isinstance(splitter, FileSplitter)
    outputs: list[bytes | None] = []
    with image.open("rb") as file:
        for piece in _pieces(splitter, file):
            shard = ShardView(piece.payload, piece.meta, seq=len(outputs), attempt=0)
            outputs.append(processor.process(shard, options))
    processor.merge(outputs, options)
    return time.perf_counter() - started


def _pieces(splitter: Splitter, file: BinaryIO) -> Iterator[Piece]:
    while chunk := file.read(_CHUNK_BYTES):
        yield from splitter.feed(chunk)
    yield from splitter.finish()
