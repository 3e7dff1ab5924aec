"""The `rg` header: wire version and identity, the same on every record."""

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from regather.core.errors import NewerRecord, WireError
from regather.core.model import Identity, JobId, SubmissionId

WIRE_VERSION = 1
HEADER = "rg"
Headers = Iterable[tuple[str, bytes | None]]
"""Kafka allows a header without a value. None of ours is one."""


HeaderMap = Mapping[str, bytes | None]
_NAMES_SHOWN = 20
_NEXT_VERSIONS = 8
"""How many versions above ours count as those of later releases. Anything beyond is garbage."""

_IDENTITY = struct.Struct(">B16s8sH")
_VERSION = struct.Struct(">H")
IDENTITY_BYTES = _IDENTITY.size


@lru_cache(maxsize=4096)
def pack_identity(owner: Identity) -> bytes:
    """Return 27 bytes: wire version, job id, submission, job version."""
    job = bytes.fromhex(owner.job_id.replace("-", ""))
    return _IDENTITY.pack(WIRE_VERSION, job, bytes.fromhex(owner.submission), owner.version)


@lru_cache(maxsize=4096)
def unpack_identity(data: bytes) -> Identity:
    """Read what pack_identity() wrote; raise NewerRecord for one of the next wire versions, WireError for anything else."""
    if len(data) >= IDENTITY_BYTES and WIRE_VERSION < data[0] <= WIRE_VERSION + _NEXT_VERSIONS:
        raise NewerRecord(
            f"the record has wire version {data[0]}, and this release reads version {WIRE_VERSION}: upgrade this service"
        )
    if len(data) != IDENTITY_BYTES or data[0] != WIRE_VERSION:
        shown = data[: IDENTITY_BYTES + 1].hex()
        raise WireError(f"header {HEADER!r} is {shown}: expected {IDENTITY_BYTES} bytes of version {WIRE_VERSION}")
    _, job, submission, version = _IDENTITY.unpack(data)
    if version == 0:
        raise WireError(f"header {HEADER!r} is of version 0 of a job; versions count from 1")
    text = job.hex()
    job_id = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return Identity(JobId(job_id), SubmissionId(submission.hex()), version)


def belongs_to(owner: Identity, *, any_version: bool = False) -> Callable[[Headers], bool]:
    """Return what tells by its headers whether a record is of this job, submission and version, or of any version."""
    mine = pack_identity(owner)
    prefix = mine[: -_VERSION.size] if any_version else mine
    return lambda headers: (header_map(headers).get(HEADER) or b"").startswith(prefix)


def header_map(headers: Headers) -> HeaderMap:
    """Return the headers by name. The last header of a name counts."""
    return dict(headers)


def required(headers: HeaderMap, name: str) -> bytes:
    """Return the value of a header; raise WireError with its name if it is missing or has none."""
    value = optional(headers, name)
    if value is None:
        raise WireError(f"the record has no header {name!r}; it has {sorted(headers)[:_NAMES_SHOWN]}")
    return value


def optional(headers: HeaderMap, name: str) -> bytes | None:
    """Return the value of a header, None if it is missing; raise WireError if it is there without a value."""
    value = headers.get(name)
    if value is None and name in headers:
        raise WireError(f"header {name!r} has no value")
    return value


def required_text(headers: HeaderMap, name: str) -> str:
    """Return the value of a header as text; raise WireError if it is missing or no UTF-8."""
    try:
        return required(headers, name).decode()
    except UnicodeDecodeError as error:
        raise WireError(f"header {name!r} is no UTF-8: {error}") from error
