"""Cutting a JSON array of any length by its elements, which become NDJSON: one line for each."""

import re
from collections.abc import Iterable

from regather.core.errors import BadInput
from regather.core.sharding import MAX_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.row_packer import RowPacker, Rows

MAX_DEPTH = 32
_WHITESPACE = rb"[ \t\r\n]*+"
_STRING = rb'"(?:[^"\\]++|\\[\s\S])*+"'


def _container(depth: int) -> bytes:
    inner = rb"|" + _container(depth - 1) if depth > 1 else b""
    return rb'[\[{](?:[^\[\]{}"]++|%b%b)*+[\]}]' % (_STRING, inner)


# What stands between the brackets is left to the JSON parser of `process`: here only the end of an element counts.
_ELEMENT = re.compile(
    rb'%b(%b|%b|[^\[\]{},"\s]++)%b([,\]])' % (_WHITESPACE, _STRING, _container(MAX_DEPTH), _WHITESPACE)
)
_EMPTY = re.compile(rb"%b\]" % _WHITESPACE)
_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class JsonArraySplitter:
    """Elements of one array in even shards of NDJSON; holds one and a half shards, an element and the chunk at hand.

    BadInput names the element and the byte: no array, something behind it, an end that is missing, an element that is
    nested deeper than MAX_DEPTH or fits no shard.
    """

    def __init__(self, request: SplitRequest) -> None:
        if request.shards is not None:  # white space and commas go, so the rows' bytes are not known beforehand
            request = SplitRequest(None, request.shards, None, request.content_type)
        self._packer = RowPacker(request, "ndjson")
        self._packer.begin()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._scan_from_bytes = 1
        self._read_bytes = 0
        self._elements = 0
        self._opened = self._closed = False

    def feed(self, data: bytes) -> Iterable[Piece]:
        """See Splitter."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes < self._scan_from_bytes:
            return ()
        return self._scan(b"".join(self._pending))

    def finish(self) -> Iterable[Piece]:
        """See Splitter."""
        pieces = [*self._scan(b"".join(self._pending))]
        if not self._opened:
            raise BadInput("the body is empty: there is no JSON array", code="empty-body")
        if not self._closed:
            raise self._wrong("the array is not closed before the end of the body")
        return [*pieces, *self._packer.finish()]

    def _scan(self, block: bytes) -> Iterable[Piece]:
        at = self._open(block)
        lines: list[bytes] = []
        if self._opened and not self._closed:
            at = self._elements_of(block, at, lines)
        if self._closed:
            at += self._only_white_space(block, at)
        rest = block[at:]
        self._read_bytes += at
        self._pending, self._pending_bytes = [rest], len(rest)
        self._scan_from_bytes = 1 if at else 2 * len(rest) + 1
        if len(rest) > MAX_SHARD_BYTES:
            raise self._wrong(f"it has more than {MAX_SHARD_BYTES} bytes or is nested deeper than {MAX_DEPTH} levels")
        return self._pack(lines)

    def _open(self, block: bytes) -> int:
        if self._opened:
            return 0
        text = block.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
        if not text:
            return 0
        if not text.startswith(b"["):
            raise BadInput(f"the body is no JSON array: it begins with {text[:16]!r}", code="json-invalid")
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
        rest = block[at:].strip(b" \t\r\n")
        if rest:
            raise self._wrong(f"behind the end of the array stands {rest[:16]!r}")
        return len(block) - at

    def _pack(self, lines: list[bytes]) -> Iterable[Piece]:
        data = b"".join(lines)
        return self._packer.add(Rows(data, data))

    def _wrong(self, why: str) -> BadInput:
        where = f"element {self._elements} of the array, near byte {self._read_bytes} of the body"
        return BadInput(f"{where}: {why}", code="json-invalid")
