"""Records of the control topic: jobs that ended before all their shards were settled. Workers drop these shards."""

import json

from regather.core.errors import WireError
from regather.core.model import Identity, JobState
from regather.wire.identity import HEADER, Headers, header_map, pack_identity, required, unpack_identity

EncodedControl = tuple[list[tuple[str, bytes]], bytes]


def encode_ended(owner: Identity, state: JobState) -> EncodedControl:
    """Return headers and value of the record that says that a job is over."""
    return [(HEADER, pack_identity(owner))], json.dumps({"ended": state.value}).encode()


def decode_ended(headers: Headers, value: bytes | None) -> Identity:
    """Return the identity of the job that is over; raise WireError for any other record."""
    owner = unpack_identity(required(header_map(headers), HEADER))
    try:
        ended = "ended" in json.loads(value or b"")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"a control record cannot be read: {error!r}") from error
    if not ended:
        raise WireError(f"unknown control record {value!r}")
    return owner
