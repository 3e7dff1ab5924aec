"""Where a row of CSV ends: cutting, an independent reader, Python's csv and DuckDB agree, at every cut and chunk."""

import csv
import io
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

import duckdb
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from reference.csv_rows import MALFORMED, Reader

from regather.core.errors import BadInput
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting import row_grammar
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.shard_rows import TextRows
from regather.processors.splitting.text_rows import TextRowSplitter, csv_dialect

CUTS = st.lists(st.integers(0, 20_000), max_size=12)
FIELDS = st.sampled_from(
    [
        *["a", "bc", "", " ", '""', '"d"', '"e,f;g|h\ti"', '"j\nk"', '"l\r\nm"', '"n\ro"', '"p""q"', '5" pipe'],
        *[' "r"', '  "s"', '"t" ', '"u" "v"', '"w"x', '"#"', "#", "é", "漢"],
    ]
)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\r\n", "\n#c\n", '\r\n# it\'s 5" wide, "so\r\n'])
DELIMITERS = st.sampled_from([",", ";", "\t", "|", " "])
ANYTHING = st.text(st.sampled_from('ab,; "\n\r#'), max_size=60)


@st.composite
def files(draw: st.DrawFn, width: int | None = None) -> tuple[str, str]:
    """A delimiter and a file of it, as people have them and as they should not."""
    delimiter = draw(DELIMITERS)
    columns = width or draw(st.integers(1, 4))
    row = st.lists(FIELDS, min_size=columns, max_size=columns).map(delimiter.join)
    rows = draw(st.lists(st.tuples(row, LINE_ENDS), max_size=12))
    names = delimiter.join(f"name{index}" for index in range(columns))
    text = names + draw(LINE_ENDS) + "".join(text + end for text, end in rows) * draw(st.sampled_from([1, 9]))
    return delimiter, text[: len(text) - draw(st.integers(0, 2))]


def pieces_of(body: bytes, dialect: row_grammar.Dialect, cuts: Sequence[int], request: SplitRequest) -> list[Piece]:
    """The shards, cut by arrays; expressions alone give the same ones."""
    by_arrays = cut(TextRowSplitter(request, dialect, large_bytes=1), body, cuts)
    assert cut(TextRowSplitter(request, dialect, large_bytes=sys.maxsize), body, cuts) == by_arrays
    return by_arrays


def cut(splitter: TextRowSplitter, body: bytes, cuts: Sequence[int]) -> list[Piece]:
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    pieces: list[Piece] = []
    for start, end in pairwise(edges):
        pieces += splitter.feed(body[start:end])
    return [*pieces, *splitter.finish()]


def outcome(
    body: bytes, dialect: row_grammar.Dialect, cuts: Sequence[int], request: SplitRequest
) -> tuple[list[Piece] | None, str]:
    """The shards, or why there are none."""
    try:
        return pieces_of(body, dialect, cuts, request), ""
    except BadInput as error:
        return None, str(error)


def read_again(pieces: Sequence[Piece], dialect: row_grammar.Dialect, *, one_column: bool) -> list[list[str]]:
    """The rows of all shards, after a check that the numbers and the picked rows are true."""
    rows: list[list[str]] = []
    for piece in pieces:
        span = RowSpan.decode(piece.meta)
        assert span.row0 == len(rows)
        text = piece.payload[span.header_bytes :].decode()
        reader = Reader(text, dialect.delimiter, dialect.quote or "").read(keep_empty=one_column)
        assert span.rows == len(reader.rows)
        rows += reader.rows
        picked = TextRows(piece.payload, span, dialect)
        assert picked.numbers == range(span.row0, span.row0 + span.rows)
        if span.rows:
            single = [picked.pick([range(row, row + 1)]).payload[span.header_bytes :] for row in picked.numbers]
            assert b"".join(single) == piece.payload[span.header_bytes :]
    return rows


@given(files(), CUTS, st.sampled_from([None, 1024]), st.booleans(), st.sampled_from(["", "#"]))
@example((",", 'a,b\r\n"\r\n'), [6], None, True, "")
def test_the_rows_are_those_of_an_independent_reader(
    file: tuple[str, str], cuts: list[int], size: int | None, repeat: bool, comment: str
) -> None:
    delimiter, text = file
    check(text, delimiter, comment, cuts, SplitRequest(size), repeat=repeat)


@given(ANYTHING, CUTS, st.sampled_from(["", "#"]), st.sampled_from([",", " "]))
def test_any_text_has_the_rows_of_an_independent_reader(
    text: str, cuts: list[int], comment: str, delimiter: str
) -> None:
    check(text, delimiter, comment, cuts, SplitRequest(), repeat=False)


def check(text: str, delimiter: str, comment: str, cuts: list[int], request: SplitRequest, *, repeat: bool) -> None:
    dialect = csv_dialect(delimiter, comment=comment or None, repeat_header=repeat)
    wanted = Reader(text, delimiter, comment=comment).read()
    body = text.encode()
    if wanted.open_at is not None or not wanted.rows:
        with pytest.raises(BadInput) as refusal:
            pieces_of(body, dialect, cuts, request)
        begins = len(text[: wanted.open_at].encode())
        where = f"row {len(wanted.rows) - 1}" if wanted.rows else "the header"
        assert str(refusal.value).startswith(
            f"{where}, which begins at byte {begins} of" if wanted.open_at is not None else "the body is empty"
        )
        return
    pieces = pieces_of(body, dialect, cuts, request)
    assert pieces == pieces_of(body, dialect, [], request)
    assert read_again(pieces, dialect, one_column=len(wanted.rows[0]) == 1) == wanted.rows[1:]
    header = pieces[0].payload[: RowSpan.decode(pieces[0].meta).header_bytes]
    assert [*Reader(header.decode(), delimiter).read().rows] == (wanted.rows[:1] if repeat else [])


@given(files(), CUTS, st.integers(1, 5), st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "gb18030"]))
def test_a_number_of_shards_does_not_depend_on_chunks(
    file: tuple[str, str], cuts: list[int], shards: int, encoding: str
) -> None:
    delimiter, text = file
    body = text.encode(encoding)
    dialect = csv_dialect(delimiter, encoding=encoding)
    request = SplitRequest(shards=shards, size_bytes=len(body))
    whole, refused = outcome(body, dialect, [], request)
    assert outcome(body, dialect, cuts, request) == (whole, refused)
    if whole is None:
        return
    wanted = Reader(text, delimiter).read()
    rows = read_again(whole, dialect, one_column=len(wanted.rows[0]) == 1)
    assert len(whole) == shards or not rows
    assert rows == wanted.rows[1:]


@given(files(), CUTS, st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "gb18030", "utf-32"]))
def test_an_encoding_changes_no_row(file: tuple[str, str], cuts: list[int], encoding: str) -> None:
    delimiter, text = file
    assume(Reader(text, delimiter).read().open_at is None)
    plain = pieces_of(text.encode(), csv_dialect(delimiter), [], SplitRequest(1024))
    named = "utf-8" if encoding in ("utf-8-sig", "utf-16", "utf-32") else encoding  # the byte order mark says it
    assert pieces_of(text.encode(encoding), csv_dialect(delimiter, encoding=named), cuts, SplitRequest(1024)) == plain


def duckdb_rows(payload: bytes, columns: int, delimiter: str) -> list[list[str]] | None:
    """What DuckDB reads, None if it refuses."""
    file = os.memfd_create("rows")
    try:
        os.write(file, payload)
        found = duckdb.read_csv(
            f"/proc/self/fd/{file}",
            header=False,
            delimiter=delimiter,
            quotechar='"',
            escapechar='"',
            lineterminator=r"\n",
            columns={f"c{index}": "VARCHAR" for index in range(columns)},
            auto_detect=False,
            strict_mode=True,
        ).fetchall()
    except (duckdb.InvalidInputException, duckdb.ConversionException):
        return None
    finally:
        os.close(file)
    return [[value or "" for value in row] for row in found]


@given(files())
def test_duckdb_reads_the_same_rows(file: tuple[str, str]) -> None:
    delimiter, text = file
    dialect = csv_dialect(delimiter, repeat_header=False)
    wanted = Reader(text, delimiter).read()
    assume(wanted.open_at is None)
    columns = len(wanted.rows[0])
    for piece, row0 in with_first_rows(pieces_of(text.encode(), dialect, [], SplitRequest(1024))):
        rows = wanted.rows[1 + row0 : 1 + row0 + RowSpan.decode(piece.meta).rows]
        read = duckdb_rows(piece.payload, columns, delimiter)
        if any(MALFORMED in row for row in rows):
            assert read is None
        elif read is not None:
            assert [row[:columns] for row in rows] == read  # DuckDB leaves out empty fields behind the last column
            assert not any(any(row[columns:]) for row in rows)
        else:
            assert any(len(row) != columns for row in rows)


def with_first_rows(pieces: Sequence[Piece]) -> list[tuple[Piece, int]]:
    return [(piece, RowSpan.decode(piece.meta).row0) for piece in pieces]


CELLS = st.text(st.sampled_from('ab,;"\n\r é#'), max_size=6)


@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=30),
    st.sampled_from(["\n", "\r\n", "\r"]),
    CUTS,
)
def test_pythons_csv_reads_what_it_wrote(table: list[list[str]], line_end: str, cuts: list[int]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(table)
    dialect = csv_dialect(header=False)
    pieces = pieces_of(out.getvalue().encode(), dialect, cuts, SplitRequest(1024))
    text = b"".join(piece.payload for piece in pieces).decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == table
