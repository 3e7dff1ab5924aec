"""Records of job-status and results: one JSON document of the job, and the bytes of the result, unchanged."""

import json

from pydantic import TypeAdapter

from regather.core.errors import WireError
from regather.core.status import JobStatus
from regather.wire.identity import HEADER, Headers, header_map, pack_identity

INLINE_RESULT_BYTES = 32 * 1024
"""The status record also contains results up to this size, so that a gateway need not read them by offset."""

RESULT_HEADER = "result"
_STATUS = TypeAdapter(JobStatus)
"""Knows the fields and types of a status, so that no list of them has to be kept here."""

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
    """Return the job's document as JSON: the fields of JobStatus, with those of its owner in place of `owner`."""
    owner = status.owner
    identity = {"job_id": owner.job_id, "submission": owner.submission, "version": owner.version}
    document = identity | _STATUS.dump_python(status, mode="json", exclude={"owner"})
    for error in document["errors"]:
        if error["row"] is None:  # a whole shard: readers of before bad rows know no such key
            del error["row"]
    if status.result is not None and not status.result.segments:
        del document["result"]["segments"], document["result"]["digest"]
    return json.dumps(document, separators=(",", ":")).encode()


def status_from_json(data: bytes) -> JobStatus:
    """Read what status_to_json() wrote; raise WireError for anything else. Keys that nobody knows are left out."""
    try:
        document = json.loads(data)
        owner = (document["job_id"], document["submission"], document["version"])
        return _STATUS.validate_python({**document, "owner": owner})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"a job's document cannot be read: {error!r}") from error
