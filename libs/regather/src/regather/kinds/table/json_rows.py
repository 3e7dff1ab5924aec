"""Rows of NDJSON that are no objects: DuckDB's readers take them for rows of nulls, or for values of the one column."""

import re

_NO_OBJECT = re.compile(rb"^[ \t\r]*+[^{ \t\r][^\n]*+", re.MULTILINE)
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
