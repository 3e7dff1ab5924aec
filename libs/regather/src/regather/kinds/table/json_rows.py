"""What DuckDB's readers of NDJSON do not tell: rows that are no objects, and how numbers are written.

They take rows that are no objects for rows of nulls, or for values of the one column. Numbers with a fraction or an
exponent are doubles to them: 1.10 is 1.1, and of more than 15 digits some are lost.
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
    """Raise DuckDB's error of wrong data where a row does not begin as an object; each row is a line."""
    if content.count(b"\n{") + content.startswith(b"{") == rows:  # every row, without a look at its beginning
        return
    found = _NO_OBJECT.search(content)
    if found is not None:
        import duckdb

        raise duckdb.InvalidInputException(f"the row is no JSON object: {_shown(found[0])}")


def _shown(row: bytes) -> str:
    text = row[:_SHOWN_BYTES].decode(errors="replace").strip()
    return f"{text}..." if len(row) > _SHOWN_BYTES else text


def asks_for_text(column: Column) -> bool:
    """Whether a column's numbers must not go through a double, which is what DuckDB makes of a fraction or an exponent."""
    return column.cast and (column.type in ("VARCHAR", *WHOLE_TYPES) or column.type.startswith("DECIMAL"))


def number_texts(content: bytes, columns: Sequence[Column]) -> "pa.Table | None":
    """Return how the rows' numbers with a fraction or an exponent are written, null for other values; None: there is none.

    One text column, named as text_name() says, for each given column. A whole number keeps its digits in DuckDB, too; one
    with an exponent is left to it. Raises DuckDB's error of wrong data for a row that is no JSON.
    """
    import pyarrow as pa

    if not columns or _REAL.search(content) is None:
        return None
    rows = [_decoded(line) for line in content.split(b"\n") if line]
    arrays = [pa.array([_text(row.get(column.name), column) for row in rows], pa.string()) for column in columns]
    return pa.table(arrays, [text_name(column) for column in columns])


def text_name(column: Column) -> str:
    """Return under which name a column's texts stand."""
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
