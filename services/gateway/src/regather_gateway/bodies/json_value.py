"""Collects one whole JSON value from a stream of chunks: a small field, or an element of an array."""

import json
import math
import re
from typing import Any

from regather.core.errors import BadInput

_IN_STRING = re.compile(rb'["\\]')
_IN_CONTAINER = re.compile(rb'["\[\]{}]')
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[ \t\r\n]+')
_MOST_DIGITS = 4_000
_SHOWN_CHARS = 40
_AFTER_SCALAR = re.compile(rb"[ \t\r\n,\]}]")


class JsonValueReader:
    """Collects the bytes of one value, at most `limit_bytes`, and parses them only when the value is complete."""

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
        """Read `data` from position `at`; return the position after the last byte of the value."""
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
        """Return the complete value, parsed; BadInput for invalid JSON, numbers too large and unpaired surrogates."""
        return self._parsed()[1]

    def text(self) -> bytes:
        """Return the complete value's own text in UTF-8 without white space and escapes, with its numbers unchanged."""
        text, _ = self._parsed()
        return _TOKEN.sub(_plain, text).encode()

    def _parsed(self) -> tuple[str, Any]:
        try:
            text = self._raw.decode()
            value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
            if "\\u" in text:
                json.dumps(value, ensure_ascii=False).encode()
        except UnicodeDecodeError as error:
            raise BadInput(f"{self._what} is not valid UTF-8 at its byte {error.start}", code="json-invalid") from error
        except UnicodeEncodeError as error:
            raise BadInput(f"{self._what} contains an unpaired surrogate", code="json-invalid") from error
        except RecursionError as error:
            raise BadInput(f"{self._what} is nested too deeply", code="json-invalid") from error
        except ValueError as error:
            raise BadInput(f"{self._what} is not valid JSON: {error}", code="json-invalid") from error
        return text, value

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


def _finite(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise ValueError(f"{_short(literal)} is too large for a double")
    return number


def _whole(literal: str) -> int:
    if len(literal) > _MOST_DIGITS:
        raise ValueError(f"{_short(literal)} has {len(literal)} digits; at most {_MOST_DIGITS} are allowed")
    return int(literal)


def _short(literal: str) -> str:
    return literal if len(literal) <= _SHOWN_CHARS else f"{literal[:_SHOWN_CHARS]}..."


def _plain(token: re.Match[str]) -> str:
    """Return a string token with its escapes resolved, and nothing for white space."""
    text = token[0]
    if not text.startswith('"'):
        return ""
    return json.dumps(json.loads(text), ensure_ascii=False) if "\\" in text else text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")
