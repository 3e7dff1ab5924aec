"""Columns of every type as Arrow arrays, and tables of them as CSV, NDJSON, JSON and Parquet. All from one seed."""

import datetime as dt
import io
import json
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from accept_kinds.oracles.table import written_csv

Draw = random.Random
UTC = dt.UTC
EPOCH = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - columns without a zone are meant
HARD_TEXTS = (
    "plain",
    'says "hi"',
    "a,b",
    "line\nbreak",
    "crlf\r\nbreak",
    "tab\there",
    "é",
    "日本語",
    "👍🏽",
    "'single'",
    "null",
    "  pad  ",
)


def _some(make: Callable[[Draw], Any]) -> Callable[[Draw], Any]:
    """The same with nulls in between."""
    return lambda draw: None if draw.random() < 0.3 else make(draw)


def _moment(draw: Draw) -> dt.datetime:
    return EPOCH + dt.timedelta(seconds=draw.randrange(10**8), microseconds=draw.choice([0, 0, 123456, 500000]))


def _date(draw: Draw) -> dt.date:
    return _moment(draw).date()


COLUMNS: dict[str, tuple[pa.DataType, Callable[[Draw], Any]]] = {
    "int": (pa.int64(), lambda draw: draw.randrange(-1000, 1000)),
    "bigint": (pa.int64(), lambda draw: draw.choice([2**53 + 1, -(2**62) - 1, 2**63 - 1, 7])),
    "double": (pa.float64(), lambda draw: draw.choice([draw.random() * 1e3, draw.random() * 1e-9, 1e17, 0.1, -2.5])),
    "special": (pa.float64(), lambda draw: draw.choice([float("nan"), float("inf"), float("-inf"), 1.5, 2.5])),
    "decimal": (pa.decimal128(18, 4), lambda draw: Decimal(draw.randrange(-(10**9), 10**9)).scaleb(-4)),
    "bool": (pa.bool_(), lambda draw: draw.random() < 0.5),
    "date": (pa.date32(), _date),
    "time": (pa.time64("us"), lambda draw: _moment(draw).time()),
    "timestamp": (pa.timestamp("us"), _moment),
    "timestamptz": (pa.timestamp("us", tz="UTC"), lambda draw: _moment(draw).replace(tzinfo=UTC)),
    "text": (pa.string(), lambda draw: f"word{draw.randrange(50)}"),
    "hard_text": (pa.string(), lambda draw: draw.choice(HARD_TEXTS)),
    "nulls": (pa.int64(), _some(lambda draw: draw.randrange(9))),
    "null_texts": (pa.string(), _some(lambda draw: draw.choice(["a", "b"]))),
    "leading_zeros": (pa.string(), lambda draw: f"{draw.randrange(100):05d}"),
    "long_text": (pa.string(), lambda draw: "x" * draw.choice([3, 50, 3000])),
    "list": (pa.list_(pa.int64()), lambda draw: [draw.randrange(9) for _ in range(draw.randrange(4))]),
    "struct": (pa.struct([("a", pa.int64()), ("b", pa.string())]), lambda draw: {"a": draw.randrange(9), "b": "é"}),
    "texts": (pa.list_(pa.string()), lambda draw: [draw.choice(HARD_TEXTS), None]),
}
PARQUET_ONLY: dict[str, tuple[pa.DataType, Callable[[Draw], Any]]] = {
    "int8": (pa.int8(), lambda draw: draw.randrange(-128, 128)),
    "uint8": (pa.uint8(), lambda draw: draw.randrange(256)),
    "int16": (pa.int16(), lambda draw: draw.randrange(-(2**15), 2**15)),
    "uint32": (pa.uint32(), lambda draw: draw.randrange(2**32)),
    "uint64": (pa.uint64(), lambda draw: draw.choice([2**64 - 1, 5])),
    "float32": (pa.float32(), lambda draw: draw.choice([0.1, 1.5, 1e30])),
    "binary": (pa.binary(), lambda draw: draw.choice([b"\x00\xff", b"abc", b""])),
    "timestamp_s": (pa.timestamp("s"), lambda draw: _moment(draw).replace(microsecond=0)),
    "timestamp_ms": (pa.timestamp("ms"), lambda draw: _moment(draw).replace(microsecond=5000)),
    "timestamp_ns": (pa.timestamp("ns"), _moment),
    "time_ms": (pa.time32("ms"), lambda draw: _moment(draw).time().replace(microsecond=7000)),
    "date64": (pa.date64(), _date),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), lambda draw: draw.choice(["red", "green"])),
    "map": (pa.map_(pa.string(), pa.int64()), lambda draw: [("k", draw.randrange(9))]),
    "structs": (pa.list_(pa.struct([("a", pa.int64())])), lambda draw: [{"a": draw.randrange(9)}, None]),
    "large_text": (pa.large_string(), lambda draw: draw.choice(HARD_TEXTS)),
    "fixed_binary": (pa.binary(4), lambda draw: bytes(draw.randrange(256) for _ in range(4))),
    "decimal38": (pa.decimal128(38, 10), lambda draw: Decimal(draw.randrange(10**30)).scaleb(-10)),
    "decimal_whole": (pa.decimal128(30, 0), lambda draw: Decimal(draw.randrange(10**25))),
    "null_type": (pa.null(), lambda draw: None),
}
IN_TEXT = ("list", "struct", "texts")
"""Columns that CSV has no form for."""


def table_of(names: tuple[str, ...], rows: int, seed: int) -> pa.Table:
    """A table with `id` first and one column of each of these types."""
    draw = Draw(f"{names} {seed}")
    kinds = {**COLUMNS, **PARQUET_ONLY}
    arrays = {"id": pa.array(range(rows), pa.int64())}
    for name in names:
        kind, make = kinds[name]
        arrays[name] = pa.array([make(draw) for _ in range(rows)], kind)
    return pa.table(arrays)


def as_csv(table: pa.Table, **dialect: Any) -> bytes:
    """CSV; a null is an empty cell."""
    rows = [[_cell(value) for value in row.values()] for row in table.to_pylist()]
    return written_csv(table.column_names, rows, **dialect)


def as_ndjson(table: pa.Table) -> bytes:
    """One object a line."""
    return "".join(json.dumps(_json(row), ensure_ascii=False) + "\n" for row in table.to_pylist()).encode()


def as_json(table: pa.Table, indent: int | None = None) -> bytes:
    """One array of objects."""
    return json.dumps([_json(row) for row in table.to_pylist()], ensure_ascii=False, indent=indent).encode()


def as_parquet(table: pa.Table, **settings: Any) -> bytes:
    """A Parquet file."""
    file = io.BytesIO()
    pq.write_table(table, file, **settings)
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return value


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_json(part) for part in value]
    if isinstance(value, Decimal):
        return float(value)
    if (isinstance(value, float) and value != value) or value in (float("inf"), float("-inf")):
        return None
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value
