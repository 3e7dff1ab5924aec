"""One whole JSON value out of a stream of chunks: small fields, and the elements of an array."""

import json
import re
from typing import Any

from regather.core.errors import BadInput

_IN_STRING = re.compile(rb'["\\]')
_IN_CONTAINER = re.compile(rb'["\[\]{}]')
_AFTER_SCALAR = re.compile(rb"[ \t\r\n,\]}]")


class JsonValueReader:
    """Collects the bytes of one value, at most `limit_bytes` of them; parses nothing until it is complete."""

    def __init__(self, what: str, limit_bytes: int) -> None:
        self._what = what
        self._limit_bytes = limit_bytes
        self._raw = bytearray()
        self._depth = 0
        self._quoted = False
        self._skip = False
        self._scalar = False
        self.complete = False

    def feed(self, data: bytes, at: int) -> int:
        """Read `data` from `at`; the position behind what belongs to the value."""
        start = at
        if not self._raw and not self._scalar:
            self._scalar = data[at] not in b'{["'
        while at < len(data) and not self.complete:
            at = self._within_string(data, at) if self._quoted else self._outside(data, at)
        self._raw += data[start:at]
        if len(self._raw) > self._limit_bytes:
            raise BadInput(f"{self._what} is longer than {self._limit_bytes} bytes", code="field-too-long")
        return at

    def value(self) -> Any:
        """Parse the complete value."""
        try:
            return json.loads(self._raw, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{self._what} is no JSON: {error}", code="json-invalid") from error

    def _outside(self, data: bytes, at: int) -> int:
        if self._scalar:
            after = _AFTER_SCALAR.search(data, at)
            self.complete = after is not None
            return after.start() if after else len(data)
        special = _IN_CONTAINER.search(data, at)
        if special is None:
            return len(data)
        if special.group() == b'"':
            self._quoted = True
        else:
            self._depth += 1 if special.group() in b"{[" else -1
            self.complete = self._depth == 0
        return special.end()

    def _within_string(self, data: bytes, at: int) -> int:
        if self._skip:
            self._skip = False
            return at + 1
        special = _IN_STRING.search(data, at)
        if special is None:
            return len(data)
        if special.group() == b"\\":
            self._skip = True
        else:
            self._quoted = False
            self.complete = self._depth == 0
        return special.end()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")
