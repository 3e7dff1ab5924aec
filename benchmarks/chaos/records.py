"""Records as a plain consumer gets them, read by the reference documentation, and what the checker keeps of them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from regather.core.model import AttemptFailed, Cancel, Event, Opened, Outcomes, Redriven, Sealed, Tick
from regather.wire.events import decode_event


class Place(NamedTuple):
    """Partition and offset."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Final:
    """A record of `results` as docs/reference/topics.md describes it; `value` is filled up from segments."""

    place: Place
    at_ms: int
    job_id: str
    version: int
    state: str
    document: Mapping[str, Any]
    value: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the result in hexadecimal digits."""
        return hashlib.sha256(self.value).hexdigest()


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of `dead-letters`; `row` for a single bad row."""

    place: Place
    job_id: str
    seq: int
    row: int | None
    reason: str
    payload: bytes


class Outcome(NamedTuple):
    """One outcome of one shard in an event."""

    seq: int
    attempts: int
    failed: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A record of `job-events`, without the bytes. `detail` is for people."""

    place: Place
    at_ms: int
    sort: str
    job_id: str = ""
    submission: str = ""
    version: int = 0
    detail: str = ""
    label: str = ""
    shards: int | None = None
    failed_attempt: int | None = None
    outcomes: tuple[Outcome, ...] = ()


def final_of(record: Any) -> Final:
    """Read a final by its documented headers."""
    headers = dict(record.headers)
    return Final(
        Place(record.partition, record.offset),
        record.timestamp,
        headers["job_id"].decode(),
        int(headers["version"]),
        headers["state"].decode(),
        json.loads(headers["document"]),
        record.value or b"",
    )


def letter_of(record: Any) -> Letter:
    """Read a dead letter by its documented headers."""
    headers = dict(record.headers)
    row = headers.get("row")
    return Letter(
        Place(record.partition, record.offset),
        (record.key or b"").decode(),
        int(headers.get("seq", b"-1")),
        int(row) if row is not None else None,
        headers["reason"].decode(),
        record.value or b"",
    )


def line_of(record: Any) -> Line:
    """Read an event of a job."""
    event = decode_event(record.headers, record.value)
    place = Place(record.partition, record.offset)
    if isinstance(event, Tick):
        return Line(place, record.timestamp, "tick")
    owner = event.owner
    known = (place, record.timestamp, type(event).__name__, owner.job_id, owner.submission, owner.version)
    return Line(*known, **_details(event))


def _details(event: Event) -> dict[str, Any]:
    if isinstance(event, Opened):
        return {"label": event.label, "detail": f"{event.kind} {event.label} {event.on_error}"}
    if isinstance(event, Redriven):
        return {"label": event.opened.label, "detail": f"shards {event.seqs} again"}
    if isinstance(event, Sealed):
        return {"shards": event.shards, "detail": f"{event.shards} shards, {event.size_bytes} bytes"}
    if isinstance(event, AttemptFailed):
        error = event.error
        text = f"shard {event.seq} attempt {error.attempt} {error.reason} on {error.worker}: {error.error[:120]}"
        return {"failed_attempt": event.seq, "detail": text}
    if isinstance(event, Outcomes):
        outcomes = tuple(Outcome(o.seq, o.attempts, o.failure is not None) for o in event.outcomes)
        names = [f"{o.seq}{'!' if o.failed else ''}" for o in outcomes]
        return {"outcomes": outcomes, "detail": f"{event.worker}: {' '.join(names)}"}
    if isinstance(event, Cancel):
        return {}
    return {"detail": repr(event)[:300]}
