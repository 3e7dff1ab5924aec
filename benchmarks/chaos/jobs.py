"""The jobs of a chaos run: bodies from the seed, and answers from programs that share no code with the kinds."""

import csv
import io
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from reference import bytes_digest, frames, model_predict, table_etl

from regather.kinds.model.onnx_model import find_model

KIB = 1024
POISON_BYTES = KIB
POISON_TIMEOUT_S = 2.0
_FAULTS: tuple[dict[str, Any], ...] = (
    {"do": "raise"},
    {"do": "sleep", "seconds": 60},
    {"do": "exit"},
    {"do": "segfault"},
)
_CASTS = {"cast": "id:str, price:float, qty:int", "derive": "total = price * qty"}
_GROUPS = _CASTS | {
    "filter": "qty > 0",
    "group_by": "region",
    "aggregate": "revenue = sum(total); orders = count(); first_id = first(id); last_id = last(id); "
    "least = min(price); greatest = max(price); mean_price = mean(price)",
}
_ROWS = _CASTS | {"filter": "total > 500", "select": "id, region, total", "output": "csv"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job must come to: its end, the shards and rows that must fail, and what is wrong with a result.

    `failed` maps a shard to the payload that its dead letter must hold; `wrong` says "" of a right result.
    """

    state: str
    wrong: Callable[[bytes], str] = lambda result: "" if not result else "there is a result"
    failed: Mapping[int, bytes] = field(default_factory=dict)
    bad_rows: frozenset[int] = frozenset()
    reason: str | None = None


class Job:
    """One job that may be submitted any number of times; its answer is computed when it is first asked for."""

    def __init__(
        self,
        name: str,
        kind: str,
        body: bytes,
        answer: Callable[[], Answer],
        *,
        options: Mapping[str, str] | None = None,
        shard_bytes: int = KIB,
        on_error: str = "fail",
        timeout_s: float | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.body = body
        self._answer = answer
        options = options or {}
        self.query = {"kind": kind, "shard_size": str(shard_bytes), "on_error": on_error}
        self.query |= {f"option.{name}": value for name, value in options.items()}
        if timeout_s is not None:
            self.query["timeout_s"] = f"{timeout_s:g}"

    def __repr__(self) -> str:
        return f"{self.name} ({self.kind}, {len(self.body)} bytes)"

    @cached_property
    def answer(self) -> Answer:
        """What it must come to."""
        return self._answer()


def workload_jobs(seed: int) -> list[tuple[int, Job]]:
    """The jobs that are submitted all the time, each with how often, in relation to the others."""
    draw, noise = random.Random(f"chaos bodies {seed}"), np.random.default_rng(seed)
    video = noise.integers(0, 256, (24, 40, 50), np.uint8)
    return [
        (6, digest("digest-tiny", noise.bytes(600), KIB)),
        (4, digest("digest-shards", noise.bytes(96 * KIB), 2 * KIB)),
        (1, digest("digest-large", noise.bytes(2048 * KIB), 128 * KIB)),
        (2, table("table-groups", _sales(draw, 4000), _GROUPS, 16 * KIB)),
        (2, table("table-rows", _sales(draw, 3000), _ROWS, 8 * KIB)),
        (2, predict("model-small", noise, 1500, 16 * KIB)),
        (1, predict("model-segments", noise, 24_000, 128 * KIB)),
        (3, track("frames-track", video, 6 * KIB)),
        (4, sleepers("sleepers", 24, 0.2)),
        (1, poison(draw, "poison")),
        (1, bad_rows(draw, "bad-rows")),
        (1, doomed("doomed")),
    ]


def digest(name: str, body: bytes, shard_bytes: int) -> Job:
    """Checksums of bytes."""
    return Job(name, "bytes.digest", body, lambda: _json(bytes_digest.bytes_digest(body)), shard_bytes=shard_bytes)


def table(name: str, body: bytes, options: Mapping[str, str], shard_bytes: int) -> Job:
    """Rows or groups of the sales table."""

    def answer() -> Answer:
        rows = table_etl.read_table(body.decode())
        if "group_by" in options:
            return _json({"groups": table_etl.revenue_by_region(rows)})
        return _exact(table_etl.large_orders(rows).encode())

    return Job(name, "table.etl", body, answer, options=options, shard_bytes=shard_bytes)


def predict(name: str, noise: np.random.Generator, rows: int, shard_bytes: int) -> Job:
    """Probabilities of ten classes for each row, 40 bytes a row."""
    values = noise.integers(0, 17, (rows, 64)).astype(np.uint8)

    def answer() -> Answer:
        wanted = model_predict.probabilities(values, find_model("digits").read_bytes())

        def wrong(result: bytes) -> str:
            found = np.load(io.BytesIO(result))
            if found.shape != wanted.shape:
                return f"the shape is {found.shape}, not {wanted.shape}"
            off = float(np.abs(found - wanted).max())
            return "" if off <= 1e-6 else f"a probability is {off} off"

        return Answer("succeeded", wrong)

    return Job(name, "model.predict", _npy(values), answer, options={"output": "npy"}, shard_bytes=shard_bytes)


def track(name: str, video: "np.ndarray[Any, np.dtype[np.uint8]]", shard_bytes: int) -> Job:
    """A chain: each shard needs the one before it."""
    return Job(
        name,
        "frames.track",
        _npy(video),
        lambda: _exact(frames.lines(frames.track(video))),
        shard_bytes=shard_bytes,
    )


def sleepers(name: str, shards: int, seconds: float) -> Job:
    """Shards that take their time and nothing else: work that is there when something is struck."""
    return Job(
        name,
        "diagnostics",
        bytes(shards * POISON_BYTES),
        lambda: _diagnosed(shards, frozenset()),
        options={"do": "sleep", "seconds": f"{seconds:g}"},
    )


def poison(draw: random.Random, name: str, shards: int = 16) -> Job:
    """Shards of which one of each sort raises, hangs, exits, crashes at every attempt; the others must be in the result."""
    bad = dict(zip(draw.sample(range(shards), len(_FAULTS)), _FAULTS, strict=True))
    lines = [json.dumps(bad.get(seq, {"do": "echo"})).encode() + b"\n" for seq in range(shards)]
    pieces = [line.ljust(POISON_BYTES, b".") for line in lines]
    return Job(
        name,
        "diagnostics",
        b"".join(pieces),
        lambda: _diagnosed(shards, frozenset(bad), payloads=pieces),
        options={"do": "as_payload_says"},
        on_error="skip",
        timeout_s=POISON_TIMEOUT_S,
    )


def bad_rows(draw: random.Random, name: str, rows: int = 120) -> Job:
    """Rows of which two raise: they are told apart, and named one by one."""
    bad = frozenset(draw.sample(range(rows), 2))
    lines = [json.dumps({"do": "raise"} if row in bad else {}).encode() + b"\n" for row in range(rows)]
    size_bytes = sum(len(line) for row, line in enumerate(lines) if row not in bad)

    def wrong(result: bytes) -> str:
        found = json.loads(result)
        return "" if (found["size_bytes"], found["gaps"]) == (size_bytes, []) else f"{found}, not {size_bytes} bytes"

    return Job(
        name,
        "diagnostics",
        b"".join(lines),
        lambda: Answer("partial", wrong, bad_rows=bad),
        options={"do": "as_rows_say"},
        on_error="skip",
    )


def doomed(name: str, shards: int = 12) -> Job:
    """One shard fails for good and ends the job."""
    return Job(
        name,
        "diagnostics",
        bytes(shards * POISON_BYTES),
        lambda: Answer("failed", reason="shard-failed"),
        options={"do": "permanent", "only": str(shards // 2)},
    )


def _diagnosed(shards: int, bad: frozenset[int], payloads: list[bytes] | None = None) -> Answer:
    good = shards - len(bad)

    def wrong(result: bytes) -> str:
        found = json.loads(result)
        gaps = frozenset(seq for first, last in found["gaps"] for seq in range(first, last + 1))
        if (found["shards"], found["size_bytes"], gaps) != (shards, good * POISON_BYTES, bad):
            return f"{found}, not {shards} shards without {sorted(bad)}"
        return "" if good <= found["attempts"] <= 4 * good else f"{found['attempts']} attempts of {good} shards"

    failed = {seq: payloads[seq] for seq in bad} if payloads else {}
    return Answer("partial" if bad else "succeeded", wrong, failed=failed)


def _json(wanted: object) -> Answer:
    return Answer("succeeded", lambda result: "" if json.loads(result) == wanted else f"{result[:200]!r}, not {wanted}")


def _exact(wanted: bytes) -> Answer:
    def wrong(result: bytes) -> str:
        if result == wanted:
            return ""
        at = next(
            (n for n, (a, b) in enumerate(zip(result, wanted, strict=False)) if a != b), min(len(result), len(wanted))
        )
        return f"{len(result)} bytes, not {len(wanted)}; the first difference is at byte {at}"

    return Answer("succeeded", wrong)


def _npy(array: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _sales(draw: random.Random, rows: int) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["id", "region", "price", "qty", "note"])
    for number in range(rows):
        price = draw.choice([repr(draw.random() * 1e3), repr(draw.random() * 1e-9), "1e17", "-1e17", ""])
        region, note = draw.choice(["EU", "Asia, Pacific", "a\nb"]), draw.choice(["", 'says "hi"', "é\r\n"])
        writer.writerow([number, region, price, draw.choice(["0", "1", "7", ""]), note])
    return out.getvalue().encode()
