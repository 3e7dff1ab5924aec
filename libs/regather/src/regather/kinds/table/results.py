"""Writes rows as bytes: NDJSON, CSV, one JSON array, Parquet, Arrow; and the JSON document of groups.

A value is written as DuckDB writes it (`to_json`, `CAST AS VARCHAR`), with one exception: JSON has no NaN and no
infinities, so they become the strings "NaN", "Infinity" and "-Infinity".
"""

import json
import re
import struct
from collections.abc import Sequence

from regather.core.errors import PermanentError
from regather.kinds.table.engine import Engine, literal, quoted
from regather.kinds.table.fitting import UNKNOWN

MEDIA_TYPES = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
Columns = Sequence[tuple[str, str]]
NO_COLUMN = "$nothing"
"""The only column of a table that has neither rows nor column names."""

_FLOATS = frozenset({"DOUBLE", "FLOAT"})
_TEXT_OR_CONSTANT = re.compile(rb'"(?:[^"\\]|\\.)*+"|(-?\b(?:NaN|Infinity)\b)')
_HEADER_BYTES = struct.Struct("<I")


def written(engine: Engine, sql: str, columns: Columns, output: str) -> bytes:
    """Return the rows of a SELECT as a complete file."""
    if output == "ndjson":
        return ndjson(engine, sql, columns)
    if output == "csv":
        return csv_header(columns) + csv_rows(engine, sql, columns)
    if output == "json":
        return b"[" + b",\n".join(ndjson(engine, sql, columns).splitlines()) + b"]"
    return _columnar(engine, sql, columns, output)


def groups_document(engine: Engine, sql: str, columns: Columns, estimated: Sequence[str] = ()) -> bytes:
    """Return {"groups": [...]}, and the names of estimated figures if there are any."""
    rows = b",".join(ndjson(engine, sql, columns).splitlines())
    end = b', "estimated": ' + json.dumps(list(estimated)).encode() if estimated else b""
    return b'{"groups": [' + rows + b"]" + end + b"}"


def ndjson(engine: Engine, sql: str, columns: Columns) -> bytes:
    """Return one JSON object per line."""
    if _nothing(columns):
        return b""
    fields = ", ".join(f"{literal(name)}: {_json_value(name, kind)}" for name, kind in columns)
    text = _joined(engine, f"SELECT CAST(to_json({{{fields}}}) AS VARCHAR) || chr(10) AS line FROM ({sql})")
    nested = any(("DOUBLE" in kind or "FLOAT" in kind) and kind not in _FLOATS for _, kind in columns)
    return _without_constants(text) if nested else text


def csv_header(columns: Columns) -> bytes:
    """Return the first line of CSV."""
    if _nothing(columns):
        return b""
    return (",".join(map(_csv_name, (name for name, _ in columns))) + "\r\n").encode()


def csv_rows(engine: Engine, sql: str, columns: Columns) -> bytes:
    """Return the rows as RFC 4180 defines them: null is empty, an empty text is two quotes."""
    if _nothing(columns):
        return b""
    fields = " || ',' || ".join(_csv_value(name, kind) for name, kind in columns)
    return _joined(engine, f"SELECT {fields} || chr(13) || chr(10) AS line FROM ({sql})")


def pack_csv(header: bytes, rows: bytes) -> bytes:
    """Return header and rows in one piece, for join_csv()."""
    return _HEADER_BYTES.pack(len(header)) + header + rows


def join_csv(outputs: Sequence[bytes]) -> bytes:
    """Return one file of outputs of pack_csv(): the header once, then all rows."""
    if not outputs:
        return b""
    begin = _HEADER_BYTES.size + _HEADER_BYTES.unpack_from(outputs[0])[0]
    return outputs[0][_HEADER_BYTES.size : begin] + b"".join(output[begin:] for output in outputs)


def _nothing(columns: Columns) -> bool:
    return [name for name, _ in columns] == [NO_COLUMN]


def _columnar(engine: Engine, sql: str, columns: Columns, output: str) -> bytes:
    """Return Parquet or an Arrow stream; 128-bit integers become decimals, which other readers support."""
    if _nothing(columns):
        raise PermanentError(f"the table has neither rows nor columns: there is nothing to write as {output}")
    fields = ", ".join(_columnar_value(name, kind) for name, kind in columns)
    exact = f"SELECT {fields} FROM ({sql})"
    if output == "parquet":
        return engine.write(exact, "FORMAT parquet, COMPRESSION zstd")
    import pyarrow as pa

    table = engine.table(exact)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _columnar_value(name: str, kind: str) -> str:
    other = {"HUGEINT": "DECIMAL(38,0)", "UHUGEINT": "DECIMAL(38,0)", UNKNOWN: "VARCHAR"}.get(kind)
    return f"CAST({quoted(name)} AS {other}) AS {quoted(name)}" if other else quoted(name)


def _joined(engine: Engine, sql: str) -> bytes:
    """Return the column `line` of all rows, concatenated."""
    return b"".join(_text_bytes(chunk) for chunk in engine.table(sql).column(0).chunks if len(chunk))


def _text_bytes(column: object) -> bytes:
    """Return the texts of an Arrow array without nulls, concatenated, which is how its data buffer holds them."""
    import numpy as np
    import pyarrow as pa

    array: pa.Array = column
    wide = pa.types.is_large_string(array.type)
    offsets = np.frombuffer(array.buffers()[1], np.int64 if wide else np.int32)[array.offset :][: len(array) + 1]
    data = array.buffers()[2]
    return bytes(memoryview(data)[offsets[0] : offsets[-1]]) if data is not None else b""


def _json_value(name: str, kind: str) -> str:
    column = quoted(name)
    if kind not in _FLOATS:
        return column
    texts = f"CASE WHEN isnan({column}) THEN 'NaN' WHEN {column} > 0 THEN 'Infinity' ELSE '-Infinity' END"
    return f"CASE WHEN isfinite({column}) THEN to_json({column}) WHEN {column} IS NOT NULL THEN to_json({texts}) END"


def _without_constants(lines: bytes) -> bytes:
    """Return NDJSON in which NaN and infinities inside lists and objects are strings, because JSON has no such numbers."""
    return _TEXT_OR_CONSTANT.sub(lambda found: found[0] if found[1] is None else b'"' + found[1] + b'"', lines)


def _csv_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if re.search(r'[",\r\n]', name) or not name else name


def _csv_value(name: str, kind: str) -> str:
    text = f"CAST({quoted(name)} AS VARCHAR)"
    if kind in _FLOATS or kind in ("BIGINT", "INTEGER", "HUGEINT", "BOOLEAN", "DATE"):
        return f"coalesce({text}, '')"
    special = f"regexp_matches({text}, '[\",\\r\\n]') OR {text} = ''"
    doubled = f"'\"' || replace({text}, '\"', '\"\"') || '\"'"
    return f"CASE WHEN {text} IS NULL THEN '' WHEN {special} THEN {doubled} ELSE {text} END"
