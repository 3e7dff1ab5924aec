"""A shard's rows as a relation: SQL that reads the payload and gives each column its value and each row its number."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from regather.kinds.table.aggregates import ROW
from regather.kinds.table.engine import Engine, Source, literal, quoted
from regather.kinds.table.fitting import value_of_json, value_of_text
from regather.kinds.table.options import ReadingOptions
from regather.kinds.table.plan import Column, Plan, TableMeta

_ARROW = "shard_rows"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the text of CSV looks, as far as the cut leaves that open: rows end in LF, without header and comments."""

    delimiter: str = ","
    quote: str = '"'
    nulls: tuple[str, ...] = ("",)
    decimal: str = "."


def dialect_of(plan: Plan, options: ReadingOptions) -> Dialect:
    """Return the dialect of a plan's rows."""
    return Dialect(plan.delimiter, options.quote, options.nulls or ("",), options.decimal)


@contextlib.contextmanager
def shard_relation(
    engine: Engine, payload: bytes, meta: TableMeta, options: ReadingOptions, names: frozenset[str]
) -> Iterator[str]:
    """Inside the block the yielded SQL gives the named columns, typed, and the row's number.

    `names` are in lower case.
    """
    if not meta.plan.columns and not meta.span.rows:
        yield no_rows(names)
        return
    columns, first = meta.plan.named(names), meta.span.row0
    content = payload[meta.span.header_bytes :]
    if meta.plan.format == "csv" and content.startswith(_BOM):  # the row's own; DuckDB takes one for the file's
        content = _BOM + content
    if meta.plan.format == "arrow":
        with engine.arrow(_ARROW, _arrow_table(content)):
            yield typed_arrow(columns, first, dict(engine.describe(f"SELECT * FROM {_ARROW}")))
    else:
        with engine.source(content) as source:
            if meta.plan.format == "csv":
                yield typed_csv(source, meta.plan.columns, columns, dialect_of(meta.plan, options), first)
            else:
                yield typed_ndjson(source, columns, first)


def empty_relation(plan: Plan) -> str:
    """Return SQL of a relation with the plan's columns and no row, to check expressions against."""
    fields = [f"CAST(NULL AS {column.type}) AS {quoted(column.name)}" for column in plan.columns]
    return f"(SELECT {', '.join([*fields, f'CAST(NULL AS BIGINT) AS {ROW}'])} WHERE false)"


def no_rows(names: Iterable[str]) -> str:
    """Return SQL of a relation of nulls of no type, with these columns and no row."""
    fields = [f"NULL AS {quoted(name)}" for name in sorted(names)]
    return f"(SELECT {', '.join([*fields, f'CAST(NULL AS BIGINT) AS {ROW}'])} WHERE false)"


def raw_csv(source: Source, columns: Sequence[Column], dialect: Dialect, *, lenient: bool = False) -> str:
    """Return SQL of all columns as texts; `lenient` leaves out rows that are none, as a sample may."""
    types = ", ".join(f"{literal(column.name)}: 'VARCHAR'" for column in columns)
    nulls = ", ".join(map(literal, dialect.nulls))
    quote = literal(dialect.quote)
    return (
        f"read_csv({source.path}, auto_detect = false, header = false, columns = {{{types}}}, "
        f"delim = {literal(dialect.delimiter)}, quote = {quote}, escape = {quote}, new_line = '\\n', comment = '', "
        f"nullstr = [{nulls}], strict_mode = true, max_line_size = {source.buffer_bytes}, "
        f"buffer_size = {source.buffer_bytes}, ignore_errors = {lenient})"
    )


def typed_csv(
    source: Source, all_columns: Sequence[Column], columns: Sequence[Column], dialect: Dialect, first: int
) -> str:
    """Return SQL of the columns with their values."""
    values = [
        f"{value_of_text(column, quoted(column.name), dialect.decimal)} AS {quoted(column.name)}" for column in columns
    ]
    return _numbered(raw_csv(source, all_columns, dialect), columns, values, first)


def raw_ndjson(source: Source, columns: Sequence[Column], *, lenient: bool = False) -> str:
    """Return SQL of these columns as JSON; `lenient` leaves out what a sample may leave out."""
    types = ", ".join(f"{literal(column.name)}: 'JSON'" for column in columns)
    return (
        f"read_json({source.path}, format = 'newline_delimited', auto_detect = false, columns = {{{types}}}, "
        f"maximum_object_size = {source.buffer_bytes}, ignore_errors = {lenient})"
    )


def json_objects(source: Source, *, lenient: bool = False) -> str:
    """Return SQL of each line of NDJSON as one JSON value, `json`."""
    limits = f"maximum_object_size = {source.buffer_bytes}, ignore_errors = {lenient}"
    return f"read_json_objects({source.path}, format = 'newline_delimited', {limits})"


def typed_ndjson(source: Source, columns: Sequence[Column], first: int) -> str:
    """Return SQL of the columns with their values; a key that a row lacks is null."""
    values = [f"{value_of_json(column, quoted(column.name))} AS {quoted(column.name)}" for column in columns]
    rows = raw_ndjson(source, columns) if columns else json_objects(source)
    return _numbered(rows, columns, values, first)


def typed_arrow(columns: Sequence[Column], first: int, found: dict[str, str]) -> str:
    """Return SQL of the columns with their values, casts done. `found` are the types of the shard's own columns."""
    values = [f"{value_of_arrow(column, found[column.name])} AS {quoted(column.name)}" for column in columns]
    return _numbered(_ARROW, columns, values, first)


def value_of_arrow(column: Column, found: str) -> str:
    """Return SQL for the value of a column that has a type of its own already; `found` is that."""
    name = quoted(column.name)
    if column.type == found:
        return name
    if found == "VARCHAR" or found.startswith(("DECIMAL", "DOUBLE", "FLOAT")):
        return value_of_text(column, f"CAST({name} AS VARCHAR)")
    return f"CAST({name} AS {column.type})"


def _numbered(source: str, columns: Sequence[Column], values: Sequence[str], first: int) -> str:
    names = [quoted(column.name) for column in columns]
    number = f"row_number() OVER () + {first - 1} AS {ROW}"
    return f"(SELECT {', '.join([*values, ROW])} FROM (SELECT {', '.join([*names, number])} FROM {source}))"


def _arrow_table(content: bytes) -> object:
    import pyarrow as pa

    return pa.ipc.open_stream(content).read_all()
