"""Records of the topic `checkpoints`: a job event with one more header."""

import json
from dataclasses import asdict

from regather.core.checkpoint import CheckpointMark
from regather.core.errors import WireError
from regather.core.model import Event
from regather.wire.events import EncodedEvent, decode_event, encode_event
from regather.wire.identity import Headers, header_map

CHECKPOINT_HEADER = "checkpoint"


def encode_checkpoint(event: Event, mark: CheckpointMark) -> EncodedEvent:
    """Return headers and value of one record of a checkpoint."""
    headers, value = encode_event(event)
    return [*headers, (CHECKPOINT_HEADER, json.dumps(asdict(mark), separators=(",", ":")).encode())], value


def decode_checkpoint(headers: Headers, value: bytes | None) -> tuple[Event, CheckpointMark] | None:
    """Read what encode_checkpoint() wrote; None for a record without a mark. Raise WireError for anything else."""
    marked = header_map(headers).get(CHECKPOINT_HEADER)
    if marked is None:
        return None
    try:
        mark = CheckpointMark(**json.loads(marked))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"header {CHECKPOINT_HEADER!r} cannot be read: {error!r}") from error
    return decode_event(headers, value), mark
