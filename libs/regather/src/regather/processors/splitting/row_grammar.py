r"""Defines where a row of text ends, for cutting a body, for picking rows of a shard, and for parsing.

Outside of quotes LF, CR LF and a lone CR each end a row (CR only where the dialect says so); inside quotes none of them
does. The grammar normalises rows: exactly one LF ends each row, and line ends inside quotes stay as they are. So a
parser that treats LF as the only row end outside of quotes finds the same rows. Comments are dropped, and so are rows
without a byte unless the dialect keeps them.

DuckDB's rule decides when a quote opens a field; it was found by experiment (`docs/decisions/0026-row-ends.md`). A
quote opens at a field's beginning, or after one space there. Then a doubled quote is a quote, spaces may follow the
closing quote, and a quote after those opens again. Any other quote is data. Bytes after a closing quote are not valid
CSV; the row that has them ends as if they were plain, and the parser refuses it.

Why it is fast: most blocks have no quote; then every LF is a row end and rows are only counted. In a large block with
quotes, `quoted_blocks.py` finds all rows up to the first unusual quote at once. The rest, and small blocks, go through
possessive expressions that match many rows at once: the first matches only quoted fields without a quote inside, the
second every field without a line end. Where the second stops, at a line end inside quotes or a malformed field, a third
matches a window of rows one by one. None of them backtracks, so all are linear.
"""

import re
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from regather.core.errors import BadRequest
from regather.processors.splitting.row_packer import NO_ROWS, Rows, join_rows

if TYPE_CHECKING:
    from regather.processors.splitting.quoted_blocks import QuotedBlocks

LARGE_BYTES = 32 * 1024
"""Blocks from this size on are read with arrays, which cost about 0.1 ms for each block; smaller ones gain nothing."""

_LINE = re.compile(rb"[^\r\n]*+(?:\r\n?|\n)")
_LF = 0x0A
_WINDOW_BYTES = 16 * 1024
_EMPTY_LINE = re.compile(rb"\n\n")
_BLANK_LINES = re.compile(rb"^[ \t]*\n", re.MULTILINE)


class Dialect(NamedTuple):
    """What rows look like, and what comes before them."""

    format: str
    quote: str | None = None
    delimiter: str = ","
    comment: str | None = None
    """Rows that begin with this character are dropped."""
    header: bool = False
    """Whether the first row is a header and not data."""
    repeat_header: bool = True
    """Whether each shard begins with the header."""
    skip_rows: int = 0
    """Number of lines before the header to drop."""
    encoding: str = "utf-8"
    cr_ends_rows: bool = False
    keep_empty_rows: bool | None = True
    """Whether empty lines are rows. None: only if the first row has one column, as in DuckDB."""
    blank_rows: bool = True
    """Whether lines of nothing but white space are rows."""


LINES = Dialect("lines")
NDJSON = Dialect("ndjson", keep_empty_rows=False, blank_rows=False)


def csv_dialect(
    delimiter: str = ",",
    *,
    quote: str | None = '"',
    comment: str | None = None,
    header: bool = True,
    repeat_header: bool = True,
    skip_rows: int = 0,
    encoding: str = "utf-8",
) -> Dialect:
    """Return the dialect of CSV (RFC 4180) or a variant; `encoding` is a name that text_decoder.check_encoding() returned.

    BadRequest if delimiter, quote or comment is not a single ASCII character, or equals another of the three.
    """
    taken = "\r\n\0"
    for name, character in (("delimiter", delimiter), ("quote", quote), ("comment", comment)):
        if character is None:
            continue
        if len(character) != 1 or not character.isascii() or character in taken:
            raise BadRequest(
                f"{name} is {character[:20]!r}; it must be one ASCII character, not a line end, and differ from "
                "the other two of delimiter, quote and comment"
            )
        taken += character
    if skip_rows < 0:
        raise BadRequest(f"skip_rows is {skip_rows}; it must be 0 or more")
    return Dialect("csv", quote, delimiter, comment, header, repeat_header, skip_rows, encoding, True, None)


class RowGrammar:
    """Finds the rows of one dialect. Set `keep_empty_rows` to override the dialect once the first row is known.

    Blocks with quotes are read with arrays if they have `large_bytes` or more and NumPy is installed. The rows are the
    same.
    """

    def __init__(self, dialect: Dialect, *, large_bytes: int = LARGE_BYTES) -> None:
        self.keep_empty_rows = bool(dialect.keep_empty_rows)
        self._cr = dialect.cr_ends_rows
        self._blank_rows = dialect.blank_rows
        self._quote = dialect.quote.encode() if dialect.quote else None
        self._comment = dialect.comment.encode() if dialect.comment else None
        self._delimiter = dialect.delimiter.encode()
        self._large_bytes = large_bytes
        self._arrays: QuotedBlocks | None = None
        d, ends = re.escape(self._delimiter), rb"\r\n" if self._cr else rb"\n"
        end = rb"(?:\r\n?|\n)" if self._cr else rb"\n"
        comment = rb"%b[^%b]*+|" % (re.escape(self._comment), ends) if self._comment else b""
        field, one_line = _fields(dialect, d, ends)
        row = rb"%b%b(?:%b%b)*+" % (comment, field, d, field)
        self._rows = re.compile(rb"((?:%b)%b)|[\s\S]++" % (row, end))
        self._first = re.compile(rb"(%b)%b" % (row, end))
        self._simplest = re.compile(_simplest(dialect, d, ends))
        self._simple = re.compile(rb"(?:%b[%b%b])*+" % (one_line, d, ends))
        self._field = re.compile(rb"%b%b" % (field, d))
        self._comments = re.compile(rb"^%b[^\n]*\n" % re.escape(self._comment), re.MULTILINE) if self._comment else None

    def rows(self, block: bytes, *, final: bool = True) -> tuple[Rows, bytes]:
        """Return the complete rows of a block, which must begin with a row, and the bytes that are left.

        `final`: no LF follows that would belong to a CR at the block's end.
        """
        held = b"\r" if self._cr and not final and block.endswith(b"\r") else b""
        if held:
            block = block[:-1]
        if self._quote is None or self._quote not in block:
            end = max(block.rfind(b"\n"), block.rfind(b"\r") if self._cr else -1) + 1
            return self._lines(block[:end] if end < len(block) else block), block[end:] + held
        parts, at = self._at_once(block)
        while at < len(block):
            stop = self._simple_end(block, at)
            if stop > at:
                parts.append(self._lines(block[at:stop]))
            if stop == len(block):
                return join_rows(parts), held
            rows, at = self._window(block, stop)
            if at == stop:
                break
            parts.append(rows)
        return (join_rows(parts) if parts else NO_ROWS), block[at:] + held

    def first_row(self, block: bytes, *, final: bool) -> tuple[bytes | None, int, int]:
        """Return a block's first row with an LF as its end, and where it begins and ends; None if it is incomplete."""
        at = 0
        while (found := self._first.match(block, at)) is not None:
            if found.end() == len(block) and block.endswith(b"\r") and not final:
                break
            if found[1] and not (self._comment and found[1].startswith(self._comment)):
                return found[1] + b"\n", at, found.end()
            at = found.end()
        return None, at, at

    def line_end(self, block: bytes, at: int, *, final: bool) -> int | None:
        """Return where the line that begins at `at` ends, whatever it contains; None if it is incomplete."""
        found = _LINE.match(block, at)
        if found is None or (found.end() == len(block) and block.endswith(b"\r") and not final):
            return None
        return found.end()

    def columns(self, row: bytes) -> int:
        """Return the number of columns of a row."""
        columns, at = 1, 0
        while (field := self._field.match(row, at)) is not None:
            columns, at = columns + 1, field.end()
        return columns

    def _at_once(self, block: bytes) -> tuple[list[Rows], int]:
        """Return the rows that arrays find in a large block, and where they end."""
        if len(block) < self._large_bytes:
            return [], 0
        self._arrays = self._arrays or self._make_arrays()
        if self._arrays is None:
            return [], 0
        end, mask, plain = self._arrays.find(block, empty_rows=self.keep_empty_rows)
        part = block[:end]
        return ([Rows(part, mask or part) if plain else self._lines(part)] if part else []), end

    def _make_arrays(self) -> "QuotedBlocks | None":
        """Return the reader for large blocks, None without NumPy. Imports NumPy when the first large block arrives."""
        try:
            from regather.processors.splitting.quoted_blocks import QuotedBlocks
        except ImportError:
            return None
        assert self._quote is not None
        return QuotedBlocks(self._quote, self._delimiter, cr=self._cr, comments=self._comment is not None)

    def _simple_end(self, block: bytes, at: int) -> int:
        """Return the end of the last row before the first quoted field with a line end."""
        for expression in (self._simplest, self._simple):
            found = expression.match(block, at)
            stop = at if found is None else found.end()
            at = max(at, block.rfind(b"\n", at, stop) + 1, block.rfind(b"\r", at, stop) + 1 if self._cr else 0)
            if stop == len(block):
                break
        return at

    def _window(self, block: bytes, at: int) -> tuple[Rows, int]:
        """Match rows one by one from `at` on, within a window; return them and where they end."""
        stop = at + _WINDOW_BYTES
        if stop < len(block) and self._cr and block[stop - 1 : stop] == b"\r":
            stop += 1
        found = [row for row in self._rows.findall(block, at, stop) if row]
        if not found and stop < len(block):
            found = [row for row in self._rows.findall(block, at) if row]
        at += sum(map(len, found))
        return self._normalised(found), at

    def _normalised(self, rows: list[bytes]) -> Rows:
        data = b"".join(rows)
        before = len(rows)
        if self._cr and b"\r" in data:
            rows = [row if row[-2:-1] != b"\r" and row[-1:] == b"\n" else row.rstrip(b"\r\n") + b"\n" for row in rows]
            before = -1
        if self._comment:
            rows = [row for row in rows if not row.startswith(self._comment)]
        if not self.keep_empty_rows:
            rows = [row for row in rows if row != b"\n"]
        if len(rows) != before:
            data = b"".join(rows)
        if data.count(b"\n") == len(rows):
            return Rows(data, data)
        mask = bytearray(len(data))
        for end in accumulate(map(len, rows)):
            mask[end - 1] = _LF
        return Rows(data, bytes(mask))

    def _lines(self, block: bytes) -> Rows:
        """Return the rows of a block in which no field contains a line end."""
        if b"\r" in block:
            if self._cr:
                block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            elif not self._blank_rows:  # any other CR in JSON is white space, or an error inside a string
                block = block.replace(b"\r\n", b"\n")
        if self._comments is not None:
            block = self._comments.sub(b"", block)
        if not self._blank_rows:
            block = _BLANK_LINES.sub(b"", block)
        elif not self.keep_empty_rows:
            if block.startswith(b"\n"):
                block = block.lstrip(b"\n")
            while _EMPTY_LINE.search(block) is not None:  # several times faster than the expression's own sub()
                block = block.replace(b"\n\n", b"\n")
        return Rows(block, block)


def _simplest(dialect: Dialect, delimiter: bytes, ends: bytes) -> bytes:
    """Return the expression for text in which each pair of quotes encloses a field without quotes and line ends."""
    if dialect.quote is None:
        return b""
    q = re.escape(dialect.quote.encode())
    quoted = rb"%b[^%b\r\n]*+%b" % (q, q, q)
    begins, behind = rb"(?<![^%b%b])" % (delimiter, ends), rb"(?=[%b%b])" % (delimiter, ends)
    return rb"(?:[^%b]*+%b%b(?:%b%b)*+%b)*+(?:[^%b]*+\Z)?" % (q, begins, quoted, delimiter, quoted, behind, q)


def _fields(dialect: Dialect, delimiter: bytes, ends: bytes) -> tuple[bytes, bytes]:
    """Return the expressions for any field, and for a well-formed field without a line end."""
    if dialect.quote is None:
        plain = rb"[^%b%b]*+" % (delimiter, ends)
        return plain, plain
    q, plain = re.escape(dialect.quote.encode()), rb"[^%b%b]*+" % (delimiter, ends)
    before, after = (b"", b"") if dialect.delimiter == " " else (b" ?", b" *+")
    unquoted = rb"(?!%b%b)%b" % (before, q, plain)
    again = q + after + q
    # Written out for speed: most fields begin with neither quote nor space, and few quoted fields contain a quote.
    first = rb"[^%b %b%b]%b" % (q, delimiter, ends, plain)

    def any_of(inside: bytes, behind: bytes) -> bytes:
        quoted = rb"%b%b(?:%b%b)*+%b%b" % (q, inside, again, inside, q, behind)
        spaced = rb"| " + quoted if before else b""
        return rb"(?:%b|%b%b|%b)" % (first, quoted, spaced, unquoted)

    return any_of(rb"[^%b]*+" % q, plain), any_of(rb"[^%b\r\n]*+" % q, after)
