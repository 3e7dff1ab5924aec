"""The interface of a body reader: it turns the bytes of a request into the bytes of the job's input."""

from collections.abc import Mapping
from typing import Protocol

MAX_FIELD_BYTES = 64 * 1024
"""Longest field besides the data, such as shard_size or options."""


class BodyReader(Protocol):
    """Finds the job's input inside a request body that arrives in chunks of any size.

    Never holds more than one chunk of the input. Raises BadInput for a malformed body.
    """

    def feed(self, chunk: bytes) -> bytes:
        """Read the next bytes of the request; return the bytes of the input found so far and not returned yet."""

    def finish(self) -> bytes:
        """Check that the request body is complete; return the rest of the input."""

    @property
    def fields(self) -> Mapping[str, object]:
        """The other fields of the body, complete after finish()."""

    @property
    def content_type(self) -> str | None:
        """Media type of the data as stated inside the body; None if it states none."""
