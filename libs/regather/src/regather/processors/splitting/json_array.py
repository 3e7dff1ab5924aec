"""Cuts a JSON array of any length into its elements, which become NDJSON: one line for each element.

One possessive expression finds where elements end, so the time is linear. What is inside an element is checked later,
by the parser of `process`, whose row number is the element's number. Where the expression finds no element, _fault()
says whether more bytes are needed or what is wrong.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial

from regather.core.errors import BadInput
from regather.core.sharding import MAX_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.row_packer import RowPacker, Rows
from regather.processors.splitting.text_decoder import UTF8, NotText, TextDecoder

MAX_DEPTH = 64
_WHITESPACE = rb"[ \t\r\n]*+"
_TEXT = rb'"(?:[^"\\\r\n]++|\\[^\r\n])*+'  # JSON allows no line end in a string, so one must not become a space
_STRING = _TEXT + rb'"'
_SCALAR = rb'[^\[\]{},:"\s]++'


def _container(depth: int) -> bytes:
    inner = rb"|" + _container(depth - 1) if depth > 1 else b""
    return rb'[\[{](?:[^\[\]{}"]++|%b%b)*+[\]}]' % (_STRING, inner)


_VALUE = re.compile(rb"%b|%b|%b" % (_STRING, _container(MAX_DEPTH), _SCALAR))
_ELEMENT = re.compile(rb"%b(%b)%b([,\]])" % (_WHITESPACE, _VALUE.pattern, _WHITESPACE))
_EMPTY = re.compile(rb"%b\]" % _WHITESPACE)
_SPACE = re.compile(_WHITESPACE)
_TOKEN = re.compile(rb'%b|([\[{])|([\]}])|%b([\r\n]|\Z)|"' % (_STRING, _TEXT))
_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class JsonArraySplitter:
    """Cuts one array into even shards of NDJSON; holds one and a half shards, one element and the current chunk.

    An array without elements becomes one shard of zero rows. BadInput names the element, the byte and what is wrong
    there.
    """

    def __init__(self, request: SplitRequest, encoding: str = UTF8) -> None:
        if request.shards is not None:  # white space and commas are dropped, so the rows' size is not known beforehand
            request = SplitRequest(None, request.shards, None, request.content_type)
        self._packer = RowPacker(request, "ndjson")
        self._packer.begin()
        self._decoder = TextDecoder(encoding)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._scan_from_bytes = 1
        self._elements = 0
        self._opened = self._closed = False

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Decode and cut the next bytes of the body; return the pieces that are now complete."""
        self._decode(partial(self._decoder.feed, data))
        return self._scan(final=False) if self._pending_bytes >= self._scan_from_bytes else ()

    def finish(self) -> Iterable[Piece]:
        """Check that the array is closed and return the last pieces."""
        self._decode(self._decoder.finish)
        pieces = self._scan(final=True)
        if not self._opened:
            raise BadInput("the body is empty: there is no JSON array", code="empty-body")
        if not self._closed:
            raise self._wrong(b"", "the body ends here, but the array is not closed")
        return [*pieces, *self._packer.finish()]

    def _decode(self, decode: Callable[[], bytes]) -> None:
        try:
            self._append(decode())
        except NotText as error:
            where = f"byte {error.byte} of the body"
            if error.code != "not-text":
                self._append(error.before)
                self._scan(final=False)
                where = f"element {self._elements} of the array, {where}"
            raise BadInput(f"{where}: {error.why}", code=error.code) from error

    def _append(self, text: bytes) -> None:
        if text:
            self._pending.append(text)
            self._pending_bytes += len(text)

    def _scan(self, *, final: bool) -> list[Piece]:
        block = b"".join(self._pending)
        at = self._open(block)
        lines: list[bytes] = []
        if self._opened and not self._closed:
            at = self._elements_of(block, at, lines)
        if self._closed:
            at += self._only_white_space(block, at)
        rest = block[at:]
        if self._opened and not self._closed:
            self._check(rest, thorough=final or len(rest) > MAX_SHARD_BYTES)
        self._pending, self._pending_bytes = [rest] if rest else [], len(rest)
        self._scan_from_bytes = 1 if at else 2 * len(rest) + 1
        data = b"".join(lines)
        return self._packer.add(Rows(data, data))

    def _open(self, block: bytes) -> int:
        if self._opened:
            return 0
        text = block.lstrip(b" \t\r\n")
        if not text:
            return 0
        if not text.startswith(b"["):
            raise BadInput(f"the body is not a JSON array: it begins with {text[:16]!r}", code="json-invalid")
        self._opened = True
        return len(block) - len(text) + 1

    def _elements_of(self, block: bytes, at: int, lines: list[bytes]) -> int:
        empty = _EMPTY.match(block, at) if not self._elements else None
        if empty is not None:
            self._closed = True
            return empty.end()
        while (found := _ELEMENT.match(block, at)) is not None:
            lines.append(found[1].translate(_TO_SPACES) + b"\n")
            at = found.end()
            self._elements += 1
            if found[2] == b"]":
                self._closed = True
                break
        return at

    def _only_white_space(self, block: bytes, at: int) -> int:
        rest = block[at:].lstrip(b" \t\r\n")
        if rest:
            where = f"byte {self._decoder.byte_of(rest)} of the body"
            raise BadInput(f"{where}: after the end of the array follows {rest[:16]!r}", code="json-invalid")
        return len(block) - at

    def _check(self, rest: bytes, *, thorough: bool) -> None:
        fault = _fault(rest, first=not self._elements, thorough=thorough)
        if fault is not None:
            at, why = fault
            raise self._wrong(rest[at:], why)
        if len(rest) > MAX_SHARD_BYTES:
            raise self._wrong(
                rest, f"it has more than {MAX_SHARD_BYTES} bytes (is a quote or a bracket left open in it?)"
            )

    def _wrong(self, tail: bytes, why: str) -> BadInput:
        where = f"element {self._elements} of the array, byte {self._decoder.byte_of(tail)} of the body"
        return BadInput(f"{where}: {why}", code="json-invalid")


def _fault(rest: bytes, *, first: bool, thorough: bool) -> tuple[int, str] | None:
    """Return where no element was found, and why not; None if more bytes may complete an element.

    `rest` begins after the bracket or comma before the element. `thorough`: also look inside an incomplete element, for
    nesting and line ends, which takes longer.
    """
    at = _behind_space(rest, 0)
    head = rest[at : at + 1]
    if not head:
        return None
    if head == b"]":
        return at, "the array is closed after a comma; an element is missing, or the comma is one too many"
    if head == b",":
        return at, "the array begins with a comma" if first else "there is no element between two commas"
    if head in b"}:":
        return at, f"found {head.decode()!r} where an element should begin"
    value = _VALUE.match(rest, at)
    if value is None:
        return _fault_inside(rest, at) if thorough else None
    behind = _behind_space(rest, value.end())
    head = rest[behind : behind + 1]
    if not head:
        return None
    return behind, f"a comma or the array's end is missing before {rest[behind : behind + 16]!r}"


def _behind_space(rest: bytes, at: int) -> int:
    found = _SPACE.match(rest, at)
    return at if found is None else found.end()


def _fault_inside(rest: bytes, at: int) -> tuple[int, str] | None:
    depth = 0
    for token in _TOKEN.finditer(rest, at):
        depth += (token[1] is not None) - (token[2] is not None)
        if depth > MAX_DEPTH:
            return token.start(), f"it is nested deeper than {MAX_DEPTH} levels"
        if token[3]:
            return token.end() - 1, "there is a line end inside a string; JSON writes it as \\n"
        if token[3] is not None:
            return None  # the body ends inside a string
    return None
