"""Records of the control topic: which jobs ended before all their shards were settled, so that nobody works for them."""

import json

from regather.core.errors import WireError
from regather.core.model import Identity, JobState
from regather.wire.identity import HEADER, Headers, header_map, pack_identity, required, unpack_identity

EncodedControl = tuple[list[tuple[str, bytes]], bytes]


def encode_ended(owner: Identity, state: JobState) -> EncodedControl:
    """Headers and value of the word that a job is over."""
    return [(HEADER, pack_identity(owner))], json.dumps({"ended": state.value}).encode()


def decode_ended(headers: Headers, value: bytes | None) -> Identity:
    """Return whose job is over; WireError for any other record."""
    owner = unpack_identity(required(header_map(headers), HEADER))
    try:
        ended = "ended" in json.loads(value or b"")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"a control record cannot be read: {error!r}") from error
    if not ended:
        raise WireError(f"unknown control record {value!r}")
    return owner
