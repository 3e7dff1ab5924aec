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

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
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
from regather.kinds.table.reading import shard_relation, value_of_arrow
from regather.kinds.table.shards import on_rows
from regather.kinds.table.side_room import MIN_ROWS_BYTES, PARQUET_BYTES, SIDE_BYTES, SIDE_ROWS
from regather.kinds.table.text_input import text_splitter
from regather.processors.base import HEAD_BYTES, Side, SplitRequest
from regather.processors.splitting.row_packer import RowSpan

_PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 2_048
_PIECE_BYTES = 1024 * 1024
"""Rows are read in pieces of this size, so that a bad row is looked for in one of them."""

_LENGTHS = {"VARCHAR": "strlen", "BLOB": "octet_length"}
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
    """A side table of which the types are known: its columns as the job calls them, and how many rows it has.

    `read` gives the rows of columns with these names (the file's own, in lower case) as a pyarrow Table.
    """

    columns: tuple[Column, ...]
    rows: int
    read: Callable[[frozenset[str]], Any]


def sided(engine: Engine, options: OptionsT, plan: Plan, side: Side | None, read: ReadNames[OptionsT]) -> Reading:
    """Return the plan with the side table; BadRequest or BadInput where options, table and side table do not fit."""
    if side is None:
        return Reading(plan, read(engine, options, plan).table)
    with _about_side():
        table = _opened(side, options.side)
    columns = _renamed(table.columns, options.side)
    try:
        names = read(engine, options, replace(plan, side=SidePlan(columns, table.rows)))
    except BadRequest:  # rows that are none may be why types do not fit: they are named first
        with _about_side():
            table.read(frozenset(column.name.lower() for column in table.columns[:1]))
        raise
    kept = [index for index, column in enumerate(columns) if column.name.lower() in names.side]
    with _about_side():
        rows = table.read(frozenset(table.columns[index].name.lower() for index in kept))
    columns = tuple(columns[index] for index in kept)
    rows = rows.rename_columns([column.name for column in columns]).combine_chunks()
    content = packed(rows)
    if len(content) > MAX_SHARD_BYTES - MIN_ROWS_BYTES:
        raise BadInput(
            f"{_IT}: the {len(columns)} columns that the job reads of its {table.rows} rows take {len(content)} bytes; a "
            f"shard carries them in front of its rows, and of its {MAX_SHARD_BYTES} bytes {MIN_ROWS_BYTES} stay for rows",
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


@contextlib.contextmanager
def _about_side() -> Iterator[None]:
    """Let errors inside the block say that the side table is meant."""
    try:
        yield
    except UserError as error:
        text = str(error).replace("the body", _IT)
        kind = BadRequest if isinstance(error, BadRequest) else BadInput
        raise kind(text if text.startswith(_IT) else f"{_IT}: {text}", code=error.code) from error


def _opened(side: Side, options: SideOptions) -> SideTable:
    if not side.content:
        raise BadInput(f"{_IT} is empty: the file `side` has no byte", code="empty-body")
    if len(side.content) > SIDE_BYTES:
        raise BadInput(f"{_IT} has {len(side.content)} bytes; at most {SIDE_BYTES}", code="side-too-large")
    if side.content.startswith(_PARQUET_MAGIC) and options.format in ("auto", "parquet"):
        return _parquet(side.content, options)
    return _text(side, options)


def _text(side: Side, options: SideOptions) -> SideTable:
    request = SplitRequest(
        _PIECE_BYTES, content_type=side.content_type, head=side.content[:HEAD_BYTES], max_bytes=SIDE_BYTES
    )
    splitter = text_splitter(options, request)
    pieces = [*splitter.feed(side.content), *splitter.finish()]  # here alone is a limit of what it inflates to
    plan = plan_of(engine(), side.content, options, request, whole=True)
    spans = [RowSpan.decode(piece.meta) for piece in pieces]

    def read(names: frozenset[str]) -> Any:
        import pyarrow as pa

        payloads = [piece.payload for piece in pieces]
        read_piece = partial(_rows, plan=plan, options=options, names=names)
        return pa.concat_tables(list(map(read_piece, payloads, spans)))

    return SideTable(plan.columns, sum(span.rows for span in spans), read)


def _rows(payload: bytes, span: RowSpan, *, plan: Plan, options: SideOptions, names: frozenset[str]) -> Any:
    """Return a piece's rows as a pyarrow Table; BadInput names the row that is wrong."""
    tables: list[Any] = []
    columns = ", ".join(quoted(column.name) for column in plan.named(names))

    def run(database: Engine, payload: bytes, meta: TableMeta, options: SideOptions) -> bytes:
        with shard_relation(database, payload, meta, options, names) as relation:
            tables.append(database.table(f"SELECT {columns} FROM {relation}"))
        return b""

    try:
        on_rows(payload, TableMeta(span, plan), options, run)
    except PermanentError as error:
        raise BadInput(f"{_IT}, {error}", code="side-invalid") from error
    return tables[-1]


def _parquet(content: bytes, options: SideOptions) -> SideTable:
    casts = {name.lower(): kind for name, kind in options.cast.items()}
    with _parquet_file(content) as (database, file):
        rows = int(database.run(f"SELECT count(*) FROM {file}")[0][0])
        found = database.describe(f"SELECT * FROM {file}")
    if rows > SIDE_ROWS:
        raise BadInput(f"{_IT} has {rows} rows; at most {SIDE_ROWS}", code="side-too-large")
    columns = tuple(Column(name, casts.get(name.lower(), kind), name.lower() in casts) for name, kind in found)

    def read(names: frozenset[str]) -> Any:
        kept = [(column, kind) for column, (name, kind) in zip(columns, found, strict=True) if name.lower() in names]
        with _parquet_file(content) as (database, file):
            _check_texts(database, file, {column.name: kind for column, kind in kept})
            values = [f"{value_of_arrow(column, kind)} AS {quoted(column.name)}" for column, kind in kept]
            return _bounded(database.batches(f"SELECT {', '.join(values)} FROM {file}", _BATCH_ROWS))

    return SideTable(columns, rows, read)


@contextlib.contextmanager
def _parquet_file(content: bytes) -> Iterator[tuple[Engine, str]]:
    """Inside the block SQL can read the file; BadInput for what is wrong with it."""
    database = engine()
    with database.source(content) as source:
        try:
            yield database, f"read_parquet({source.path})"
        except Exception as error:
            if isinstance(error, UserError) or not is_of_data(error):
                raise
            raise BadInput(f"the Parquet file cannot be read: {said(error)}", code="parquet-invalid") from error


def _check_texts(database: Engine, file: str, kinds: Mapping[str, str]) -> None:
    """Refuse texts that unfold to too much before any of them does: a dictionary may repeat a long one."""
    lengths = [f"{_LENGTHS[kind]}({quoted(name)})" for name, kind in kinds.items() if kind in _LENGTHS]
    if lengths:
        total = " + ".join(f"coalesce(sum({length}), 0)" for length in lengths)
        _check_unfolded(int(database.run(f"SELECT {total} FROM {file}")[0][0]))


def _bounded(batches: Any) -> Any:
    """Return the rows of all batches, BadInput where they unfold to too much."""
    import pyarrow as pa

    found, size_bytes = [], 0
    for batch in batches:
        size_bytes += batch.nbytes
        _check_unfolded(size_bytes)
        found.append(batch)
    return pa.Table.from_batches(found, batches.schema)


def _check_unfolded(size_bytes: int) -> None:
    if size_bytes > PARQUET_BYTES:
        raise BadInput(f"{_IT} unfolds to more than {PARQUET_BYTES} bytes of values", code="side-too-large")


def _renamed(columns: tuple[Column, ...], options: SideOptions) -> tuple[Column, ...]:
    """Return the columns as the job calls them; BadRequest for a name in the options that the side table has not."""
    for what, names in (("cast", options.cast), ("rename", options.rename)):
        missing = sorted(name for name in names if name.lower() not in {column.name.lower() for column in columns})
        if missing:
            shown = ", ".join(column.name for column in columns[:20]) or "none"
            raise BadRequest(
                f"side: {what}: there is no column {missing[0]!r} in {_IT}; there are {shown}", code="no-column"
            )
    new = {old.lower(): name for old, name in options.rename.items()}
    renamed = tuple(replace(one, name=new.get(one.name.lower(), one.name)) for one in columns)
    twice = [name for name, count in Counter(column.name.lower() for column in renamed).items() if count > 1]
    if twice:
        raise BadRequest(f"side: rename: two columns of {_IT} would be called {twice[0]!r}", code="bad-option")
    check_own_names((column.name for column in renamed), _IT)
    return renamed
