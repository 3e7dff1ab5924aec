"""Shard records: the payload is the value; identity, attempt, kind and options are headers.

A dead letter is the same record with more headers, so that it can be run again as it stands.
"""

import json
import struct

from regather.core.errors import WireError
from regather.core.model import AttemptError, Failure, Identity, Reason, RecordPlace, Shard
from regather.wire.identity import (
    HEADER,
    IDENTITY_BYTES,
    Headers,
    header_map,
    pack_identity,
    required,
    unpack_identity,
)

_TAIL = struct.Struct(">IBII")  # seq, attempt, timeout_ms, delay_ms
_NO_OPTIONS = b"{}"


class ShardEncoder:
    """Encodes the shards of one submission. It packs what they share only once."""

    def __init__(
        self, owner: Identity, kind: str, options: bytes, timeout_ms: int, *, chained: bool = False, skip: bool = False
    ) -> None:
        self._identity = pack_identity(owner)
        self._timeout_ms = timeout_ms
        shared: list[tuple[str, bytes]] = [("kind", kind.encode())]
        if options != _NO_OPTIONS:
            shared.append(("options", options))
        if chained:
            shared.append(("chained", b"1"))
        if skip:
            shared.append(("skip", b"1"))
        self._shared = shared

    def headers(self, seq: int, meta: bytes = b"") -> list[tuple[str, bytes]]:
        """Return the headers of the first attempt of shard `seq`."""
        headers = [(HEADER, self._identity + _TAIL.pack(seq, 0, self._timeout_ms, 0)), *self._shared]
        if meta:
            headers.append(("meta", meta))
        return headers


def shard_headers(shard: Shard) -> list[tuple[str, bytes]]:
    """Return the headers of any attempt of a shard, with its history."""
    encoder = ShardEncoder(
        shard.owner, shard.kind, shard.options, shard.timeout_ms, chained=shard.chained, skip=shard.skip
    )
    headers = encoder.headers(shard.seq, shard.meta)
    tail = _TAIL.pack(shard.seq, shard.attempt, shard.timeout_ms, shard.delay_ms)
    headers[0] = (HEADER, pack_identity(shard.owner) + tail)
    if shard.history:
        headers.append(("history", encode_history(shard.history)))
    return headers


def released_record(shard: Shard) -> tuple[list[tuple[str, bytes]], bytes]:
    """Return headers and value of a released shard: the value is the carry, a header says where the payload is."""
    if shard.source is None:
        raise ValueError(f"shard {shard.seq} was not parked")
    return [*shard_headers(shard), ("source", json.dumps(shard.source).encode())], shard.carry


def decode_shard(headers: Headers, value: bytes | None) -> Shard:
    """Read a shard record; raise WireError if it cannot be read."""
    by_name = header_map(headers)
    head = required(by_name, HEADER)
    if len(head) != IDENTITY_BYTES + _TAIL.size:
        raise WireError(f"header {HEADER!r} of a shard has {len(head)} bytes, not {IDENTITY_BYTES + _TAIL.size}")
    owner = unpack_identity(head[:IDENTITY_BYTES])
    seq, attempt, timeout_ms, delay_ms = _TAIL.unpack_from(head, IDENTITY_BYTES)
    history = by_name.get("history")
    source = by_name.get("source")
    try:
        kind = required(by_name, "kind").decode()
        place = RecordPlace(*json.loads(source)) if source else None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"header 'kind' or 'source' cannot be read: {error}") from error
    return Shard(
        owner=owner,
        seq=seq,
        kind=kind,
        options=by_name.get("options", _NO_OPTIONS),
        payload=b"" if place else value or b"",
        meta=by_name.get("meta", b""),
        timeout_ms=timeout_ms,
        attempt=attempt,
        history=decode_history(history) if history else (),
        delay_ms=delay_ms,
        chained="chained" in by_name,
        carry=(value or b"") if place else b"",
        source=place,
        skip="skip" in by_name,
    )


def dead_letter_headers(
    shard: Shard, failure: Failure, *, topic: str, partition: int, offset: int, worker: str, row: int | None = None
) -> list[tuple[str, bytes]]:
    """Return the headers of a dead letter: the shard's own, its origin (Spring Kafka's names), and why it failed.

    `row` is the number of the bad row, if the dead letter is of a single row.
    """
    return [
        *([("row", str(row).encode())] if row is not None else []),
        *(header for header in shard_headers(shard) if header[0] != "history"),
        ("history", encode_history(failure.history)),
        ("reason", failure.reason.value.encode()),
        ("error", failure.error.encode()),
        ("worker", worker.encode()),
        ("seq", str(shard.seq).encode()),
        ("attempts", str(len(failure.history)).encode()),
        ("kafka_dlt-original-topic", topic.encode()),
        ("kafka_dlt-original-partition", str(partition).encode()),
        ("kafka_dlt-original-offset", str(offset).encode()),
        ("kafka_dlt-exception-message", failure.error.encode()),
    ]


def encode_history(history: tuple[AttemptError, ...]) -> bytes:
    """Return attempt errors as JSON, oldest first."""
    return json.dumps([attempt_to_json(error) for error in history], separators=(",", ":")).encode()


def decode_history(data: bytes) -> tuple[AttemptError, ...]:
    """Read what encode_history() wrote; raise WireError for anything else."""
    try:
        return tuple(attempt_from_json(entry) for entry in json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"header 'history' cannot be read: {error!r}") from error


def attempt_to_json(error: AttemptError) -> dict[str, object]:
    """Return one failed attempt as a document. Users see it in this form, too."""
    return {
        "attempt": error.attempt,
        "reason": error.reason.value,
        "error": error.error,
        "worker": error.worker,
        "started_ms": error.started_ms,
        "duration_ms": error.duration_ms,
    }


def attempt_from_json(entry: dict[str, object]) -> AttemptError:
    """Read what attempt_to_json() wrote."""
    return AttemptError(
        attempt=int(str(entry["attempt"])),
        reason=Reason(str(entry["reason"])),
        error=str(entry["error"]),
        worker=str(entry["worker"]),
        started_ms=int(str(entry["started_ms"])),
        duration_ms=int(str(entry["duration_ms"])),
    )
