"""Rows of a shard as mappings of column to value, and mappings written as rows."""

import csv
import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from regather.core.errors import PermanentError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.table.options import TableOptions
from regather.processors.splitting.row_packer import RowSpan

TSV = "tsv"
Row = dict[str, Any]
_HEADER_BYTES = struct.Struct("<I")
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


def read_rows(payload: bytes, span: RowSpan, options: TableOptions) -> Iterator[tuple[int, Row]]:
    """Yield number and values of each row; PermanentError names the row that is none."""
    if span.format == "arrow":
        rows = _arrow_rows(payload, span)
    else:
        text = payload.decode()
        rows = _json_rows(text, span) if span.format == "ndjson" else _csv_rows(text, span, options)
    casts = [(name, CASTS[kind], kind) for name, kind in options.cast.items()]
    if not casts:
        return rows
    return _casted(rows, casts)


def delimiter_of(span: RowSpan, options: TableOptions) -> str:
    """Return what stands between a shard's fields; the media type of tab-separated values says it without an option."""
    return "\t" if span.format == TSV else options.delimiter


def header_names(header: str, delimiter: str) -> list[str]:
    """Return the columns that a header names; ValueError where one is empty or stands twice."""
    names = next(csv.reader(io.StringIO(header, newline=""), delimiter=delimiter), [])
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"column {name!r} stands twice in the header")
    if not names or "" in names:
        raise ValueError("the header has a column without a name")
    return names


def _csv_rows(text: str, span: RowSpan, options: TableOptions) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(MAX_SHARD_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(span, options), strict=True)
    names: list[str] | None = next(reader, None) if span.header_bytes else None
    number = span.row0
    try:
        for fields in reader:
            if names is None:
                names = [f"c{index}" for index in range(len(fields))]
            if len(fields) == len(names):
                yield number, dict(zip(names, fields, strict=True))
            elif fields:  # an empty line is no row
                raise PermanentError(f"row {number} has {len(fields)} fields; there are {len(names)} columns")
            number += 1
    except csv.Error as error:
        raise PermanentError(f"row {number} is no CSV: {error}") from error


def _json_rows(text: str, span: RowSpan) -> Iterator[tuple[int, Row]]:
    for index, line in enumerate(text.split("\n")):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise PermanentError(f"row {span.row0 + index} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise PermanentError(f"row {span.row0 + index} is {type(row).__name__}; each row must be a JSON object")
        yield span.row0 + index, row


def _arrow_rows(payload: bytes, span: RowSpan) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(payload).read_all()
    except pa.ArrowException as error:
        raise PermanentError(f"rows from {span.row0} on are no Arrow stream: {error}") from error
    for index, row in enumerate(table.to_pylist()):
        yield span.row0 + index, {name: _json_value(value) for name, value in row.items()}


def _json_value(value: Any) -> Any:
    """A value that JSON has: times as ISO 8601, decimals as text, bytes as hexadecimal digits."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_json_value(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _json_value(entry) for name, entry in value.items()}
    return value


def _casted(
    rows: Iterator[tuple[int, Row]], casts: Sequence[tuple[str, Callable[[Any], Any], str]]
) -> Iterator[tuple[int, Row]]:
    for number, row in rows:
        for name, cast, kind in casts:
            value = row.get(name)
            if value is None or value == "":
                row[name] = None
                continue
            try:
                row[name] = cast(value)
            except (ValueError, TypeError, OverflowError) as error:
                raise PermanentError(f"row {number}: column {name!r} is {value!r}, no {kind}") from error
        yield number, row


def _int(value: Any) -> int:
    if isinstance(value, str):
        _plain(value)
        return int(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, str):
        _plain(value)
    return float(value)


def _plain(text: str) -> None:
    """Refuse what only Python takes for a number: underscores, digits of other scripts."""
    if "_" in text or not text.isascii():
        raise ValueError(text)


def _str(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(value)


CASTS: Mapping[str, Callable[[Any], Any]] = {"int": _int, "float": _float, "str": _str, "bool": _bool}


def write_ndjson(rows: Iterator[tuple[int, Row]]) -> bytes:
    """One object a line; PermanentError for a value that JSON cannot hold."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    lines: list[bytes] = []
    for number, row in rows:
        try:
            lines.append(encode(row).encode())
        except ValueError as error:
            raise PermanentError(f"row {number} holds a value that JSON has not got: {error}") from error
    lines.append(b"")
    return b"\n".join(lines)


def write_csv(rows: Iterator[tuple[int, Row]], names: Sequence[str]) -> bytes:
    """RFC 4180, for join_csv(): the header's length, the header, the rows. Nulls are empty, lists and objects JSON."""
    header, body = io.StringIO(newline=""), io.StringIO(newline="")
    csv.writer(header).writerow(names)
    csv.writer(body).writerows([_cell(row.get(name)) for name in names] for _, row in rows)
    first = header.getvalue().encode()
    return _HEADER_BYTES.pack(len(first)) + first + body.getvalue().encode()


def join_csv(outputs: Sequence[bytes]) -> bytes:
    """Return one file of what write_csv() wrote: the header once, then all rows."""
    if not outputs:
        return b""
    begin = _HEADER_BYTES.size + _HEADER_BYTES.unpack_from(outputs[0])[0]
    return outputs[0][_HEADER_BYTES.size : begin] + b"".join(output[begin:] for output in outputs)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")
