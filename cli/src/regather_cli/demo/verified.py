"""A job of the demo whose result is known beforehand, from a program that shares no code with the kind."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regather_cli.client import Submission
from regather_cli.demo.reference import Answer, digest_of


def json_digest(result: bytes) -> str:
    """Digest of a JSON result, however its fields are ordered."""
    return digest_of(json.loads(result))


def bytes_digest(result: bytes) -> str:
    """Digest of a result as it stands."""
    return f"sha256:{hashlib.sha256(result).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Check:
    """`expected` is the digest of the right result, `digest` makes one of the result that came."""

    expected: str
    digest: Callable[[bytes], str] = json_digest


@dataclass(frozen=True, slots=True)
class VerifiedJob:
    """What is sent, what must come back, and what is said of it; seconds are those of the same task unsharded."""

    name: str
    submission: Submission
    body: Path
    check: Check
    note: str
    reference_s: float | None = None
    serial_s: float | None = None


def shown_seconds(answer: Answer, serial_s: float | None = None) -> str:
    """How long the independent program took, and the kind's own code in one process."""
    when = " in an earlier run" if answer.kept else ""
    text = f"an independent program needed {answer.seconds:.2f} s{when} to say what the result must be"
    return text if serial_s is None else f"{text},\n  the kind's own code {serial_s:.2f} s in one process"
