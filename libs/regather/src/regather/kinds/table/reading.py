"""A shard's rows as a relation: SQL that reads the payload and returns each column's value and each row's number."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from regather.kinds.table.aggregates import ROW
from regather.kinds.table.engine import Engine, Source, literal, quoted
from regather.kinds.table.fitting import NATIVE, value_of_json, value_of_text
from regather.kinds.table.json_rows import asks_for_text, check_objects, number_texts, text_name
from regather.kinds.table.options import ReadingOptions
from regather.kinds.table.plan import Column, Plan, TableMeta

_ARROW, _TEXTS = "shard_rows", "number_texts"
_FIRST_ROW = "first_row"
_UNDERSCORE = b"_"
"""The only character that DuckDB accepts in a double and `fitting.py` does not."""
_BOM = b"\xef\xbb\xbf"
_NO_TEXT, _EMPTY = "chr(0)", "''"  # the cut refuses NUL


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the text of a CSV shard looks. The splitter has made each row end in LF, and dropped header and comments."""

    delimiter: str = ","
    quote: str = '"'
    nulls: tuple[str, ...] = ("",)
    decimal: str = "."
    ends_in_delimiter: bool = False
    """Rows may have empty fields after the last column; otherwise an extra field is an error of its row."""
    empty_rows: bool = False
    """An empty row is a row with one empty field."""


def dialect_of(plan: Plan, options: ReadingOptions) -> Dialect:
    """Return the dialect of a plan's rows."""
    return Dialect(plan.delimiter, options.quote, options.nulls or ("",), options.decimal, plan.ends_in_delimiter)


@contextlib.contextmanager
def shard_relation(
    engine: Engine,
    payload: bytes,
    meta: TableMeta,
    options: ReadingOptions,
    names: frozenset[str],
    *,
    quick: bool = False,
) -> Iterator[str]:
    """Yield SQL, valid inside the block, for the named columns with their types, and for the row's number.

    `names` are in lower case. `quick`: the same values at less cost, but errors may not name the column.
    """
    if not meta.plan.columns and not meta.span.rows:
        yield no_rows(names)
        return
    columns = meta.plan.named(names)
    engine.let(_FIRST_ROW, meta.span.row0)
    content = payload[meta.span.header_bytes :]
    if meta.plan.format == "csv" and content.startswith(_BOM):  # it is part of the row; DuckDB drops one as the file's
        content = _BOM + content
    if meta.plan.format == "arrow":
        with engine.arrow(_ARROW, _arrow_table(content)):
            yield typed_arrow(columns, dict(engine.describe(f"SELECT * FROM {_ARROW}")))
    else:
        if meta.plan.format == "ndjson":
            check_objects(content, meta.span.rows)
            texts = number_texts(content, [column for column in columns if asks_for_text(column)])
        with engine.source(content) as source:
            if meta.plan.format == "parquet":
                yield typed_parquet(source, columns, _types_of_parquet(engine, source, columns))
            elif meta.plan.format == "csv":
                dialect = _fit_for_empty_rows(engine, source, content, meta.plan, dialect_of(meta.plan, options))
                native = quick and options.decimal == "." and _UNDERSCORE not in content and not dialect.empty_rows
                yield typed_csv(source, meta.plan.columns, columns, dialect, native=native)
            elif texts is None:
                yield typed_ndjson(source, columns)
            else:
                with engine.arrow(_TEXTS, texts):
                    yield typed_ndjson(source, columns, frozenset(texts.column_names))


def _fit_for_empty_rows(engine: Engine, source: Source, content: bytes, plan: Plan, dialect: Dialect) -> Dialect:
    """Return the dialect in which DuckDB keeps the empty rows of a table of one column, if there may be any.

    DuckDB keeps them if an empty field is null, but then it does not report extra empty fields. So if a row may have
    some, the rows are first read in the strict dialect, in which extra fields are an error.
    """
    if len(plan.columns) != 1 or dialect.ends_in_delimiter or not (content.startswith(b"\n") or b"\n\n" in content):
        return dialect
    if f"{dialect.delimiter}\n".encode() in content:
        engine.run(f"SELECT count(*) FROM {raw_csv(source, plan.columns, dialect)}")
    return replace(dialect, empty_rows=True)


def _types_of_parquet(engine: Engine, source: Source, columns: Sequence[Column]) -> dict[str, str]:
    """Return the columns' types in the file, which are the plan's except where the client asked for a cast."""
    if not any(column.cast for column in columns):
        return {column.name: column.type for column in columns}
    return dict(engine.describe(f"SELECT * FROM read_parquet({source.path})"))


def empty_relation(plan: Plan) -> str:
    """Return SQL for a relation with the plan's columns and no rows, to check expressions against."""
    fields = [f"CAST(NULL AS {column.type}) AS {quoted(column.name)}" for column in plan.columns]
    return f"(SELECT {', '.join([*fields, f'CAST(NULL AS BIGINT) AS {ROW}'])} WHERE false)"


def no_rows(names: Iterable[str]) -> str:
    """Return SQL for a relation with these columns, which are null without a type, and no rows."""
    fields = [f"NULL AS {quoted(name)}" for name in sorted(names)]
    return f"(SELECT {', '.join([*fields, f'CAST(NULL AS BIGINT) AS {ROW}'])} WHERE false)"


def raw_csv(
    source: Source, columns: Sequence[Column], dialect: Dialect, *, lenient: bool = False, native: bool = False
) -> str:
    """Return SQL for all columns as texts; `lenient` drops malformed rows, as a sample may.

    `native`: columns of doubles are read as doubles, with the same values as by a cast; a null is then an error.
    """
    types = ", ".join(f"{literal(column.name)}: '{_type_of_csv(column, native=native)}'" for column in columns)
    quote = literal(dialect.quote)
    rows = (
        f"read_csv({source.path}, auto_detect = false, header = false, columns = {{{types}}}, "
        f"delim = {literal(dialect.delimiter)}, quote = {quote}, escape = {quote}, new_line = '\\n', comment = '', "
        f"nullstr = [{_EMPTY if _nulls_empty(dialect) else _NO_TEXT}], strict_mode = true, "
        f"max_line_size = {source.buffer_bytes}, buffer_size = {source.buffer_bytes}, ignore_errors = {lenient})"
    )
    values = ", ".join(
        _or_null(quoted(column.name), dialect)
        if _type_of_csv(column, native=native) == "VARCHAR"
        else quoted(column.name)
        for column in columns
    )
    return f"(SELECT {values} FROM {rows})"


def _or_null(name: str, dialect: Dialect) -> str:
    """Return SQL for a field as a text, or null.

    DuckDB could find nulls itself, but it silently drops fields after the last column if they are null. So it is told
    of no null text, or, if rows end in a delimiter or are empty, only of the empty one.
    """
    text = f"coalesce({name}, {_EMPTY})" if _nulls_empty(dialect) else name
    condition = " AND ".join(f"{text} <> {literal(null)}" for null in dialect.nulls)  # IN is slower for few values
    return f"CASE WHEN {condition} THEN {text} END AS {name}"


def _nulls_empty(dialect: Dialect) -> bool:
    return dialect.ends_in_delimiter or dialect.empty_rows


def _type_of_csv(column: Column, *, native: bool) -> str:
    return column.type if native and column.type in NATIVE else "VARCHAR"


def typed_csv(
    source: Source, all_columns: Sequence[Column], columns: Sequence[Column], dialect: Dialect, *, native: bool = False
) -> str:
    """Return SQL for the columns with their values; `native` as in raw_csv()."""
    values = [
        quoted(column.name)
        if _type_of_csv(column, native=native) == column.type
        else f"{value_of_text(column, quoted(column.name), dialect.decimal)} AS {quoted(column.name)}"
        for column in columns
    ]
    return _numbered(raw_csv(source, all_columns, dialect, native=native), columns, values)


def raw_ndjson(source: Source, columns: Sequence[Column], *, lenient: bool = False) -> str:
    """Return SQL for these columns as JSON; `lenient` drops malformed rows, as a sample may."""
    types = ", ".join(f"{literal(column.name)}: 'JSON'" for column in columns)
    return (
        f"read_json({source.path}, format = 'newline_delimited', auto_detect = false, columns = {{{types}}}, "
        f"records = true, maximum_object_size = {source.buffer_bytes}, ignore_errors = {lenient})"
    )


def json_objects(source: Source, *, lenient: bool = False) -> str:
    """Return SQL for each line of NDJSON as one JSON value, `json`."""
    limits = f"maximum_object_size = {source.buffer_bytes}, ignore_errors = {lenient}"
    return f"read_json_objects({source.path}, format = 'newline_delimited', {limits})"


def typed_ndjson(source: Source, columns: Sequence[Column], texts: frozenset[str] = frozenset()) -> str:
    """Return SQL for the columns with their values; a missing key is null. `texts` are column names of number_texts()."""
    written = {column: quoted(text_name(column)) if text_name(column) in texts else "" for column in columns}
    values = [
        f"{value_of_json(column, quoted(column.name), text)} AS {quoted(column.name)}"
        for column, text in written.items()
    ]
    rows = raw_ndjson(source, columns) if columns else json_objects(source)
    if texts:
        rows = f"{rows} POSITIONAL JOIN {_TEXTS}"
    return _numbered(rows, [*columns, *(Column(name, "VARCHAR") for name in sorted(texts))], values)


def typed_arrow(columns: Sequence[Column], found: dict[str, str]) -> str:
    """Return SQL for the columns with their values after casts. `found` are the types of the shard's own columns."""
    values = [f"{value_of_arrow(column, found[column.name])} AS {quoted(column.name)}" for column in columns]
    return _numbered(_ARROW, columns, values)


def typed_parquet(source: Source, columns: Sequence[Column], found: dict[str, str]) -> str:
    """Return the same as typed_arrow() for Parquet row groups; the SQL states all types for Engine.table_again()."""
    values = [f"CAST({value_of_arrow(one, found[one.name])} AS {one.type}) AS {quoted(one.name)}" for one in columns]
    number = f"file_row_number + CAST(getvariable('{_FIRST_ROW}') AS BIGINT) AS {ROW}"
    return f"(SELECT {', '.join([*values, number])} FROM read_parquet({source.path}, file_row_number = true))"


def value_of_arrow(column: Column, found: str) -> str:
    """Return SQL for the value of a column that already has a type, `found`."""
    name = quoted(column.name)
    if column.type == found:
        return name
    if found == "VARCHAR" or found.startswith(("DECIMAL", "DOUBLE", "FLOAT")):
        return value_of_text(column, f"CAST({name} AS VARCHAR)")
    return f"CAST({name} AS {column.type})"


def _numbered(source: str, columns: Sequence[Column], values: Sequence[str]) -> str:
    names = [quoted(column.name) for column in columns]
    number = f"row_number() OVER () - 1 + CAST(getvariable('{_FIRST_ROW}') AS BIGINT) AS {ROW}"
    return f"(SELECT {', '.join([*values, ROW])} FROM (SELECT {', '.join([*names, number])} FROM {source}))"


def _arrow_table(content: bytes) -> object:
    import pyarrow as pa

    return pa.ipc.open_stream(content).read_all()
