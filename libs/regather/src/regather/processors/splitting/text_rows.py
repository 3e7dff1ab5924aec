"""Cuts text by rows: lines, CSV and NDJSON. It only finds where rows end and parses nothing."""

from collections.abc import Callable, Iterable
from functools import partial

from regather.core.errors import BadInput
from regather.core.sharding import MAX_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.row_grammar import (
    LARGE_BYTES,
    LINES,
    NDJSON,
    Dialect,
    RowGrammar,
    csv_dialect,
)
from regather.processors.splitting.row_packer import RowPacker
from regather.processors.splitting.text_decoder import NotText, TextDecoder

MAX_HEADER_BYTES = 64 * 1024

__all__ = ["LINES", "MAX_HEADER_BYTES", "NDJSON", "Dialect", "TextRowSplitter", "csv_dialect"]


class TextRowSplitter:
    """Cuts text into even shards of whole rows in UTF-8; holds one and a half shards, the current row and chunk.

    One LF ends every row of a shard. `check_header` gets the header in the same form, and may refuse it. BadInput names
    row and byte of the fault: a row that fits no shard, a quote that is open at the end, bytes that are not text.
    `large_bytes`: see RowGrammar.
    """

    def __init__(
        self,
        request: SplitRequest,
        dialect: Dialect = LINES,
        check_header: Callable[[bytes], None] | None = None,
        *,
        large_bytes: int = LARGE_BYTES,
    ) -> None:
        self._dialect = dialect
        self._check_header = check_header
        self._decoder = TextDecoder(dialect.encoding)
        self._grammar = RowGrammar(dialect, large_bytes=large_bytes)
        self._packer = RowPacker(request, dialect.format)
        self._lines_to_skip = dialect.skip_rows
        self._begun = False
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._scan_from_bytes = 1
        """Search for row ends when this many bytes wait: for a row over many chunks, only each time they have doubled."""

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Decode and cut the next bytes of the body; return the pieces that are now complete."""
        self._decode(partial(self._decoder.feed, data))
        return self._scan(final=False) if self._pending_bytes >= self._scan_from_bytes else ()

    def finish(self) -> Iterable[Piece]:
        """Return the last pieces; the last row may lack a line end."""
        self._decode(self._decoder.finish)
        pieces = self._scan(final=True)
        if self._pending_bytes:
            where = self._where()
            self._append(b"\n")
            pieces += self._scan(final=True)
            if self._pending_bytes:
                raise BadInput(f"{where}: a quote is opened and not closed before the end", code="quote-open")
        self._check_begun()
        return [*pieces, *self._packer.finish()]

    def _decode(self, decode: Callable[[], bytes]) -> None:
        """Append decoded text; BadInput for bytes that are not text, after the rows before them are counted."""
        try:
            self._append(decode())
        except NotText as error:
            where = f"byte {error.byte} of the body"
            if error.code != "not-text":
                self._append(error.before)
                self._scan(final=True)
                where = f"row {self._packer.rows}, {where}" if self._begun else where
            raise BadInput(f"{where}: {error.why}", code=error.code) from error

    def _append(self, text: bytes) -> None:
        if text:
            self._pending.append(text)
            self._pending_bytes += len(text)

    def _scan(self, *, final: bool) -> list[Piece]:
        block = b"".join(self._pending)
        before_bytes = len(block)
        pieces: list[Piece] = []
        if not self._begun:
            block = self._begin(block, final=final)
        if self._begun:
            if self._packer.share_end_byte is not None:
                block = self._end_shares(block, pieces)
            rows, block = self._grammar.rows(block, final=final)
            pieces += self._packer.add(rows)
        self._pending, self._pending_bytes = [block] if block else [], len(block)
        self._scan_from_bytes = 2 * len(block) if len(block) == before_bytes else 1
        if len(block) > MAX_SHARD_BYTES:
            raise BadInput(
                f"{self._where()}, has more than {MAX_SHARD_BYTES} bytes; a row is never cut (is a quote left open in it?)",
                code="row-too-large",
            )
        return pieces

    def _end_shares(self, block: bytes, pieces: list[Piece]) -> bytes:
        """Add the rows up to each share's end that has arrived; return the rest of the block."""
        positions = self._decoder.positions(block)
        at = 0
        while (end := self._packer.share_end_byte) is not None and (found := positions.of(end)) is not None:
            stop, whole = found
            rows, rest = self._grammar.rows(block[at:stop], final=False)
            pieces += self._packer.add(rows)
            pieces += self._packer.end_share(at_row_end=whole and not rest)
            at = stop - len(rest)
        return block[at:]

    def _begin(self, block: bytes, *, final: bool) -> bytes:
        """Drop the lines to skip and read the first row; return the rest of the block."""
        at = 0
        while self._lines_to_skip and (end := self._grammar.line_end(block, at, final=final)) is not None:
            at = end
            self._lines_to_skip -= 1
        block = block[at:]
        if self._lines_to_skip:
            return block
        if not self._dialect.header and self._dialect.keep_empty_rows is not None:
            return self._start(b"", block)
        row, begin, end = self._grammar.first_row(block, final=final)
        if self._dialect.header:
            self._check_header_size(len(block) - begin if row is None else len(row))
        if row is None:
            return block[begin:]
        if self._dialect.keep_empty_rows is None:
            self._grammar.keep_empty_rows = self._grammar.columns(row) == 1
        if not self._dialect.header:
            return self._start(b"", block[begin:])
        if self._check_header is not None:
            self._check_header(row)
        return self._start(row if self._dialect.repeat_header else b"", block[end:])

    def _start(self, header: bytes, rest: bytes) -> bytes:
        self._begun = True
        self._packer.begin(header, first_byte=self._decoder.byte_of(rest))
        return rest

    def _check_begun(self) -> None:
        """Refuse a body without rows, except for NDJSON and for CSV with a header, where it is an empty table."""
        if not self._begun and self._lines_to_skip:
            raise BadInput(
                f"the body has no more than the skip_rows={self._dialect.skip_rows} lines", code="empty-body"
            )
        if not self._begun or (self._dialect.blank_rows and not self._dialect.header and not self._packer.rows):
            raise BadInput("the body is empty: there are no rows to cut", code="empty-body")

    def _check_header_size(self, size_bytes: int) -> None:
        if size_bytes > MAX_HEADER_BYTES:
            raise BadInput(
                f"the header has {size_bytes} bytes or more; at most {MAX_HEADER_BYTES}", code="header-too-large"
            )

    def _where(self) -> str:
        row = "the header" if self._dialect.header and not self._begun else f"row {self._packer.rows}"
        return f"{row}, which begins at byte {self._decoder.byte_of(b''.join(self._pending))} of the body"
