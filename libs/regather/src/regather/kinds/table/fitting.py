"""Decides which texts fit a type: SQL that converts a column of texts, and names a value that does not fit.

DuckDB's own casts are too lenient for a table: '1.5' as BIGINT is 2, '2024-01-01 10:00' as DATE loses its time, and a
TIMESTAMP loses its offset. Here a type accepts texts of one form, and a text of another form is an error of its row.
The value of a text in the right form is DuckDB's.

A `cast` to int also accepts 7.0 as 7, because pandas writes whole numbers that way in a column with gaps.
"""

from regather.kinds.table.engine import literal, quoted
from regather.kinds.table.plan import Column

WHOLE_TYPES = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
_FLOATS = frozenset({"DOUBLE", "FLOAT"})
NATIVE = frozenset({"DOUBLE"})
"""Types for which DuckDB's CSV reader and its casts of texts give the same values."""

UNKNOWN = '"NULL"'
"""The type of a column without a value in the whole body: it is null as a number, as a text, and as anything else."""

_BOOLEANS = "('true', 'false', 't', 'f', 'yes', 'no', 'y', 'n', '1', '0')"
_OFFSET = r".*:[0-9.]+\s*(Z|z|UTC|[+-][0-9]{1,2}(:?[0-9]{2})?)\s*"
_CANONICAL_TIMESTAMP = 19  # characters of 2024-01-01 00:00:00


def value_of_text(column: Column, text: str, decimal: str = ".") -> str:
    """Return SQL for the value of a text, which is the SQL expression `text`; null stays null."""
    if column.type == "VARCHAR":
        return text
    if column.type == UNKNOWN:
        return _complaint(column, text)
    return f"coalesce({_attempt(column, text, decimal)}, {_complaint(column, text)})"


def fits_all(column: Column, text: str, decimal: str = ".") -> str:
    """Return SQL for an aggregate that is true if every text fits the column's type."""
    return f"bool_and({text} IS NULL OR {_attempt(column, text, decimal)} IS NOT NULL)"


def value_of_json(column: Column, value: str, text: str = "") -> str:
    """Return SQL for the value of JSON, which is the SQL expression `value`; null stays null.

    A sampled type accepts only JSON of its own kind: a string that looks like a number is not a number. A cast accepts
    both; then `text`, if it is given, is SQL for a number as it is written, null for other values.
    """
    if column.type == "JSON":
        return value
    if column.type == UNKNOWN:
        return _complaint(column, f"CAST({value} AS VARCHAR)")
    if column.cast:
        written = f"coalesce({text}, {_text_of_json(value)})" if text else _text_of_json(value)
        return value_of_text(column, written)
    return f"coalesce({_json_attempt(column, value)}, {_complaint(column, f'CAST({value} AS VARCHAR)')})"


def json_fits_all(column: Column, value: str) -> str:
    """Return SQL for an aggregate that is true if all JSON values fit the column's type."""
    return f"bool_and({value} IS NULL OR {_json_attempt(column, value)} IS NOT NULL)"


def _attempt(column: Column, text: str, decimal: str) -> str:
    """Return SQL for the value, null if the text does not fit."""
    kind = column.type
    if decimal != "." and (kind in _FLOATS or kind.startswith("DECIMAL")):
        text = f"replace({text}, {literal(decimal)}, '.')"
    if column.pattern:
        return f"CAST(try_strptime({text}, {literal(column.pattern)}) AS {kind})"
    cast = f"TRY_CAST({text} AS {kind})"
    if kind in WHOLE_TYPES:
        return f"{'whole_cast' if column.cast else 'whole'}({text}, {cast})"
    condition = _condition(kind, text)
    return f"CASE WHEN {condition} THEN {cast} END" if condition else cast


def _condition(kind: str, text: str) -> str:
    if kind in _FLOATS or kind.startswith("DECIMAL"):
        return f"NOT contains({text}, '_')"
    if kind == "BOOLEAN":
        return f"lower(trim({text})) IN {_BOOLEANS}"
    if kind == "DATE":
        return f"NOT contains({text}, ':')"
    if kind.startswith("TIMESTAMP") and kind != "TIMESTAMP WITH TIME ZONE":
        return f"(length({text}) = {_CANONICAL_TIMESTAMP} OR NOT regexp_full_match({text}, {literal(_OFFSET)}))"
    return ""


def _json_attempt(column: Column, value: str) -> str:
    kind, raw = column.type, f"CAST({value} AS VARCHAR)"
    if kind == "VARCHAR":
        return f"CASE WHEN starts_with({raw}, '\"') THEN {_text_of_json(value)} END"
    if kind == "BOOLEAN":
        return f"CASE {raw} WHEN 'true' THEN true WHEN 'false' THEN false END"
    if kind in WHOLE_TYPES or kind in _FLOATS:
        number = f"NOT starts_with({raw}, '\"') AND {raw} NOT IN ('true', 'false')"
        return f"CASE WHEN {number} THEN {_attempt(column, raw, '.')} END"
    return f"CASE WHEN starts_with({raw}, '\"') THEN {_attempt(column, _text_of_json(value), '.')} END"


def _text_of_json(value: str) -> str:
    """Return SQL for a JSON string without its quotes, and for other JSON as it is written."""
    raw = f"CAST({value} AS VARCHAR)"
    plain = f"CASE WHEN contains({raw}, '\\') THEN {value}->>'$' ELSE substr({raw}, 2, length({raw}) - 2) END"
    return f"CASE WHEN starts_with({raw}, '\"') THEN {plain} ELSE {raw} END"


def _complaint(column: Column, text: str) -> str:
    """Return SQL that is null for null, and otherwise fails the query with a message of column, value and type."""
    begin = literal(f"column {quoted(column.name)} is ")
    asked = "the type that cast gives" if column.cast else "the type of the sampled rows; set another type with cast"
    end = literal(f", which is not {column.type}, {asked}")
    return f"misfit({text}, {begin}, {end})"
