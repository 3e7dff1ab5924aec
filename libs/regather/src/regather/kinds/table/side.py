"""The side table of a job: read once, before the cut, and then carried by each shard in front of its rows.

Theory of operation
-------------------
A child reads the whole side table before any shard exists: the one that inspects the body's head, or the one that cuts a
file. So a wrong side table refuses the job, and no shard can differ from another about what it holds. Its types come from
all of its rows, by the rules that the table itself has, since both go through the same splitter, sampling and casts. The
columns that the job reads, packed as an Arrow stream, travel as the plan's second line to the gateway, which puts them in
front of each shard's rows; `RowSpan.header_bytes` says where these begin. A retry, a redrive, a dead letter and the search
for bad rows need nothing else. ADR 0028 has the alternatives.

What a client can cost others is bounded before it is spent: the bytes of the file, what they inflate to, what Parquet
unfolds to, the room that is left for rows, and how much of all records the copies take.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from regather.core.errors import BadInput, BadRequest, PermanentError, UserError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.table.aggregates import check_own_names
from regather.kinds.table.engine import Engine, engine, quoted
from regather.kinds.table.failures import is_of_data, said
from regather.kinds.table.inspection import plan_of
from regather.kinds.table.merging import packed
from regather.kinds.table.options import SidedOptions, SideOptions
from regather.kinds.table.plan import JSON_BYTES, Column, Plan, Reading, SidePlan, TableMeta
from regather.kinds.table.reading import shard_relation
from regather.kinds.table.shards import on_rows
from regather.kinds.table.side_room import MIN_ROWS_BYTES, PARQUET_BYTES, SIDE_BYTES, SIDE_ROWS
from regather.kinds.table.text_input import text_splitter
from regather.processors.base import HEAD_BYTES, Piece, Side, SplitRequest
from regather.processors.splitting.row_packer import RowSpan

_PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 2_048
_IT = "the side table"
OptionsT = TypeVar("OptionsT", bound=SidedOptions)


class Names(NamedTuple):
    """Columns that a job reads, in lower case: of the table, of the side table, and those by which its rows are found.

    `values`: the side table's columns come out beside the table's.
    """

    table: frozenset[str]
    side: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    values: bool = True


ReadNames = Callable[[Engine, OptionsT, Plan], Names]
"""Checks options against a plan and says what they read."""


@dataclass(frozen=True, slots=True)
class SideTable:
    """What was read: columns with their types, and the rows as a pyarrow Table."""

    columns: tuple[Column, ...]
    rows: Any


def sided(engine: Engine, options: OptionsT, plan: Plan, side: Side | None, read: ReadNames[OptionsT]) -> Reading:
    """Return the plan with the side table; BadRequest or BadInput where options, table and side table do not fit."""
    if side is None:
        return Reading(plan, read(engine, options, plan).table)
    table = read_side(side, options.side)
    names = read(engine, options, replace(plan, side=SidePlan(table.columns, table.rows.num_rows)))
    columns = tuple(column for column in table.columns if column.name.lower() in names.side)
    rows = table.rows.select([column.name for column in columns]).combine_chunks()
    content = packed(rows)
    if len(content) > MAX_SHARD_BYTES - MIN_ROWS_BYTES:
        raise BadInput(
            f"{_IT}: the {len(columns)} columns that the job reads of its {rows.num_rows} rows take {len(content)} bytes; "
            f"a shard carries them in front of its rows, and of its {MAX_SHARD_BYTES} bytes {MIN_ROWS_BYTES} stay for rows",
            code="side-too-large",
        )
    return Reading(replace(plan, side=_measured(engine, columns, rows, names)), names.table, content)


def _measured(engine: Engine, columns: tuple[Column, ...], rows: Any, names: Names) -> SidePlan:
    """Return what a plan says of these rows: how many of them match a row of the table, about, and what each adds."""
    keys = ", ".join(quoted(column.name) for column in columns if column.name.lower() in names.keys)
    if not keys or not rows.num_rows:
        return SidePlan(columns, rows.num_rows)
    with engine.arrow("side_rows", rows):
        different = int(engine.run(f"SELECT count(*) FROM (SELECT DISTINCT {keys} FROM side_rows)")[0][0])
    row_bytes = sum(len(column.name.encode()) + JSON_BYTES for column in columns) + rows.nbytes // rows.num_rows
    return SidePlan(columns, rows.num_rows, -(-rows.num_rows // different), row_bytes if names.values else 0)


def read_side(side: Side, options: SideOptions) -> SideTable:
    """Return the side table; BadInput or BadRequest names it, and the row that is wrong."""
    _check_size(len(side.content))
    try:
        if side.content.startswith(_PARQUET_MAGIC) and options.format in ("auto", "parquet"):
            found = _of_parquet(side.content, options)
        else:
            found = _of_text(side, options)
    except UserError as error:
        text = str(error).replace("the body", _IT)
        kind = BadRequest if isinstance(error, BadRequest) else BadInput
        raise kind(text if text.startswith(_IT) else f"{_IT}: {text}", code=error.code) from error
    return _renamed(found, options)


def _check_size(size_bytes: int) -> None:
    if not size_bytes:
        raise BadInput(f"{_IT} is empty: the file `side` has no byte", code="empty-body")
    if size_bytes > SIDE_BYTES:
        raise BadInput(f"{_IT} has {size_bytes} bytes; at most {SIDE_BYTES}", code="side-too-large")


def _of_text(side: Side, options: SideOptions) -> SideTable:
    request = SplitRequest(
        MAX_SHARD_BYTES, content_type=side.content_type, head=side.content[:HEAD_BYTES], max_bytes=SIDE_BYTES
    )
    splitter = text_splitter(options, request)
    pieces = [*splitter.feed(side.content), *splitter.finish()]  # here alone is a limit of what it inflates to
    plan = plan_of(engine(), side.content, options, request, whole=True)
    _check_casts(options, plan.columns)
    return SideTable(plan.columns, _together([_rows(piece, plan, options) for piece in pieces]))


def _rows(piece: Piece, plan: Plan, options: SideOptions) -> Any:
    """Return a piece's rows as a pyarrow Table; BadInput names the row that is wrong."""
    tables: list[Any] = []

    def run(database: Engine, payload: bytes, meta: TableMeta, options: SideOptions) -> bytes:
        names = [column.name for column in meta.plan.columns]
        with shard_relation(database, payload, meta, options, frozenset(name.lower() for name in names)) as relation:
            table = database.table(f"SELECT {', '.join(map(quoted, names)) or '1 AS nothing'} FROM {relation}")
            tables.append(table if names else table.select([]))
        return b""

    try:
        on_rows(piece.payload, TableMeta(RowSpan.decode(piece.meta), plan), options, run)
    except PermanentError as error:
        raise BadInput(f"{_IT}, {error}", code="side-invalid") from error
    return tables[-1]


def _together(tables: list[Any]) -> Any:
    import pyarrow as pa

    return pa.concat_tables(tables)


def _of_parquet(content: bytes, options: SideOptions) -> SideTable:
    database = engine()
    with database.source(content) as source:
        file = f"read_parquet({source.path})"
        try:
            rows = int(database.run(f"SELECT count(*) FROM {file}")[0][0])
            if rows > SIDE_ROWS:
                raise BadInput(f"{_IT} has {rows} rows; at most {SIDE_ROWS}", code="side-too-large")
            columns = _columns_of_parquet(database, file, options)
            values = [f"CAST({quoted(one.name)} AS {one.type}) AS {quoted(one.name)}" for one in columns]
            return SideTable(
                columns, _bounded(database.batches(f"SELECT {', '.join(values)} FROM {file}", _BATCH_ROWS))
            )
        except Exception as error:
            if not is_of_data(error):
                raise
            raise BadInput(f"{_IT}: the Parquet file cannot be read: {said(error)}", code="parquet-invalid") from error


def _columns_of_parquet(database: Engine, file: str, options: SideOptions) -> tuple[Column, ...]:
    casts = {name.lower(): kind for name, kind in options.cast.items()}
    columns = tuple(
        Column(name, casts.get(name.lower(), kind)) for name, kind in database.describe(f"SELECT * FROM {file}")
    )
    _check_casts(options, columns)
    return columns


def _bounded(batches: Any) -> Any:
    """Return the rows of all batches, BadInput where they unfold to too much."""
    import pyarrow as pa

    found, size_bytes = [], 0
    for batch in batches:
        size_bytes += batch.nbytes
        if size_bytes > PARQUET_BYTES:
            raise BadInput(f"{_IT} unfolds to more than {PARQUET_BYTES} bytes of values", code="side-too-large")
        found.append(batch)
    return pa.Table.from_batches(found, batches.schema)


def _check_casts(options: SideOptions, columns: tuple[Column, ...]) -> None:
    for name in options.cast:
        _check_there(name, columns, "cast")


def _check_there(name: str, columns: tuple[Column, ...], what: str) -> None:
    if name.lower() not in {column.name.lower() for column in columns}:
        shown = ", ".join(column.name for column in columns[:20]) or "none"
        raise BadRequest(f"side: {what}: there is no column {name!r} in {_IT}; there are {shown}", code="no-column")


def _renamed(table: SideTable, options: SideOptions) -> SideTable:
    for name in options.rename:
        _check_there(name, table.columns, "rename")
    new = {old.lower(): name for old, name in options.rename.items()}
    columns = tuple(replace(one, name=new.get(one.name.lower(), one.name)) for one in table.columns)
    low = [column.name.lower() for column in columns]
    twice = sorted({name for name in low if low.count(name) > 1})
    if twice:
        raise BadRequest(f"side: rename: two columns of {_IT} would be called {twice[0]!r}", code="bad-option")
    check_own_names(low, _IT)
    return SideTable(columns, table.rows.rename_columns([column.name for column in columns]))
