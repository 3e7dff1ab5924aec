"""Finds types in the first rows: DuckDB's guess, corrected where its casts are more lenient than `fitting.py`."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from regather.core.errors import BadInput, BadRequest
from regather.kinds.table.engine import Engine, Source, literal, quoted
from regather.kinds.table.failures import said
from regather.kinds.table.fitting import UNKNOWN, fits_all, json_fits_all
from regather.kinds.table.json_rows import check_objects
from regather.kinds.table.options import ReadingOptions
from regather.kinds.table.plan import Column, Plan
from regather.kinds.table.reading import Dialect, json_objects, raw_csv, raw_ndjson

_BEHIND = "$behind"
_TRIED_ROWS = 100
_FALLBACKS = ("DOUBLE", "VARCHAR")
"""Types to try for a column whose texts do not fit the guessed type; the first one that they fit is taken."""


def sampled_csv(
    engine: Engine, header: bytes, rows: bytes, dialect: Dialect, options: ReadingOptions, *, whole: bool
) -> Plan:
    """Return the plan of CSV with this header (empty: none) and these first rows; `whole`: there are no other rows."""
    columns = _named_columns(_guessed(engine, header, rows, dialect), options, header=bool(header))
    if rows:
        with engine.source(rows) as source:
            ends = f"{dialect.delimiter}\n".encode() in rows and _all_end_in_delimiter(engine, source, columns, dialect)
        if ends:
            dialect = replace(dialect, ends_in_delimiter=True)
            guessed = _guessed(engine, header, rows, replace(dialect, nulls=(*dialect.nulls, "")))
            columns = _named_columns(guessed, options, header=bool(header))
        with engine.source(rows) as source:
            _check_some_row(engine, source, columns, dialect)
            columns = _fitting_csv(engine, source, columns, dialect)
            if whole:
                columns = _without_values(engine, raw_csv(source, columns, dialect, lenient=True), columns)
    elif whole:
        columns = [one if one.cast else Column(one.name, UNKNOWN) for one in columns]
    return Plan("csv", tuple(columns), dialect.delimiter, ends_in_delimiter=dialect.ends_in_delimiter)


def _check_some_row(engine: Engine, source: Source, columns: Sequence[Column], dialect: Dialect) -> None:
    """Raise BadInput that names the first row if no row can be read; otherwise types without values would get the blame."""
    if engine.run(f"SELECT 1 FROM {raw_csv(source, columns, dialect, lenient=True)} LIMIT 1"):
        return
    try:
        engine.run(f"SELECT * FROM {raw_csv(source, columns, dialect)}")
    except Exception as error:
        why = f"row 0: {said(error)}; none of the first rows can be read: are delimiter and quote right?"
        raise BadInput(why, code="csv-invalid") from error


def _named_columns(guessed: Sequence[tuple[str, str, str]], options: ReadingOptions, *, header: bool) -> list[Column]:
    names = [name if header else f"c{index}" for index, (name, _, _) in enumerate(guessed)]
    return [_column(name, kind, pattern, options) for name, (_, kind, pattern) in zip(names, guessed, strict=True)]


def sampled_ndjson(engine: Engine, rows: bytes, options: ReadingOptions, *, whole: bool) -> Plan:
    """Return the plan of NDJSON with these first rows: columns in the order in which their keys first occur.

    `whole`: there are no other rows.
    """
    if not rows:
        return Plan("ndjson", ())
    lines = _lines(rows)
    rows = b"".join(line for line in lines if line.lstrip().startswith(b"{"))
    if not rows:  # beside good rows, a row that is not an object is a bad row; here there are no good rows
        raise BadInput("row 0 is not a JSON object, nor is any of the first rows", code="json-invalid")
    with engine.source(rows) as source:
        objects = f"{json_objects(source, lenient=True)} WHERE json_type(json) = 'OBJECT'"
        try:
            found = engine.describe(_sampled_json(source))
            keys = {row[0] for row in engine.run(f"SELECT DISTINCT unnest(json_keys(json)) FROM {objects}")}
        except Exception as error:
            where = _first_bad(engine, lines) or f"the first rows are not NDJSON: {said(error)}"
            raise BadInput(where, code="json-invalid") from error
        if not keys:
            bad = _first_bad(engine, lines)
            none = "none of the first rows is a JSON object with a key: there are no columns"
            raise BadInput(f"{bad}; {none}" if bad else none, code="json-invalid")
        _check_keys(keys)
        columns = [_column(name, _flat(kind), "", options) for name, kind in found if name in keys]
        if not columns:
            raise BadInput("the rows have no column, so the result would be empty", code="no-column")
        columns = _fitting_json(engine, source, columns)
        if whole:
            columns = _without_values(engine, raw_ndjson(source, columns, lenient=True), columns)
        return Plan("ndjson", tuple(columns))


def _sampled_json(source: Source) -> str:
    how = f"format = 'newline_delimited', sample_size = -1, maximum_object_size = {source.buffer_bytes}"
    return f"SELECT * FROM read_json({source.path}, {how}, ignore_errors = true)"


def _lines(rows: bytes) -> list[bytes]:
    """Split into rows of NDJSON; a lone CR does not end a row."""
    return [line + b"\n" for line in rows.split(b"\n")[:-1]]


def _first_bad(engine: Engine, lines: Sequence[bytes]) -> str:
    """Return number and fault of the first of these rows that cannot be read; empty if all can be read."""
    for number, line in enumerate(lines[:_TRIED_ROWS]):
        try:
            check_objects(line, 1)
            with engine.source(line) as source:
                engine.run(f"SELECT count(json) FROM {json_objects(source)}")
                engine.describe(_sampled_json(source))
        except Exception as error:
            return f"row {number}: {said(error)}"
    return ""


def _flat(kind: str) -> str:
    """Return JSON for objects and arrays, so that nothing in them is lost or changes its type; also for only nulls."""
    return "JSON" if kind == '"NULL"' or kind.endswith((")", "]")) else kind


def _column(name: str, kind: str, pattern: str, options: ReadingOptions) -> Column:
    asked = {given.lower(): kind for given, kind in options.cast.items()}.get(name.lower())
    return Column(name, asked, cast=True) if asked else Column(name, kind, pattern=pattern)


def _sniffed(engine: Engine, source: Source, dialect: Dialect, *, header: bool) -> list[tuple[str, str, str]]:
    """Return name, type and pattern of each column as DuckDB's sniffer sees them."""
    quote, nulls = literal(dialect.quote), ", ".join(map(literal, dialect.nulls))
    decimal = f", decimal_separator = {literal(dialect.decimal)}" if dialect.decimal != "." else ""
    sql = (
        f"SELECT Columns, DateFormat, TimestampFormat FROM sniff_csv({source.path}, sample_size = -1, "
        f"max_line_size = {source.buffer_bytes}, buffer_size = {source.buffer_bytes}, "
        f"header = {header}, delim = {literal(dialect.delimiter)}, quote = {quote}, escape = {quote}, "
        f"new_line = '\\n', comment = '', nullstr = [{nulls}], strict_mode = true, ignore_errors = true{decimal})"
    )
    try:
        columns, date, timestamp = engine.run(sql)[0]
    except Exception as error:
        raise BadInput(f"the first rows are not CSV: {said(error)}", code="csv-invalid") from error
    patterns = {"DATE": date or "", "TIMESTAMP": timestamp or ""}
    return [(one["name"], one["type"], patterns.get(one["type"], "")) for one in columns]


def _guessed(engine: Engine, header: bytes, rows: bytes, dialect: Dialect) -> list[tuple[str, str, str]]:
    """Return name, type and pattern of each column; if malformed rows prevent a guess, guess from the other rows."""
    with engine.source(header + rows) as source:
        try:
            return _sniffed(engine, source, dialect, header=bool(header))
        except BadInput:
            good = _good_rows(engine, header, rows, dialect)
    with engine.source(header + good) as source:  # perhaps only the header: then _check_some_row() says what is wrong
        return _sniffed(engine, source, dialect, header=bool(header))


def _good_rows(engine: Engine, header: bytes, rows: bytes, dialect: Dialect) -> bytes:
    """Return those of the first rows that DuckDB can read together with the header, tried one by one."""
    good: list[bytes] = []
    for row in rows.splitlines(keepends=True)[:_TRIED_ROWS]:
        with engine.source(header + row) as source, contextlib.suppress(BadInput):
            _sniffed(engine, source, dialect, header=bool(header))
            good.append(row)
    return b"".join(good)


def _all_end_in_delimiter(engine: Engine, source: Source, columns: Sequence[Column], dialect: Dialect) -> bool:
    """Whether all rows that can be read have one field more than the header, and that field is empty."""
    wide = [*columns, Column(_BEHIND, "VARCHAR")]
    empty = replace(dialect, nulls=("",))
    behind = f"SELECT count(*), count({quoted(_BEHIND)}) FROM {raw_csv(source, wide, empty, lenient=True)}"
    ((rows, filled),) = engine.run(behind)
    ((exact,),) = engine.run(f"SELECT count(*) FROM {raw_csv(source, columns, empty, lenient=True)}")
    return bool(rows and not filled and not exact)


def _fitting_csv(engine: Engine, source: Source, columns: Sequence[Column], dialect: Dialect) -> list[Column]:
    rows = raw_csv(source, columns, dialect, lenient=True)
    guesses = [one for one in columns if not one.cast and one.type != "VARCHAR"]
    tests = {one.name: fits_all(one, quoted(one.name), dialect.decimal) for one in guesses}
    numbers = {one.name: fits_all(Column(one.name, "DOUBLE"), quoted(one.name), dialect.decimal) for one in guesses}
    return _refitted(engine, rows, columns, tests, numbers)


def _fitting_json(engine: Engine, source: Source, columns: Sequence[Column]) -> list[Column]:
    if not columns:
        return []
    guesses = [one for one in columns if not one.cast and one.type != "JSON"]
    tests = {one.name: json_fits_all(one, quoted(one.name)) for one in guesses}
    numbers = {one.name: json_fits_all(Column(one.name, "DOUBLE"), quoted(one.name)) for one in guesses}
    rows = raw_ndjson(source, columns, lenient=True)
    refitted = _refitted(engine, rows, columns, tests, numbers)
    texts = [one for one in refitted if one.type == "VARCHAR" and not one.cast]
    mixed = _all_true(engine, rows, {one.name: json_fits_all(one, quoted(one.name)) for one in texts})
    return [Column(one.name, "JSON") if mixed.get(one.name) is False else one for one in refitted]


def _without_values(engine: Engine, source: str, columns: Sequence[Column]) -> list[Column]:
    """Return the columns of a whole body; a column without a value gets no type, so that results from it are null."""
    asked = {one.name: f"count({quoted(one.name)}) > 0" for one in columns if one.type in ("VARCHAR", "JSON")}
    filled = _all_true(engine, source, asked)
    return [one if one.cast or filled.get(one.name, True) else Column(one.name, UNKNOWN) for one in columns]


def _refitted(
    engine: Engine, source: str, columns: Sequence[Column], tests: dict[str, str], numbers: dict[str, str]
) -> list[Column]:
    """Return the columns; one whose values do not fit its guessed type gets the type of numbers, or else of texts.

    A DATE column whose values are also numbers holds only infinities, so it becomes a column of numbers.
    """
    fits = _all_true(engine, source, tests)
    doubted = {one.name for one in columns if not fits.get(one.name, True) or one.type == "DATE"}
    are_numbers = _all_true(engine, source, {name: sql for name, sql in numbers.items() if name in doubted})

    def refit(column: Column) -> Column:
        number = are_numbers.get(column.name, False)
        if column.name not in fits or (fits[column.name] and not (number and column.type == "DATE")):
            return column
        return Column(column.name, _FALLBACKS[0] if number else _FALLBACKS[1])

    return [refit(column) for column in columns]


def _all_true(engine: Engine, source: str, tests: dict[str, str]) -> dict[str, bool]:
    if not tests:
        return {}
    (row,) = engine.run(f"SELECT {', '.join(tests.values())} FROM {source}")
    return {name: value is not False for name, value in zip(tests, row, strict=True)}


def _check_keys(keys: set[str]) -> None:
    if "" in keys:  # DuckDB would read such rows as one column that holds the whole row
        raise BadInput(
            'a key of the first rows is empty ("": ...), and SQL has no name for such a column; rename the key',
            code="bad-header",
        )
    seen: dict[str, str] = {}
    for key in sorted(keys):
        if key.lower() in seen:
            raise BadRequest(
                f"the keys {seen[key.lower()]!r} and {key!r} differ only in letter case, which SQL's names ignore; "
                "rename one of them",
                code="bad-header",
            )
        seen[key.lower()] = key
