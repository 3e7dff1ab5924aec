"""Finds what DuckDB's NDJSON readers do not report: rows that are not objects, and how numbers are written.

DuckDB reads a row that is not an object as a row of nulls, or as a value of the only column. It reads numbers with a
fraction or an exponent as doubles: 1.10 becomes 1.1, and numbers of more than 15 digits lose some of them.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from regather.kinds.table.fitting import WHOLE_TYPES
from regather.kinds.table.plan import Column

if TYPE_CHECKING:
    import pyarrow as pa

_NO_OBJECT = re.compile(rb"^[ \t\r]*+[^{ \t\r][^\n]*+", re.MULTILINE)
_REAL = re.compile(rb"[0-9][.eE][0-9+-]")
_SHOWN_BYTES = 40


def check_objects(content: bytes, rows: int) -> None:
    """Raise DuckDB's error for wrong data if a row does not begin as an object; each row is a line."""
    if content.count(b"\n{") + content.startswith(b"{") == rows:  # every line begins with a brace; no search needed
        return
    found = _NO_OBJECT.search(content)
    if found is not None:
        import duckdb

        raise duckdb.InvalidInputException(f"the row is not a JSON object: {_shown(found[0])}")


def _shown(row: bytes) -> str:
    text = row[:_SHOWN_BYTES].decode(errors="replace").strip()
    return f"{text}..." if len(row) > _SHOWN_BYTES else text


def asks_for_text(column: Column) -> bool:
    """Whether a column's numbers must not become doubles, which DuckDB makes of those with a fraction or an exponent."""
    return column.cast and (column.type in ("VARCHAR", *WHOLE_TYPES) or column.type.startswith("DECIMAL"))


def number_texts(content: bytes, columns: Sequence[Column]) -> "pa.Table | None":
    """Return numbers with a fraction or an exponent as they are written, null for other values; None if there are none.

    The table has one text column for each given column, named by text_name(). DuckDB itself keeps the digits of a whole
    number, and it reads a whole number with an exponent. Raises DuckDB's error for wrong data if a row is not JSON.
    """
    import pyarrow as pa

    if not columns or _REAL.search(content) is None:
        return None
    rows = [_decoded(line) for line in content.split(b"\n") if line]
    arrays = [pa.array([_text(row.get(column.name), column) for row in rows], pa.string()) for column in columns]
    return pa.table(arrays, [text_name(column) for column in columns])


def text_name(column: Column) -> str:
    """Return the name of the column that has the texts of `column`."""
    return f"$text {column.name}"


class _Real(str):
    __slots__ = ()


_DECODER = json.JSONDecoder(parse_float=_Real, parse_int=str)


def _decoded(line: bytes) -> dict[str, object]:
    try:
        row: dict[str, object] = _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        import duckdb

        raise duckdb.InvalidInputException(f"Malformed JSON: {error}") from error
    return row


def _text(value: object, column: Column) -> str | None:
    if type(value) is not _Real or (column.type in WHOLE_TYPES and "e" in value.lower()):
        return None
    return str(value)
