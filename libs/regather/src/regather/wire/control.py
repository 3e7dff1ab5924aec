"""Records of the control topic: jobs that ended before all their shards were settled. Workers drop these shards."""

from typing_extensions import TypedDict

from regather.core.model import Identity, JobState
from regather.wire.fields import JsonReader, to_json
from regather.wire.identity import HEADER, Headers, header_map, pack_identity, required, unpack_identity


class _Ended(TypedDict):
    ended: JobState


_read_ended = JsonReader[_Ended](_Ended)
EncodedControl = tuple[list[tuple[str, bytes]], bytes]


def encode_ended(owner: Identity, state: JobState) -> EncodedControl:
    """Return headers and value of the record that says that a job is over."""
    return [(HEADER, pack_identity(owner))], to_json({"ended": state.value})


def decode_ended(headers: Headers, value: bytes | None) -> Identity:
    """Return the identity of the job that is over; raise WireError for any other record."""
    owner = unpack_identity(required(header_map(headers), HEADER))
    _read_ended(value or b"", f"the control record of job {owner.job_id}")
    return owner
