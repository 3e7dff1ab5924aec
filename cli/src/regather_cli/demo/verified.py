"""A job of the demo whose result is known in advance, from a program that shares no code with the kind."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regather_cli.client import Submission
from regather_cli.demo.reference import Answer, digest_of


def json_digest(result: bytes) -> str:
    """Return the digest of a JSON result, independent of the order of its fields."""
    return digest_of(json.loads(result))


def bytes_digest(result: bytes) -> str:
    """Return the digest of a result's bytes."""
    return f"sha256:{hashlib.sha256(result).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Check:
    """`expected` is the digest of the right result; `digest` computes that of the actual result."""

    expected: str
    digest: Callable[[bytes], str] = json_digest


@dataclass(frozen=True, slots=True)
class VerifiedJob:
    """A submission, its expected result and a note for the reader; the seconds are those of the same task unsharded."""

    name: str
    submission: Submission
    body: Path
    check: Check
    note: str
    reference_s: float | None = None
    serial_s: float | None = None


def shown_seconds(answer: Answer, serial_s: float | None = None) -> str:
    """Return a text with the seconds of the independent program, and of the kind's own code in one process."""
    when = " in an earlier run" if answer.kept else ""
    text = f"an independent program needed {answer.seconds:.2f} s{when} to compute the expected result"
    return text if serial_s is None else f"{text},\n  the kind's own code {serial_s:.2f} s in one process"
