"""Records of job-status and results: one JSON document of the job, and the bytes of the result, unchanged."""

import json
from collections.abc import Mapping
from typing import Any

from regather.core.errors import WireError
from regather.core.model import Identity, JobId, JobState, OnError, Reason, SubmissionId
from regather.core.status import JobStatus, ResultAddress, ShardError
from regather.wire.identity import HEADER, Headers, header_map, pack_identity

INLINE_RESULT_BYTES = 32 * 1024
"""The status record also contains results up to this size, so that a gateway need not read them by offset."""

RESULT_HEADER = "result"
EncodedDocument = tuple[list[tuple[str, bytes]], bytes]


def encode_status(status: JobStatus, inline_result: bytes | None = None) -> EncodedDocument:
    """Return headers and value of a status record; `inline_result` is the whole result if it is small."""
    headers = [(HEADER, pack_identity(status.owner)), ("state", status.state.value.encode())]
    if inline_result is not None:
        headers.append((RESULT_HEADER, inline_result))
    return headers, status_to_json(status)


def decode_status(headers: Headers, value: bytes | None) -> tuple[JobStatus, bytes | None]:
    """Return status and inline result of a status record; raise WireError if it cannot be read."""
    return status_from_json(value or b""), header_map(headers).get(RESULT_HEADER)


def encode_final(status: JobStatus, result: bytes, media_type: str) -> EncodedDocument:
    """Return headers and value of a final: the value is the result, the job's document is a header."""
    headers = [
        (HEADER, pack_identity(status.owner)),
        ("job_id", status.owner.job_id.encode()),
        ("version", str(status.owner.version).encode()),
        ("state", status.state.value.encode()),
        ("content-type", media_type.encode()),
        ("document", status_to_json(status)),
    ]
    return headers, result


def decode_final(headers: Headers) -> JobStatus:
    """Return the status that a final carries; raise WireError if it has none."""
    document = header_map(headers).get("document")
    if document is None:
        raise WireError("the final has no header 'document'")
    return status_from_json(document)


def status_to_json(status: JobStatus) -> bytes:
    """Return the job's document as JSON."""
    document: dict[str, object] = {
        "job_id": status.owner.job_id,
        "submission": status.owner.submission,
        "version": status.owner.version,
        "state": status.state.value,
        "kind": status.kind,
        "tenant": status.tenant,
        "label": status.label,
        "on_error": status.on_error.value,
        "created_ms": status.created_ms,
        "updated_ms": status.updated_ms,
        "deadline_ms": status.deadline_ms,
        "total": status.total,
        "done": status.done,
        "failed": status.failed,
        "retries": status.retries,
        "frontier": status.frontier,
        "bad_rows": status.bad_rows,
        "size_bytes": status.size_bytes,
        "digest": status.digest,
        "gaps": status.gaps,
        "errors": [_error_to_json(error) for error in status.errors],
        "reason": status.reason.value if status.reason else None,
        "error": status.error,
        "result": _address_to_json(status.result),
        "events_offset": status.events_offset,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def status_from_json(data: bytes) -> JobStatus:
    """Read what status_to_json() wrote; raise WireError for anything else."""
    try:
        return _status(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"a job's document cannot be read: {error!r}") from error


def _status(doc: Mapping[str, Any]) -> JobStatus:
    return JobStatus(
        owner=Identity(JobId(doc["job_id"]), SubmissionId(doc["submission"]), doc["version"]),
        state=JobState(doc["state"]),
        kind=doc["kind"],
        tenant=doc["tenant"],
        label=doc["label"],
        on_error=OnError(doc["on_error"]),
        created_ms=doc["created_ms"],
        updated_ms=doc["updated_ms"],
        deadline_ms=doc["deadline_ms"],
        total=doc["total"],
        done=doc["done"],
        failed=doc["failed"],
        retries=doc["retries"],
        frontier=doc["frontier"],
        bad_rows=doc.get("bad_rows", 0),
        size_bytes=doc["size_bytes"],
        digest=doc["digest"],
        gaps=tuple((first, last) for first, last in doc["gaps"]),
        errors=tuple(_error_from_json(entry) for entry in doc["errors"]),
        reason=Reason(doc["reason"]) if doc["reason"] else None,
        error=doc["error"],
        result=_address_from_json(doc["result"]),
        events_offset=doc["events_offset"],
    )


def _address_to_json(address: ResultAddress | None) -> dict[str, object] | None:
    if address is None:
        return None
    document: dict[str, object] = {
        "partition": address.partition,
        "offset": address.offset,
        "size_bytes": address.size_bytes,
        "media_type": address.media_type,
    }
    if address.segments:
        document |= {"segments": address.segments, "digest": address.digest}
    return document


def _address_from_json(entry: Mapping[str, Any] | None) -> ResultAddress | None:
    if entry is None:
        return None
    segments = tuple((offset, size_bytes) for offset, size_bytes in entry.get("segments", ()))
    return ResultAddress(
        entry["partition"], entry["offset"], entry["size_bytes"], entry["media_type"], segments, entry.get("digest", "")
    )


def _error_to_json(error: ShardError) -> dict[str, object]:
    document: dict[str, object] = {
        "seq": error.seq,
        "reason": error.reason.value,
        "error": error.error,
        "attempts": error.attempts,
        "dead_letter": error.dead_letter,
    }
    return document if error.row is None else document | {"row": error.row}


def _error_from_json(entry: Mapping[str, Any]) -> ShardError:
    letter = entry["dead_letter"]
    return ShardError(
        seq=entry["seq"],
        reason=Reason(entry["reason"]),
        error=entry["error"],
        attempts=entry["attempts"],
        dead_letter=(letter[0], letter[1]) if letter else None,
        row=entry.get("row"),
    )
