"""The types of the fields of our records, each with its range, and the strict reading of JSON by them.

Anybody who may write to a topic can write anything there. So each record is checked here, once, field by field: a
missing field, another type, or a number out of range is a WireError. The code behind the wire relies on it, and has no
checks of its own. Fields that this version does not know are ignored, so that a later one can add some.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from regather.core.errors import WireError
from regather.core.model import Reason

T = TypeVar("T")

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: no calendar of Python goes further."""

MAX_I64 = 2**63 - 1

U32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""A sequence number, or a number of shards or of milliseconds that a binary header has to hold, too."""

Natural = Annotated[int, Field(ge=0, le=MAX_I64)]
"""Any other count or size, and offsets: Kafka's own limit."""

Milliseconds = Annotated[int, Field(ge=0, le=MAX_MS)]
"""A moment, in milliseconds since 1970."""

PartitionNumber = Annotated[int, Field(ge=0, le=2**31 - 1)]
TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
"""A name that Kafka accepts. A client that asks for another topic waits for it until a time-out."""

Name = Annotated[str, Field(max_length=1_000)]
"""A text that statuses repeat: they have to fit into their topic."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Place = tuple[TopicName, PartitionNumber, Natural]
Letter = tuple[PartitionNumber, Natural]
"""Partition and offset of a dead letter."""


class AttemptDocument(TypedDict):
    """One failed attempt."""

    attempt: U32
    reason: Reason
    error: str
    worker: str
    started_ms: Milliseconds
    duration_ms: Natural


class JsonReader(Generic[T]):
    """Reads JSON of one shape, strictly: no text for a number, no 1.0 for an integer, no true for 1."""

    def __init__(self, shape: Any) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(shape)

    def __call__(self, data: bytes | str, what: str) -> T:
        """Return the value; raise WireError, which says of `what` which field is wrong."""
        try:
            return self._adapter.validate_json(data, strict=True)
        except ValidationError as error:
            raise WireError(f"{what} cannot be read: {first_error(error)}") from None


def first_error(error: ValidationError) -> str:
    """Return the first of the errors as `place: message`, without the input: that may be large, and secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def to_json(document: Mapping[str, object] | list[Any]) -> bytes:
    """Return compact JSON in UTF-8. A lone surrogate becomes a question mark: no reader would accept it."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
