"""The `rg` header: wire version and identity, the same on every record."""

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from regather.core.errors import WireError
from regather.core.model import Identity, JobId, SubmissionId

WIRE_VERSION = 1
HEADER = "rg"
Headers = Iterable[tuple[str, bytes]]

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
    """Read what pack_identity() wrote; raise WireError for another wire version or length."""
    if len(data) != IDENTITY_BYTES or data[0] != WIRE_VERSION:
        raise WireError(f"header {HEADER!r} is {data.hex()}: expected {IDENTITY_BYTES} bytes of version {WIRE_VERSION}")
    _, job, submission, version = _IDENTITY.unpack(data)
    text = job.hex()
    job_id = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return Identity(JobId(job_id), SubmissionId(submission.hex()), version)


def belongs_to(owner: Identity, *, any_version: bool = False) -> Callable[[Headers], bool]:
    """Return what tells by its headers whether a record is of this job, submission and version, or of any version."""
    mine = pack_identity(owner)
    prefix = mine[: -_VERSION.size] if any_version else mine
    return lambda headers: header_map(headers).get(HEADER, b"").startswith(prefix)


def header_map(headers: Headers) -> Mapping[str, bytes]:
    """Return the headers by name. The last header of a name counts."""
    return dict(headers)


def required(headers: Mapping[str, bytes], name: str) -> bytes:
    """Return the value of a header; raise WireError with its name if it is missing."""
    try:
        return headers[name]
    except KeyError:
        raise WireError(f"the record has no header {name!r}; it has {sorted(headers)}") from None
