"""Cutting text by rows: lines, CSV (RFC 4180) and NDJSON. Only the ends of rows are looked for; nothing is parsed."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import MAX_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.row_packer import RowPacker

MAX_HEADER_BYTES = 64 * 1024
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_LINE = rb"[^\n]*+"


class Dialect(NamedTuple):
    """How a row looks. `row` matches one without its line end, which is LF or CRLF."""

    format: str
    row: bytes = _LINE
    header: bool = False


LINES = Dialect("lines")
NDJSON = Dialect("ndjson")


def csv_dialect(delimiter: str = ",", *, header: bool = True) -> Dialect:
    """CSV as RFC 4180 has it: a quote opens a field only at its beginning, and is doubled inside.

    BadRequest for a delimiter that is no single ASCII character, or one that CSV itself needs.
    """
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise BadRequest(f"delimiter is {delimiter!r}; it must be one ASCII character, no quote and no line end")
    d = re.escape(delimiter.encode())
    field = rb'(?:"(?:[^"]++|"")*+"[^%b\n]*+|[^"%b\n][^%b\n]*+|)' % (d, d, d)
    return Dialect("csv", rb"%b(?:%b%b)*+" % (field, d, field), header)


class TextRowSplitter:
    """Whole rows of text in even shards; holds one and a half shards, the row at hand and the chunk at hand.

    A byte order mark is left out. `check_header` may refuse the header. BadInput says row and byte: a row that fits no
    shard, an open quote at the end, bytes that are no UTF-8.
    """

    def __init__(
        self, request: SplitRequest, dialect: Dialect = LINES, check_header: Callable[[bytes], None] | None = None
    ) -> None:
        self._dialect = dialect
        self._check_header = check_header
        # The second branch takes what is no whole row (yet), so that the search never begins inside a row.
        self._rows = re.compile(rb"(%b\n)|[\s\S]++" % dialect.row)
        self._packer = RowPacker(request, dialect.format)
        self._begun = False
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._scan_from_bytes = len(_BOM)
        self._read_bytes = 0
        self._read_rows = 0

    def feed(self, data: bytes) -> Iterable[Piece]:
        """See Splitter."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes < self._scan_from_bytes:  # else a row over many chunks would be searched again each time
            return ()
        return self._scan(b"".join(self._pending))

    def finish(self) -> Iterable[Piece]:
        """See Splitter."""
        pieces = [*self._scan(b"".join(self._pending))]
        rest = b"".join(self._pending)
        if rest:
            if re.fullmatch(self._dialect.row, rest) is None:
                where = f"row {self._read_rows}, which begins at byte {self._read_bytes} of the body"
                raise BadInput(f"{where}: a quote is opened and not closed before the end", code="quote-open")
            pieces += self._take(rest + b"\n", [len(rest) + 1])
        elif not self._begun:
            self._packer.begin()
        return [*pieces, *self._packer.finish()]

    def _scan(self, block: bytes) -> Iterable[Piece]:
        if not self._read_bytes:
            block = self._without_bom(block)
        ends = [row.end() for row in self._rows.finditer(block) if row.lastindex]
        done = ends[-1] if ends else 0
        rest = block[done:]
        self._pending, self._pending_bytes = [rest], len(rest)
        self._scan_from_bytes = 1 if ends else 2 * len(rest)
        if len(rest) > MAX_SHARD_BYTES:
            where = f"row {self._read_rows + len(ends)}, which begins at byte {self._read_bytes + done} of the body,"
            raise BadInput(
                f"{where} has more than {MAX_SHARD_BYTES} bytes; a row is never cut (is a quote left open in it?)",
                code="row-too-large",
            )
        return self._take(block[:done], ends) if ends else ()

    def _take(self, rows: bytes, ends: list[int]) -> Iterable[Piece]:
        """Pass on whole rows; the first one may be the header."""
        self._read_bytes += len(rows)
        self._read_rows += len(ends)
        if self._begun:
            return self._packer.add(rows, ends)
        self._begun = True
        header = rows[: ends[0]] if self._dialect.header else b""
        if len(header) > MAX_HEADER_BYTES:
            raise BadInput(f"the header has {len(header)} bytes; at most {MAX_HEADER_BYTES}", code="header-too-large")
        if header and self._check_header is not None:
            self._check_header(header)
        self._packer.begin(header, before_bytes=self._read_bytes - len(rows) + len(header))
        skip = len(header)
        return self._packer.add(rows[skip:], [end - skip for end in ends if end > skip])

    def _without_bom(self, block: bytes) -> bytes:
        other = _OTHER_BOMS.get(block[:2])
        if other is not None:
            raise BadInput(f"byte 0: the body is {other}; convert it to UTF-8", code="not-utf8")
        if not block.startswith(_BOM):
            return block
        self._read_bytes += len(_BOM)
        return block[len(_BOM) :]
