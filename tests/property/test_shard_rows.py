"""Rows that are picked from a shard are those rows, whatever stands in them, and answer as they did in the whole shard."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regather.kinds.model.predict import ModelPredict, PredictOptions
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.options import TableOptions
from regather.processors.base import FileSplitter, Options, Piece, Processor, ShardView, SplitRequest
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.rows import Band
from regather.processors.splitting.shard_rows import BandRows, TextRows
from regather.processors.splitting.text_rows import LINES

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


@given(TABLES, CUTS, st.sampled_from([(",", "text/csv"), (";", "text/csv"), ("\t", "text/tab-separated-values")]))
def test_csv(table: list[tuple[str, str]], cuts: list[int], format_: tuple[str, str]) -> None:
    delimiter, content_type = format_
    options = TableOptions(delimiter=delimiter) if delimiter == ";" else TableOptions()
    quoted = (delimiter.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in table)
    body = "\n".join([f"name{delimiter}value", *quoted]).encode()
    pieces = cut(TableEtl(), options, body, content_type)
    check(TableEtl(), options, pieces, cuts)
    lines = b"".join(process(TableEtl(), options, piece) for piece in pieces).splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == table


@given(TABLES, CUTS)
def test_ndjson(table: list[tuple[str, str]], cuts: list[int]) -> None:
    body = b"\n".join(json.dumps({"name": name, "value": value}).encode() for name, value in table)
    check(TableEtl(), TableOptions(), cut(TableEtl(), TableOptions(), body), cuts)


@given(cuts=CUTS)
def test_parquet(cuts: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("parquet") / "table.parquet"
    pq.write_table(pa.table({"n": list(range(300)), "text": [f"row {row}" * 3 for row in range(300)]}), path)
    options = TableOptions(format="parquet")
    splitter = TableEtl().splitter(options, SplitRequest(shard_size_bytes=2048))
    assert isinstance(splitter, FileSplitter)
    check(TableEtl(), options, [*splitter.cut(Path(path))], cuts)


@pytest.mark.parametrize("form", ["csv", "raw"])
@settings(max_examples=15, deadline=None)  # each runs a model some hundred times
@given(cuts=CUTS)
def test_rows_of_numbers(form: str, cuts: list[int]) -> None:
    table = np.random.default_rng(1).random((40, 64), np.float32)
    options = PredictOptions(format=form, features=64 if form == "raw" else None, header=False)
    lines = [",".join(f"{value:.7g}" for value in row) for row in table.tolist()]
    body = table.tobytes() if form == "raw" else "\n".join(lines).encode()
    check(ModelPredict(), options, cut(ModelPredict(), options, body), cuts)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_payload_that_its_meta_does_not_fit_cannot_be_taken_apart(rows: int) -> None:
    with pytest.raises(ValueError, match="2 rows were found"):
        TextRows(b"a\nb\n", RowSpan(0, rows), LINES)
    with pytest.raises(ValueError, match="are not"):
        BandRows(bytes(8), Band(0, rows, 0, 0, 4, 1, "uint8", None))
