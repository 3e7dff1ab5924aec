"""Records of the topic `checkpoints`: a job event with one more header."""

from dataclasses import asdict
from typing import NotRequired

from typing_extensions import TypedDict

from regather.core.checkpoint import CheckpointMark
from regather.core.model import Event
from regather.wire.events import EncodedEvent, decode_event, encode_event
from regather.wire.fields import JsonReader, Milliseconds, Natural, to_json
from regather.wire.identity import Headers, header_map, optional

CHECKPOINT_HEADER = "checkpoint"


class _Mark(TypedDict):
    first_offset: Natural
    opened_ms: Milliseconds
    last_sign_ms: Milliseconds
    retries: Natural
    next_offset: NotRequired[Natural | None]


_read_mark = JsonReader[_Mark](_Mark)


def encode_checkpoint(event: Event, mark: CheckpointMark) -> EncodedEvent:
    """Return headers and value of one record of a checkpoint."""
    headers, value = encode_event(event)
    return [*headers, (CHECKPOINT_HEADER, to_json(asdict(mark)))], value


def decode_checkpoint(headers: Headers, value: bytes | None) -> tuple[Event, CheckpointMark] | None:
    """Read what encode_checkpoint() wrote; None for a record without a mark. Raise WireError for anything else."""
    marked = optional(header_map(headers), CHECKPOINT_HEADER)
    if marked is None:
        return None
    mark = CheckpointMark(**_read_mark(marked, f"header {CHECKPOINT_HEADER!r}"))
    return decode_event(headers, value), mark
