"""Records of job-events: what happened to jobs and shards. The aggregator folds them."""

import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from regather.core.errors import WireError
from regather.core.execution import pack_step, unpack_step
from regather.core.model import (
    Abandoned,
    AttemptFailed,
    BadRow,
    Cancel,
    DeadLetterAddress,
    Event,
    Failure,
    Identity,
    OffsetRange,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    RecordPlace,
    Redriven,
    Sealed,
    Tick,
    Uploading,
)
from regather.wire.fields import (
    MAX_MS,
    U32,
    AttemptDocument,
    JsonReader,
    Letter,
    Milliseconds,
    Name,
    Natural,
    PartitionNumber,
    Place,
    TopicName,
    to_json,
)
from regather.wire.identity import HEADER, Headers, header_map, pack_identity, required, unpack_identity
from regather.wire.shards import attempt_error, attempt_to_json, decode_history, encode_history

EVENT_HEADER = "event"
_COUNT = struct.Struct(">BI")  # length of the worker's name, number of outcomes
_ENTRY = struct.Struct(">IBBIQII")  # seq, flags, attempts, input_bytes, started_ms, duration_us, length of the body
_MAX_U32 = 0xFFFF_FFFF
_VALUE = "its value"
_FAILED, _CARRIES, _BAD_ROWS = 1, 2, 4


class _Opened(TypedDict):
    kind: Name
    options: str
    tenant: Name
    deadline_ms: Milliseconds
    on_error: OnError
    label: Name
    chained: NotRequired[bool]
    max_failed: NotRequired[Natural]
    max_failed_pct: NotRequired[Annotated[float, Field(ge=0, le=100)]]


class _Redriven(TypedDict):
    opened: _Opened
    seqs: tuple[tuple[U32, U32], ...]
    origin: Natural
    created_ms: Milliseconds


class _Uploading(TypedDict):
    shards: U32


class _Sealed(TypedDict):
    shards: U32
    size_bytes: Natural
    digest: Name
    places: NotRequired[tuple[tuple[TopicName, PartitionNumber, Natural, Natural], ...]]


class _Abandoned(TypedDict):
    error: str


class _AttemptFailed(AttemptDocument):
    seq: U32


class _Parked(TypedDict):
    seq: U32
    place: Place
    timeout_ms: U32
    meta: str


class _Failure(TypedDict):
    reason: Reason
    error: str
    history: str
    dead_letter: Letter | None


_BadRows = tuple[tuple[Natural, Reason, str, Letter | None], ...]

_read_opened = JsonReader[_Opened](_Opened)
_read_redriven = JsonReader[_Redriven](_Redriven)
_read_uploading = JsonReader[_Uploading](_Uploading)
_read_sealed = JsonReader[_Sealed](_Sealed)
_read_abandoned = JsonReader[_Abandoned](_Abandoned)
_read_attempt_failed = JsonReader[_AttemptFailed](_AttemptFailed)
_read_parked = JsonReader[_Parked](_Parked)
_read_failure = JsonReader[_Failure](_Failure)
_read_bad_rows = JsonReader[_BadRows](_BadRows)

EncodedEvent = tuple[list[tuple[str, bytes]], bytes]


def encode_event(event: Event) -> EncodedEvent:
    """Return headers and value of a job event."""
    if isinstance(event, Tick):
        return [(EVENT_HEADER, b"tick")], b""
    name, value = _ENCODERS[type(event)](event)
    return [(EVENT_HEADER, name), (HEADER, pack_identity(event.owner))], value


def decode_event(headers: Headers, value: bytes | None) -> Event:
    """Read a job event; raise WireError if it cannot be read."""
    by_name = header_map(headers)
    name = required(by_name, EVENT_HEADER)
    if name == b"tick":
        return Tick()
    decoder = _DECODERS.get(name)
    if decoder is None:
        raise WireError(f"unknown job event {name[:40]!r}")
    owner = unpack_identity(required(by_name, HEADER))
    try:
        return decoder(owner, value or b"")
    except (WireError, ValueError, struct.error) as error:
        raise WireError(f"job event {name.decode()} of job {owner.job_id}: {error}") from error


def _encode_opened(event: Opened) -> tuple[bytes, bytes]:
    return b"opened", to_json(_opened_document(event))


def _opened_document(event: Opened) -> dict[str, object]:
    document: dict[str, object] = {
        "kind": event.kind,
        "options": event.options.decode(),
        "tenant": event.tenant,
        "deadline_ms": event.deadline_ms,
        "on_error": event.on_error.value,
        "label": event.label,
    }
    if event.chained:
        document["chained"] = True
    if event.max_failed is not None:
        document["max_failed"] = event.max_failed
    if event.max_failed_pct is not None:
        document["max_failed_pct"] = event.max_failed_pct
    return document


def _decode_opened(owner: Identity, value: bytes) -> Opened:
    return _opened(owner, _read_opened(value, _VALUE))


def _opened(owner: Identity, document: _Opened) -> Opened:
    return Opened(
        owner,
        kind=document["kind"],
        options=document["options"].encode(),
        tenant=document["tenant"],
        deadline_ms=document["deadline_ms"],
        on_error=document["on_error"],
        label=document["label"],
        chained=document.get("chained", False),
        max_failed=document.get("max_failed"),
        max_failed_pct=document.get("max_failed_pct"),
    )


def _encode_redriven(event: Redriven) -> tuple[bytes, bytes]:
    document = {
        "opened": _opened_document(event.opened),
        "seqs": event.seqs,
        "origin": event.origin,
        "created_ms": event.created_ms,
    }
    return b"redriven", to_json(document)


def _decode_redriven(owner: Identity, value: bytes) -> Redriven:
    document = _read_redriven(value, _VALUE)
    for first, last in document["seqs"]:
        if first > last:
            raise WireError(f"seqs: the shards {first} to {last} are no range")
    return Redriven(_opened(owner, document["opened"]), document["seqs"], document["origin"], document["created_ms"])


def _encode_uploading(event: Uploading) -> tuple[bytes, bytes]:
    return b"uploading", to_json({"shards": event.shards})


def _decode_uploading(owner: Identity, value: bytes) -> Uploading:
    return Uploading(owner, _read_uploading(value, _VALUE)["shards"])


def _encode_sealed(event: Sealed) -> tuple[bytes, bytes]:
    document: dict[str, object] = {"shards": event.shards, "size_bytes": event.size_bytes, "digest": event.digest}
    if event.shard_ranges:
        document["places"] = event.shard_ranges
    return b"sealed", to_json(document)


def _decode_sealed(owner: Identity, value: bytes) -> Sealed:
    document = _read_sealed(value, _VALUE)
    shard_ranges = tuple(OffsetRange(*place) for place in document.get("places", ()))
    return Sealed(owner, document["shards"], document["size_bytes"], document["digest"], shard_ranges)


def _encode_abandoned(event: Abandoned) -> tuple[bytes, bytes]:
    return b"abandoned", to_json({"error": event.error})


def _decode_abandoned(owner: Identity, value: bytes) -> Abandoned:
    return Abandoned(owner, _read_abandoned(value, _VALUE)["error"])


def _encode_attempt_failed(event: AttemptFailed) -> tuple[bytes, bytes]:
    return b"attempt-failed", to_json({"seq": event.seq, **attempt_to_json(event.error)})


def _decode_attempt_failed(owner: Identity, value: bytes) -> AttemptFailed:
    document = _read_attempt_failed(value, _VALUE)
    return AttemptFailed(owner, document["seq"], attempt_error(document))


def _encode_outcomes(event: Outcomes) -> tuple[bytes, bytes]:
    worker = event.worker.encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode()
    entries, bodies = [], []
    for outcome in event.outcomes:
        body, flags = outcome.output, 0
        if outcome.failure is not None:
            body, flags = _encode_failure(outcome.failure), _FAILED
        elif outcome.carry:
            body, flags = pack_step(outcome.output, outcome.carry), _CARRIES
        elif outcome.bad_rows:
            body, flags = pack_step(outcome.output, _encode_bad_rows(outcome.bad_rows)), _BAD_ROWS
        entries.append(
            _ENTRY.pack(
                outcome.seq,
                flags,
                outcome.attempts,
                outcome.input_bytes,
                outcome.started_ms,
                min(outcome.duration_us, _MAX_U32),
                len(body),
            )
        )
        bodies.append(body)
    return b"outcomes", b"".join([_COUNT.pack(len(worker), len(entries)), worker, *entries, *bodies])


def _decode_outcomes(owner: Identity, value: bytes) -> Outcomes:
    name_bytes, count = _COUNT.unpack_from(value)
    start = _COUNT.size + name_bytes
    worker = value[_COUNT.size : start].decode()
    table_end = start + count * _ENTRY.size
    if table_end > len(value):
        raise ValueError(f"{count} outcomes do not fit into {len(value)} bytes")
    return Outcomes(owner, worker, _decode_entries(value, start, table_end))


def _decode_entries(value: bytes, start: int, table_end: int) -> Sequence[Outcome]:
    outcomes, at = [], table_end
    for seq, flags, attempts, size, started_ms, duration_us, length in _ENTRY.iter_unpack(value[start:table_end]):
        if started_ms > MAX_MS:
            raise ValueError(f"an outcome began {started_ms} ms after 1970")
        body = value[at : at + length]
        at += length
        failure, carry = None, b""
        bad_rows: tuple[BadRow, ...] = ()
        if flags == _FAILED:
            body, failure = b"", _decode_failure(body)
        elif flags == _CARRIES:
            body, carry = unpack_step(body)
        elif flags == _BAD_ROWS:
            body, encoded = unpack_step(body)
            bad_rows = _decode_bad_rows(encoded)
        elif flags:
            raise ValueError(f"an outcome has the unknown flags {flags}")
        outcomes.append(Outcome(seq, attempts, size, started_ms, duration_us, body, failure, carry, bad_rows))
    if at != len(value):
        raise ValueError(f"the bodies end at byte {at} of {len(value)}")
    return outcomes


def _encode_parked(event: Parked) -> tuple[bytes, bytes]:
    document = {
        "seq": event.seq,
        "place": event.place,
        "timeout_ms": event.timeout_ms,
        "meta": event.meta.decode("latin-1"),
    }
    return b"parked", to_json(document)


def _decode_parked(owner: Identity, value: bytes) -> Parked:
    document = _read_parked(value, _VALUE)
    place = RecordPlace(*document["place"])
    return Parked(owner, document["seq"], place, document["timeout_ms"], document["meta"].encode("latin-1"))


def _encode_cancel(_event: Cancel) -> tuple[bytes, bytes]:
    return b"cancel", b""


def _decode_cancel(owner: Identity, _value: bytes) -> Cancel:
    return Cancel(owner)


def _encode_bad_rows(bad_rows: Sequence[BadRow]) -> bytes:
    rows = [[bad.row, bad.reason.value, bad.error, _letter_to_json(bad.dead_letter)] for bad in bad_rows]
    return to_json(rows)


def _decode_bad_rows(data: bytes) -> tuple[BadRow, ...]:
    return tuple(
        BadRow(row, reason, error, _letter_from_json(letter))
        for row, reason, error, letter in _read_bad_rows(data, "its bad rows")
    )


def _letter_to_json(letter: DeadLetterAddress | None) -> list[int] | None:
    return [letter.partition, letter.offset] if letter else None


def _letter_from_json(entry: Letter | None) -> DeadLetterAddress | None:
    return DeadLetterAddress(*entry) if entry else None


def _encode_failure(failure: Failure) -> bytes:
    document = {
        "reason": failure.reason.value,
        "error": failure.error,
        "history": encode_history(failure.history).decode(),
        "dead_letter": _letter_to_json(failure.dead_letter),
    }
    return to_json(document)


def _decode_failure(body: bytes) -> Failure:
    document = _read_failure(body, "a failure")
    return Failure(
        document["reason"],
        document["error"],
        decode_history(document["history"].encode()),
        _letter_from_json(document["dead_letter"]),
    )


_ENCODERS: dict[type, Callable[[Any], tuple[bytes, bytes]]] = {
    Opened: _encode_opened,
    Redriven: _encode_redriven,
    Uploading: _encode_uploading,
    Sealed: _encode_sealed,
    Abandoned: _encode_abandoned,
    AttemptFailed: _encode_attempt_failed,
    Parked: _encode_parked,
    Cancel: _encode_cancel,
    Outcomes: _encode_outcomes,
}
_DECODERS: dict[bytes, Callable[[Identity, bytes], Event]] = {
    b"opened": _decode_opened,
    b"redriven": _decode_redriven,
    b"uploading": _decode_uploading,
    b"sealed": _decode_sealed,
    b"abandoned": _decode_abandoned,
    b"attempt-failed": _decode_attempt_failed,
    b"parked": _decode_parked,
    b"cancel": _decode_cancel,
    b"outcomes": _decode_outcomes,
}
