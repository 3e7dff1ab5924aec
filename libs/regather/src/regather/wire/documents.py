"""Records of job-status and results: one JSON document of the job, and the bytes of the result, unchanged."""

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model

from regather.core.errors import NewerRecord, WireError
from regather.core.ids import is_job_id, is_submission_id
from regather.core.model import Identity
from regather.core.status import JobStatus
from regather.wire.fields import MAX_I64, MAX_MS, first_error, to_json
from regather.wire.identity import (
    HEADER,
    HeaderMap,
    Headers,
    header_map,
    optional,
    pack_identity,
    required,
    unpack_identity,
)

MAX_VERSION = 2**16 - 1
INLINE_RESULT_BYTES = 32 * 1024
"""The status record also contains results up to this size, so that a gateway need not read them by offset."""

RESULT_HEADER = "result"
_STATUS = TypeAdapter(JobStatus)
_FIELDS = [field for field in fields(JobStatus) if field.name != "owner"]
_HINTS = get_type_hints(JobStatus)
_SHAPE: dict[str, Any] = {name: (of, ...) for name, of in get_type_hints(Identity).items()} | {
    field.name: (_HINTS[field.name], ... if field.default is MISSING else field.default) for field in _FIELDS
}
_DOCUMENT = create_model("JobDocument", __config__=ConfigDict(strict=True), **_SHAPE)
"""Made of the fields and types of a status, so that no list of them has to be kept here."""

EncodedDocument = tuple[list[tuple[str, bytes]], bytes]


def encode_status(status: JobStatus, inline_result: bytes | None = None) -> EncodedDocument:
    """Return headers and value of a status record; `inline_result` is the whole result if it is small."""
    headers = [(HEADER, pack_identity(status.owner)), ("state", status.state.value.encode())]
    if inline_result is not None:
        headers.append((RESULT_HEADER, inline_result))
    return headers, status_to_json(status)


def decode_status(headers: Headers, value: bytes | None) -> tuple[JobStatus, bytes | None]:
    """Return status and inline result of a status record; raise WireError if it cannot be read."""
    by_name = header_map(headers)
    return _of_owner(by_name, value or b""), optional(by_name, RESULT_HEADER)


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
    by_name = header_map(headers)
    return _of_owner(by_name, required(by_name, "document"))


def _of_owner(headers: HeaderMap, document: bytes) -> JobStatus:
    """Return the status; raise WireError if it is of another job, submission or version than the record."""
    owner = unpack_identity(required(headers, HEADER))
    status = status_from_json(document)
    if owner != status.owner:
        raise WireError(f"a record of {owner} has the document of {status.owner}")
    return status


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
    return to_json(document)


def status_from_json(data: bytes) -> JobStatus:
    """Read what status_to_json() wrote; raise WireError for anything else. Keys that nobody knows are left out.

    Raise NewerRecord if only states or reasons in it are unknown.
    """
    try:
        document: Any = _DOCUMENT.model_validate_json(data)
    except ValidationError as error:
        unknown = all(one["type"] == "enum" for one in error.errors(include_url=False, include_input=False))
        kind = NewerRecord if unknown else WireError  # a later release knows more states and reasons
        raise kind(f"a job's document cannot be read: {first_error(error)}") from None
    owner = Identity(document.job_id, document.submission, document.version)
    if not (is_job_id(owner.job_id) and is_submission_id(owner.submission) and 1 <= owner.version <= MAX_VERSION):
        raise WireError(f"a job's document is of {owner}, which is no identity of a job")
    status = JobStatus(owner, **{field.name: getattr(document, field.name) for field in _FIELDS})
    for name, number in _numbers("", status):
        most = MAX_MS if name.endswith("_ms") else MAX_I64
        if not 0 <= number <= most:
            raise WireError(f"a job's document cannot be read: {name} is a number below 0 or above {most}")
    return status


def _numbers(name: str, value: object) -> Iterator[tuple[str, int]]:
    """Yield all integers in a status with the names of their fields, also those of its errors, gaps and result."""
    if type(value) is int:
        yield name, value
    elif isinstance(value, tuple):
        for element in value:
            yield from _numbers(name, element)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _numbers(field.name, getattr(value, field.name))
