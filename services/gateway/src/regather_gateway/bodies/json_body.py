"""Reads a JSON object with one huge field while it arrives.

    {"shard_size": 1048576, "image_data": "<base64>", "options": {}}      any order, any white space

The huge field is a string (base64, or text that becomes its UTF-8 bytes) or an array. An array becomes NDJSON: each
element on a line of its own, without white space. The other fields are small; each is collected whole and parsed by the
standard library.
"""

import re
from collections.abc import Callable
from typing import Protocol

from regather.core.errors import BadInput
from regather_gateway.bodies.base import MAX_FIELD_BYTES
from regather_gateway.bodies.base64_text import Base64Decoder
from regather_gateway.bodies.json_string import JsonStringReader
from regather_gateway.bodies.json_value import JsonValueReader

MAX_ELEMENT_BYTES = 1024 * 1024
_WHITESPACE = re.compile(rb"[ \t\r\n]*")
_MAX_KEY_BYTES = 256


class _Decoder(Protocol):
    def feed(self, text: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class _Utf8Text:
    def feed(self, text: bytes) -> bytes:
        return text

    def finish(self) -> bytes:
        return b""


class JsonBody:
    """Reads one object. `data_field` names the huge field; with `base64` its value must be a base64 string."""

    content_type: str | None = None

    def __init__(self, data_field: str, *, base64: bool) -> None:
        self.fields: dict[str, object] = {}
        self.data_seen = False
        self._data_field = data_field
        self._base64 = base64
        self._decoder: _Decoder = Base64Decoder(f"field {data_field!r}") if base64 else _Utf8Text()
        self._string = JsonStringReader(as_it_stands=base64)
        self._value = self._key_reader()
        self._key = ""
        self._step: Callable[[bytes, int, list[bytes]], int] = self._object_start
        self._position = 0

    def feed(self, chunk: bytes) -> bytes:
        """Read the next bytes of the request; return the decoded bytes of the huge field among them."""
        found: list[bytes] = []
        at = 0
        try:
            while at < len(chunk):
                at = self._step(chunk, at, found)
        except BadInput as error:
            raise BadInput(f"near byte {self._position + at} of the body: {error}", code=error.code) from error
        self._position += len(chunk)
        return b"".join(found)

    def finish(self) -> bytes:
        """Check that the object is closed."""
        if self._step != self._after_object:
            raise BadInput(f"the JSON object is not closed after {self._position} bytes", code="json-invalid")
        return self._decoder.finish()

    def _object_start(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = _skip(data, at)
        if at < len(data):
            at = _expect(data, at, b"{")
            self._step = self._first_key
        return at

    def _first_key(self, data: bytes, at: int, found: list[bytes]) -> int:
        at = _skip(data, at)
        if data[at : at + 1] == b"}":
            self._step = self._after_object
            return at + 1
        return self._next_key(data, at, found)

    def _next_key(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = _skip(data, at)
        if at < len(data):
            if data[at : at + 1] != b'"':
                raise _unexpected(data, at, "a field's name in quotes")
            self._value = self._key_reader()
            self._step = self._in_key
        return at

    def _in_key(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = self._value.feed(data, at)
        if self._value.complete:
            self._key = self._value.value()
            self._step = self._colon
        return at

    def _colon(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = _skip(data, at)
        if at < len(data):
            at = _expect(data, at, b":")
            self._step = self._any_value
        return at

    def _any_value(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = _skip(data, at)
        if at == len(data):
            return at
        if self._key == self._data_field:
            return self._begin_data(data, at)
        self._value = JsonValueReader(f"field {self._key!r}", MAX_FIELD_BYTES)
        self._step = self._in_field
        return at

    def _begin_data(self, data: bytes, at: int) -> int:
        if self.data_seen:
            raise BadInput(f"field {self._key!r} appears twice in the body; send it once", code="json-invalid")
        self.data_seen = True
        first = data[at : at + 1]
        if first == b'"':
            self._step = self._in_string
        elif first == b"[" and not self._base64:
            self._step = self._first_element
        else:
            wanted = "a base64 string" if self._base64 else "a string or an array"
            raise BadInput(f"field {self._key!r} must be {wanted}", code="field-type")
        return at + 1

    def _in_field(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = self._value.feed(data, at)
        if self._value.complete:
            self.fields[self._key] = self._value.value()
            self._step = self._comma_or_end
        return at

    def _in_string(self, data: bytes, at: int, found: list[bytes]) -> int:
        text, at = self._string.feed(data, at)
        found.append(self._decoder.feed(text))
        if self._string.closed:
            self._step = self._comma_or_end
        return at

    def _first_element(self, data: bytes, at: int, found: list[bytes]) -> int:
        at = _skip(data, at)
        if data[at : at + 1] == b"]":
            self._step = self._comma_or_end
            return at + 1
        return self._next_element(data, at, found)

    def _next_element(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = _skip(data, at)
        if at < len(data):
            self._value = JsonValueReader(f"an element of {self._data_field!r}", MAX_ELEMENT_BYTES)
            self._step = self._in_element
        return at

    def _in_element(self, data: bytes, at: int, found: list[bytes]) -> int:
        at = self._value.feed(data, at)
        if self._value.complete:
            found.append(self._value.text() + b"\n")
            self._step = self._after_element
        return at

    def _after_element(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = _skip(data, at)
        if at == len(data):
            return at
        if data[at : at + 1] == b"]":
            self._step = self._comma_or_end
            return at + 1
        at = _expect(data, at, b",")
        self._step = self._next_element
        return at

    def _comma_or_end(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = _skip(data, at)
        if at == len(data):
            return at
        if data[at : at + 1] == b"}":
            self._step = self._after_object
            return at + 1
        at = _expect(data, at, b",")
        self._step = self._next_key
        return at

    def _after_object(self, data: bytes, at: int, _found: list[bytes]) -> int:
        at = _skip(data, at)
        if at < len(data):
            raise _unexpected(data, at, "nothing after the object")
        return at

    @staticmethod
    def _key_reader() -> JsonValueReader:
        return JsonValueReader("a field's name", _MAX_KEY_BYTES)


def _skip(data: bytes, at: int) -> int:
    found = _WHITESPACE.match(data, at)
    return found.end() if found else at


def _expect(data: bytes, at: int, wanted: bytes) -> int:
    if data[at : at + 1] != wanted:
        raise _unexpected(data, at, wanted.decode())
    return at + 1


def _unexpected(data: bytes, at: int, wanted: str) -> BadInput:
    return BadInput(f"expected {wanted}, found {data[at : at + 1]!r}", code="json-invalid")
