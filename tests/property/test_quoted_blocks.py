"""Rows that arrays find in a block are those of the expressions, and those of an independent reader."""

import csv
import io
import sys
from typing import Literal

from hypothesis import assume, example, given
from hypothesis import strategies as st
from reference.csv_rows import Reader

from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.quoted_blocks import Found, QuotedBlocks
from regather.processors.splitting.row_grammar import LARGE_BYTES, Dialect, RowGrammar, csv_dialect
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.text_rows import TextRowSplitter

BYTES = ['"', '""', ",", "\n", "\r", "\r\n", "\n\n", " ", "#", "a", "é"]
FIELDS = ['"a"', '"b,\n"', '"c\rd"', ',"', '",', '"\n', ';"x";', "\n#e\n"]
LONG = ["x" * 61, "y" * 63, "z" * 64, '"' + "q" * 126 + '"', "," * 65, "a,b\n" * 16]
BLOCKS = st.lists(st.sampled_from(BYTES + FIELDS + LONG), max_size=80).map("".join)
ODD_QUOTES = st.sampled_from(["", '5" pipe', ' "spaced"', '"behind"x', '"again" "and"', '"open'])
DELIMITERS = st.sampled_from([",", ";", " ", "\t"])


@st.composite
def tables(draw: st.DrawFn) -> str:
    """What a program writes, rows over several words of bits, with one wrong or rare quote somewhere in the middle."""
    cells = st.text(st.sampled_from('ab,;"\n é#'), max_size=9) | st.integers(0, 200).map("w".__mul__)
    rows = draw(st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=20))
    out = io.StringIO(newline="")
    quoting: Literal[0, 1] = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    csv.writer(out, lineterminator=draw(st.sampled_from(["\n", "\r\n"])), quoting=quoting).writerows(rows)
    text = out.getvalue()
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(ODD_QUOTES) + text[at:]


def both_ways(dialect: Dialect, block: bytes, *, final: bool, empty_rows: bool) -> list[tuple[bytes, list[int], bytes]]:
    """Rows, where each ends, and what is left over: by arrays as far as they go, and by expressions alone."""
    found = []
    for large_bytes in (1, sys.maxsize):
        grammar = RowGrammar(dialect, large_bytes=large_bytes)
        grammar.keep_empty_rows = empty_rows
        (data, mask), rest = grammar.rows(block, final=final)
        assert len(mask) == len(data)
        found.append((data, [at for at, byte in enumerate(mask) if byte == 0x0A], rest))
    return found


@given(BLOCKS | tables(), DELIMITERS, st.sampled_from([None, "#"]), st.booleans(), st.booleans())
@example('"a\r\nb"\n', ",", None, True, True)
@example('"a\rb"\nc\r', ",", None, True, True)
@example('a,"b"\n"c\n', ",", None, True, True)
@example('a,"b"\n#c\n#"d\n', ",", "#", True, True)
@example("x" * 62 + ',"' + '""' * 32 + '"\n', ",", None, True, True)
def test_arrays_and_expressions_find_the_same_rows(
    text: str, delimiter: str, comment: str | None, final: bool, empty_rows: bool
) -> None:
    dialect = csv_dialect(delimiter, comment=comment)
    by_arrays, by_expressions = both_ways(dialect, text.encode(), final=final, empty_rows=empty_rows)
    assert by_arrays == by_expressions


@given(BLOCKS | tables(), st.booleans())
def test_arrays_and_expressions_agree_where_a_cr_is_data(text: str, empty_rows: bool) -> None:
    dialect = csv_dialect()._replace(cr_ends_rows=False)
    text = text.replace("\r", "")  # shards hold none outside of quotes
    by_arrays, by_expressions = both_ways(dialect, text.encode(), final=True, empty_rows=empty_rows)
    assert by_arrays == by_expressions


def find(text: str, delimiter: str = ",", *, empty_rows: bool = True) -> Found:
    arrays = QuotedBlocks(b'"', delimiter.encode(), cr=True, comments=False)
    return arrays.find(text.encode(), empty_rows=empty_rows)


def row_ends(text: str, delimiter: str) -> list[int]:
    """Where an independent reader ends the rows of a text, as bytes; a row without a line end has no end."""
    reader = Reader(text, delimiter).read(keep_empty=True)
    edges = [*reader.begins]
    if reader.open_at is not None:
        edges.append(reader.open_at)
    elif text.endswith(("\n", "\r")):
        edges.append(len(text))
    return [len(text[:at].encode()) for at in edges[1:]]


@given(BLOCKS | tables(), DELIMITERS)
def test_rows_end_where_an_independent_reader_ends_them(text: str, delimiter: str) -> None:
    end, mask, plain = find(text, delimiter)
    wanted = [at for at in row_ends(text, delimiter) if at <= end]
    assert not end or wanted[-1] == end
    if plain:
        line_ends = mask if mask is not None else text.encode()[:end]
        assert [at + 1 for at, byte in enumerate(line_ends) if byte == 0x0A] == wanted
        assert len(line_ends) == end


CELLS = st.text(st.sampled_from('ab,;"\n é#'), max_size=70)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=3), min_size=1, max_size=20), st.booleans())
def test_nothing_that_a_program_writes_is_in_doubt(rows: list[list[str]], all_quoted: bool) -> None:
    assume(all_quoted or not any(cell.startswith(" ") for row in rows for cell in row))
    out = io.StringIO(newline="")
    quoting: Literal[0, 1] = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    csv.writer(out, lineterminator="\n", quoting=quoting).writerows(rows)
    text = out.getvalue()
    end, mask, plain = find(text)
    assert (end, plain) == (len(text.encode()), True)
    assert (mask or text.encode()).count(b"\n") == len(rows)


def test_a_doubt_leaves_the_rows_before_it() -> None:
    rows = '1,"a, ""b"""\n2,"c"\n' * 500
    for odd in ('3,5" pipe\n', '3, "d"\n', '3,"e"f\n', '3,"open\n'):
        end, mask, plain = find(rows + odd + '4,"g"\n')
        assert (end, mask, plain) == (len(rows), None, True), odd


def test_line_ends_in_quotes_are_in_the_data_and_not_in_the_mask() -> None:
    end, mask, plain = find('1,"a\nb"\n' * 100)
    assert (end, plain) == (800, True)
    assert mask == b'1,"a\0b"\n' * 100


def test_the_last_word_of_bits_may_be_full_or_not() -> None:
    for width in range(1, 300):
        text = '"' + "x" * width + '"\n'
        assert find(text).end == len(text)
        assert find(text + '"').end == len(text)
        assert find(text[:-1]).end == 0


def test_the_arrays_are_used_from_the_size_on_that_is_asked_for() -> None:
    text = b'1,"a\nb"\n' * 10
    rows, rest = RowGrammar(csv_dialect(), large_bytes=len(text)).rows(text)
    assert (rows.data, rest) == (text, b"")
    assert rows.mask == b'1,"a\0b"\n' * 10


def test_a_large_body_is_cut_alike_in_small_and_in_large_chunks() -> None:
    odd = {1_000: '5" pipe', 5_000: ' "spaced"', 9_000: '"behind"x', 9_001: "", 15_000: '"\r\n"'}
    body = "".join(f'{row},"a, ""b""","c{row % 7}\nd",{odd.get(row, "e")}\n' for row in range(20_000)).encode()
    assert len(body) > 10 * LARGE_BYTES

    def cut(chunk_bytes: int) -> list[Piece]:
        splitter = TextRowSplitter(SplitRequest(64 * 1024), csv_dialect(header=False))
        fed = [splitter.feed(body[at : at + chunk_bytes]) for at in range(0, len(body), chunk_bytes)]
        return [piece for pieces in (*fed, splitter.finish()) for piece in pieces]

    pieces = cut(LARGE_BYTES // 4)
    assert sum(RowSpan.decode(piece.meta).rows for piece in pieces) == 20_000
    assert cut(2 * LARGE_BYTES) == pieces
    assert cut(len(body)) == pieces
