"""Decodes a JSON string (RFC 8259, section 7) that arrives in pieces of any size to UTF-8, resolving escapes."""

import codecs
import re

from regather.core.errors import BadInput

_CONTROL = re.compile(rb"[\x00-\x1f]")
_SIMPLE = {
    ord('"'): b'"',
    ord("\\"): b"\\",
    ord("/"): b"/",
    ord("b"): b"\b",
    ord("f"): b"\f",
    ord("n"): b"\n",
    ord("r"): b"\r",
    ord("t"): b"\t",
}
_UNICODE_ESCAPE_BYTES = 6
_HIGH_SURROGATES, _LOW_SURROGATES = range(0xD800, 0xDC00), range(0xDC00, 0xE000)


class JsonStringReader:
    """Reads from after the opening quote up to and including the closing one.

    `as_it_stands` skips the checks for control characters and invalid UTF-8. The base64 decoder refuses both itself,
    but accepts line breaks, which a shell's `"$(base64 file)"` produces.
    """

    def __init__(self, *, as_it_stands: bool = False) -> None:
        self._as_it_stands = as_it_stands
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._escape = b""
        self._high = 0
        self.closed = False

    def feed(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Read `data` from position `at`; return the text found and the position after the last byte read."""
        found: list[bytes] = []
        quote = at - 1
        while at < len(data) and not self.closed:
            if self._escape:
                at = self._escaped(data, at, found)
                continue
            if quote < at:
                quote = data.find(b'"', at) % (len(data) + 1)  # not found: -1 becomes the end
            at = self._plain(data, at, quote, found)
        return b"".join(found), at

    def _plain(self, data: bytes, at: int, quote: int, found: list[bytes]) -> int:
        backslash = data.find(b"\\", at, quote)
        end = quote if backslash < 0 else backslash
        if end > at:
            found.append(self._checked(data[at:end]))
        if backslash >= 0:
            self._escape = b"\\"
        elif quote < len(data):
            self._close()
        return min(end + 1, len(data))

    def _checked(self, text: bytes) -> bytes:
        self._no_lone_surrogate()
        if self._as_it_stands:
            return text
        wrong = _CONTROL.search(text)
        if wrong:
            raise _invalid(f"a string contains the unescaped control character {wrong.group()!r}")
        try:
            self._utf8.decode(text)
        except UnicodeDecodeError as error:
            raise _invalid(f"a string is not UTF-8: {error.reason}") from error
        return text

    def _close(self) -> None:
        self._no_lone_surrogate()
        self._whole_characters()
        self.closed = True

    def _escaped(self, data: bytes, at: int, found: list[bytes]) -> int:
        self._whole_characters()
        wanted = _UNICODE_ESCAPE_BYTES if (self._escape + data[at : at + 1])[1:2] == b"u" else 2
        part = data[at : at + wanted - len(self._escape)]
        self._escape += part
        if len(self._escape) == wanted:
            found.append(self._unescape(self._escape))
            self._escape = b""
        return at + len(part)

    def _unescape(self, escape: bytes) -> bytes:
        if escape[1:2] == b"u":
            return self._code_unit(escape)
        self._no_lone_surrogate()
        try:
            return _SIMPLE[escape[1]]
        except KeyError:
            raise _invalid(f"{escape.decode(errors='replace')!r} is not a valid escape") from None

    def _code_unit(self, escape: bytes) -> bytes:
        digits = escape[2:]
        if not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
            raise _invalid(f"{escape.decode(errors='replace')!r} is not a valid escape")
        unit = int(digits, 16)
        if unit in _LOW_SURROGATES and self._high:
            code_point = 0x10000 + (self._high - _HIGH_SURROGATES.start << 10) + unit - _LOW_SURROGATES.start
            self._high = 0
            return chr(code_point).encode()
        self._no_lone_surrogate()
        if unit in _HIGH_SURROGATES:
            self._high = unit
            return b""
        if unit in _LOW_SURROGATES:
            raise _invalid(f"\\u{unit:04x} is an unpaired surrogate")
        return chr(unit).encode()

    def _no_lone_surrogate(self) -> None:
        if self._high:
            raise _invalid(f"\\u{self._high:04x} is an unpaired surrogate")

    def _whole_characters(self) -> None:
        try:
            self._utf8.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise _invalid("a string is not UTF-8: its last character is incomplete") from error


def _invalid(why: str) -> BadInput:
    return BadInput(why, code="json-invalid")
