"""What every reader of a request body is: bytes of the request in, bytes of the job's input out."""

from collections.abc import Mapping
from typing import Protocol

MAX_FIELD_BYTES = 64 * 1024
"""A field beside the data (shard_size, options) may be this long."""


class BodyReader(Protocol):
    """Finds the job's input inside a request body that arrives in chunks of any size.

    Never holds more than one chunk of the input. Raises BadInput saying what is wrong and at which byte.
    """

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the request; the bytes of the input that are known now."""

    def finish(self) -> bytes:
        """The request body has ended; what is left of the input."""

    @property
    def fields(self) -> Mapping[str, object]:
        """Fields that stood beside the data, complete after finish()."""

    @property
    def content_type(self) -> str | None:
        """Media type that the body itself gives for the data, if it does."""


class RawBody:
    """The request body is the input."""

    content_type: str | None = None

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}

    def feed(self, chunk: bytes) -> bytes:
        """Pass the chunk on."""
        return chunk

    def finish(self) -> bytes:
        """Nothing was kept."""
        return b""
