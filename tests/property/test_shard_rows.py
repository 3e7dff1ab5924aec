"""Rows that are picked from a shard are those rows, whatever stands in them, and answer as they did in the whole shard."""

import io
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regather.core.errors import PermanentError
from regather.kinds.model.predict import ModelPredict, PredictOptions
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.options import TableOptions
from regather.processors.base import FileSplitter, Options, Piece, Processor, ShardView, SplitRequest
from regather.processors.registry import parse_options
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.rows import Band
from regather.processors.splitting.shard_rows import BandRows, TextRows
from regather.processors.splitting.text_rows import LINES
from regather.testing import run_kind

pytestmark = pytest.mark.long

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)
TABLES = st.lists(st.tuples(TEXTS, TEXTS), min_size=2, max_size=30)
CUTS = st.lists(st.integers(0, 99), max_size=4)


def cut(kind: Processor[Any], options: Options, body: bytes, content_type: str = "") -> list[Piece]:
    request = SplitRequest(shard_size_bytes=1024, head=body[:64], content_type=content_type)
    splitter = kind.splitter(options, request)
    assert not isinstance(splitter, FileSplitter)
    return [*splitter.feed(body), *splitter.finish()]


def check(kind: Processor[Any], options: Options, pieces: Sequence[Piece], cuts: Sequence[int]) -> None:
    """Every way to take a shard apart gives its rows again, and their outputs."""
    first = 0
    for piece in pieces:
        view = ShardView(piece.payload, piece.meta, 0, 0)
        rows = kind.rows(view, options)
        assert rows is not None
        assert rows.numbers.start == first
        first = rows.numbers.stop
        edges = sorted({0, len(rows.numbers), *(at % len(rows.numbers) for at in cuts)})
        parts = [rows.numbers[low:high] for low, high in pairwise(edges)]
        for keep in ([rows.numbers], parts):
            assert process(kind, options, rows.pick(keep)) == kind.process(view, options)
        single = [process(kind, options, rows.pick([row])) for row in parts]
        assert b"".join(single) == kind.process(view, options)


def process(kind: Processor[Any], options: Options, piece: Piece) -> bytes:
    return kind.process(ShardView(piece.payload, piece.meta, 0, 0), options)


AS_TEXTS = {"cast": "name:str, value:str"}


@settings(max_examples=40)
@given(TABLES, CUTS, st.sampled_from([(",", "text/csv"), (";", "text/csv"), ("\t", "text/tab-separated-values")]))
def test_csv(table: list[tuple[str, str]], cuts: list[int], format_: tuple[str, str]) -> None:
    delimiter, content_type = format_
    options = parse_options(TableEtl(), AS_TEXTS | ({"delimiter": delimiter} if delimiter == ";" else {}))
    quoted = (delimiter.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in table)
    body = "\n".join([f"name{delimiter}value", *quoted]).encode()
    pieces = run_kind.cut(TableEtl(), body, options, SplitRequest(1024, content_type=content_type))
    check(TableEtl(), options, pieces, cuts)
    lines = b"".join(process(TableEtl(), options, piece) for piece in pieces).splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == [(a or None, b or None) for a, b in table]


@settings(max_examples=40)
@given(TABLES, CUTS)
def test_ndjson(table: list[tuple[str, str]], cuts: list[int]) -> None:
    body = b"\n".join(json.dumps({"name": name, "value": value}).encode() for name, value in table)
    options = parse_options(TableEtl(), AS_TEXTS)
    check(TableEtl(), options, run_kind.cut(TableEtl(), body, options, SplitRequest(1024)), cuts)


@settings(max_examples=20)
@given(CUTS)
def test_parquet(cuts: list[int]) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(300)), "text": [f"row {row}" * 3 for row in range(300)]}), sink)
    options = parse_options(TableEtl(), {})
    check(TableEtl(), options, run_kind.cut(TableEtl(), sink.getvalue(), options, SplitRequest(2048)), cuts)


@pytest.mark.parametrize("form", ["csv", "raw"])
@settings(max_examples=15, deadline=None)  # each runs a model some hundred times
@given(cuts=CUTS)
def test_rows_of_numbers(form: Literal["csv", "raw"], cuts: list[int]) -> None:
    table = np.random.default_rng(1).random((40, 64), np.float32)
    options = PredictOptions(format=form, features=64 if form == "raw" else None, header=False)
    lines = [",".join(f"{value:.7g}" for value in row) for row in table.tolist()]
    body = table.tobytes() if form == "raw" else "\n".join(lines).encode()
    check(ModelPredict(), options, cut(ModelPredict(), options, body), cuts)


def csv_rows(rows: int) -> bytes:
    return b"a,b\n" + b"".join(b"%d,%d\n" % (row, row % 7) for row in range(rows))


def ndjson_rows(rows: int) -> bytes:
    return b"".join(b'{"a":%d,"b":%d}\n' % (row, row % 7) for row in range(rows))


def parquet_rows(rows: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(rows)), "b": [row % 7 for row in range(rows)]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("body_of", [csv_rows, ndjson_rows, parquet_rows])
@settings(max_examples=6, deadline=None)
@given(gaps=st.lists(st.integers(0, 199), min_size=1, max_size=12, unique=True), data=st.data())
def test_a_row_keeps_its_number_behind_rows_that_were_left_out(
    body_of: Callable[[int], bytes], gaps: list[int], data: st.DataObject
) -> None:
    """The bad row that is named is the one whose value it has, also where rows of such a shard are picked once more."""
    bad = data.draw(st.sampled_from([row for row in range(200) if row not in gaps]))
    options = parse_options(TableEtl(), {"derive": f"c = if(a = {bad}, 'x', '1')::int"})
    assert isinstance(options, TableOptions)
    for piece in run_kind.cut(TableEtl(), body_of(200), options, SplitRequest(1024)):
        rows = TableEtl().rows(ShardView(piece.payload, piece.meta, 0, 0), options)
        keep = [range(row, row + 1) for row in rows.numbers if row not in gaps]
        if not keep:
            continue
        picked = rows.pick(keep)
        again = TableEtl().rows(ShardView(picked.payload, picked.meta, 0, 0), options)
        places = again.numbers
        middle = data.draw(st.integers(0, len(places) - 1))
        twice = again.pick([places[:middle], places[middle:]])
        for shard in (picked, twice):
            if any(bad in rows for rows in keep):
                with pytest.raises(PermanentError, match=f"row {bad}: "):
                    process(TableEtl(), options, shard)
            else:
                assert process(TableEtl(), options, shard).count(b"\n") == len(keep)


def test_an_unknown_key_behind_a_gap_is_named_by_its_row() -> None:
    options = parse_options(TableEtl(), {})
    assert isinstance(options, TableOptions)
    (piece,) = run_kind.cut(TableEtl(), ndjson_rows(9), options, SplitRequest())
    payload = piece.payload.replace(b'{"a":7,', b'{"z":7,')
    rows = TableEtl().rows(ShardView(payload, piece.meta, 0, 0), options)
    with pytest.raises(PermanentError, match='row 7: the key "z"'):
        process(TableEtl(), options, rows.pick([range(2), range(5, 9)]))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_payload_that_its_meta_does_not_fit_cannot_be_taken_apart(rows: int) -> None:
    with pytest.raises(ValueError, match="2 rows were found"):
        TextRows(b"a\nb\n", RowSpan(0, rows), LINES)
    with pytest.raises(ValueError, match="are not"):
        BandRows(bytes(8), Band(0, rows, 0, 0, 4, 1, "uint8", None))
