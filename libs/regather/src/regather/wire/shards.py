"""Shard records: the payload is the value; identity, attempt, kind and options are headers.

A dead letter is the same record with more headers, so that it can be run again as it stands.
"""

import struct

from regather.core.errors import WireError
from regather.core.model import MAX_ATTEMPTS, AttemptError, Failure, Identity, RecordPlace, Shard
from regather.core.sharding import MAX_SHARD_BYTES
from regather.wire.fields import AttemptDocument, JsonReader, Place, to_json
from regather.wire.identity import (
    HEADER,
    IDENTITY_BYTES,
    HeaderMap,
    Headers,
    header_map,
    optional,
    pack_identity,
    required,
    required_text,
    unpack_identity,
)

_TAIL = struct.Struct(">IBII")  # seq, attempt, timeout_ms, delay_ms
MAX_HEADERS_BYTES = 1024 * 1024
"""What the headers of a shard may take, beside its payload. Copies of them must fit into events and dead letters."""

MAX_TIMEOUT_MS = 3_600_000
"""The longest time limit of an execution that a gateway accepts."""

MAX_HISTORY_BYTES = 256 * 1024
_NO_OPTIONS = b"{}"
_read_place = JsonReader[Place](Place)
_read_history = JsonReader[tuple[AttemptDocument, ...]](tuple[AttemptDocument, ...])


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
    return [*shard_headers(shard), ("source", to_json(list(shard.source)))], shard.carry


def decode_shard(headers: Headers, value: bytes | None) -> Shard:
    """Read a shard record; raise WireError if it cannot be read."""
    by_name = header_map(headers)
    _check_sizes(by_name, len(value or b""))
    head = required(by_name, HEADER)
    owner = unpack_identity(head[:IDENTITY_BYTES])
    if len(head) != IDENTITY_BYTES + _TAIL.size:
        raise WireError(f"header {HEADER!r} of a shard has {len(head)} bytes, not {IDENTITY_BYTES + _TAIL.size}")
    seq, attempt, timeout_ms, delay_ms = _TAIL.unpack_from(head, IDENTITY_BYTES)
    if attempt >= MAX_ATTEMPTS:
        raise WireError(f"header {HEADER!r} of a shard is of attempt {attempt}; the last one is {MAX_ATTEMPTS - 1}")
    if timeout_ms > MAX_TIMEOUT_MS:
        raise WireError(f"header {HEADER!r} of a shard has a time limit of {timeout_ms} ms, more than {MAX_TIMEOUT_MS}")
    options = optional(by_name, "options")
    history = optional(by_name, "history")
    source = optional(by_name, "source")
    place = RecordPlace(*_read_place(source, "header 'source'")) if source else None
    return Shard(
        owner=owner,
        seq=seq,
        kind=required_text(by_name, "kind"),
        options=_NO_OPTIONS if options is None else options,
        payload=b"" if place else value or b"",
        meta=optional(by_name, "meta") or b"",
        timeout_ms=timeout_ms,
        attempt=attempt,
        history=decode_history(history) if history else (),
        delay_ms=delay_ms,
        chained="chained" in by_name,
        carry=(value or b"") if place else b"",
        source=place,
        skip="skip" in by_name,
    )


def _check_sizes(headers: HeaderMap, value_bytes: int) -> None:
    """Raise WireError for a shard so large that its next attempt, its outcome or its dead letter would be too large."""
    history_bytes = len(headers.get("history") or b"")
    headers_bytes = sum(len(name) + len(content or b"") for name, content in headers.items()) - history_bytes
    for what, size_bytes, most_bytes in (
        ("headers", headers_bytes, MAX_HEADERS_BYTES),
        ("history", history_bytes, MAX_HISTORY_BYTES),
        ("headers and value", headers_bytes + value_bytes, MAX_SHARD_BYTES + MAX_HEADERS_BYTES),
    ):
        if size_bytes > most_bytes:
            raise WireError(f"the {what} of a shard have {size_bytes} bytes, more than {most_bytes}")


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
    return to_json([attempt_to_json(error) for error in history])


def decode_history(data: bytes) -> tuple[AttemptError, ...]:
    """Read what encode_history() wrote; raise WireError for anything else."""
    return tuple(attempt_error(entry) for entry in _read_history(data, "header 'history'"))


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


def attempt_error(entry: AttemptDocument) -> AttemptError:
    """Return the failed attempt of a document that was read."""
    return AttemptError(
        entry["attempt"],
        entry["reason"],
        entry["error"],
        entry["worker"],
        entry["started_ms"],
        entry["duration_ms"],
    )
