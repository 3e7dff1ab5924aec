"""Reads a side table's file: text with the table's own splitter, sampling and casts, or Parquet; runs in a child.

A small file may unpack to a large table, so each limit of `side_room.py` is checked before the memory is used.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from regather.core.errors import BadInput, BadRequest, PermanentError, UserError
from regather.kinds.table.bad_rows import on_rows
from regather.kinds.table.engine import Engine, engine, quoted
from regather.kinds.table.failures import is_of_data, said
from regather.kinds.table.inspection import plan_of
from regather.kinds.table.options import SideOptions
from regather.kinds.table.plan import Column, Plan, TableMeta
from regather.kinds.table.reading import shard_relation, value_of_arrow
from regather.kinds.table.side_room import PARQUET_BYTES, SIDE_BYTES, SIDE_ROWS
from regather.kinds.table.text_input import text_splitter
from regather.processors.base import HEAD_BYTES, Side, SplitRequest
from regather.processors.splitting.row_packer import RowSpan

_PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 2_048
_PIECE_BYTES = 1024 * 1024
"""Rows are read in pieces of this size, so that the search for a bad row covers only one of them."""

_LENGTHS = {"VARCHAR": "strlen", "BLOB": "octet_length"}
IT = "the side table"


@dataclass(frozen=True, slots=True)
class SideTable:
    """A side table with known types: its columns, with the file's own names, and its number of rows.

    `read` returns the columns with these names (the file's own, in lower case) as a pyarrow Table.
    """

    columns: tuple[Column, ...]
    rows: int
    read: Callable[[frozenset[str]], Any]


@contextlib.contextmanager
def about_side() -> Iterator[None]:
    """Make errors inside the block say that they are about the side table."""
    try:
        yield
    except UserError as error:
        text = str(error).replace("the body", IT)
        kind = BadRequest if isinstance(error, BadRequest) else BadInput
        raise kind(text if text.startswith(IT) else f"{IT}: {text}", code=error.code) from error


def opened(side: Side, options: SideOptions) -> SideTable:
    """Return a side table with its types; BadInput or BadRequest if the file is not a table, or too large."""
    if not side.content:
        raise BadInput(f"{IT} is empty: the file `side` has no bytes", code="empty-body")
    if len(side.content) > SIDE_BYTES:
        raise BadInput(f"{IT} has {len(side.content)} bytes; at most {SIDE_BYTES}", code="side-too-large")
    if side.content.startswith(_PARQUET_MAGIC) and options.format in ("auto", "parquet"):
        return _parquet(side.content, options)
    return _text(side, options)


def _text(side: Side, options: SideOptions) -> SideTable:
    request = SplitRequest(
        _PIECE_BYTES, content_type=side.content_type, head=side.content[:HEAD_BYTES], max_bytes=SIDE_BYTES
    )
    splitter = text_splitter(options, request)
    pieces = [*splitter.feed(side.content), *splitter.finish()]  # only this splitter limits the inflated size
    plan = plan_of(engine(), side.content, options, request, whole=True)
    spans = [RowSpan.decode(piece.meta) for piece in pieces]

    def read(names: frozenset[str]) -> Any:
        import pyarrow as pa

        payloads = [piece.payload for piece in pieces]
        read_piece = partial(_rows, plan=plan, options=options, names=names)
        return pa.concat_tables(list(map(read_piece, payloads, spans)))

    return SideTable(plan.columns, sum(span.rows for span in spans), read)


def _rows(payload: bytes, span: RowSpan, *, plan: Plan, options: SideOptions, names: frozenset[str]) -> Any:
    """Return a piece's rows as a pyarrow Table; BadInput names the bad row."""
    tables: list[Any] = []
    columns = ", ".join(quoted(column.name) for column in plan.named(names))

    def run(database: Engine, payload: bytes, meta: TableMeta, options: SideOptions) -> bytes:
        with shard_relation(database, payload, meta, options, names) as relation:
            tables.append(database.table(f"SELECT {columns} FROM {relation}"))
        return b""

    try:
        on_rows(payload, TableMeta(span, plan), options, run)
    except PermanentError as error:
        raise BadInput(f"{IT}, {error}", code="side-invalid") from error
    return tables[-1]


def _parquet(content: bytes, options: SideOptions) -> SideTable:
    casts = {name.lower(): kind for name, kind in options.cast.items()}
    with _parquet_file(content) as (database, file):
        rows = int(database.run(f"SELECT count(*) FROM {file}")[0][0])
        found = database.describe(f"SELECT * FROM {file}")
    if rows > SIDE_ROWS:
        raise BadInput(f"{IT} has {rows} rows; at most {SIDE_ROWS}", code="side-too-large")
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
    """Yield an engine and SQL, valid inside the block, that reads the file; BadInput if the file is wrong."""
    database = engine()
    with database.source(content) as source:
        try:
            yield database, f"read_parquet({source.path})"
        except Exception as error:
            if isinstance(error, UserError) or not is_of_data(error):
                raise
            raise BadInput(f"the Parquet file cannot be read: {said(error)}", code="parquet-invalid") from error


def _check_texts(database: Engine, file: str, kinds: Mapping[str, str]) -> None:
    """Refuse texts that would unpack to too much before any of them does: a dictionary may repeat a long text."""
    lengths = [f"{_LENGTHS[kind]}({quoted(name)})" for name, kind in kinds.items() if kind in _LENGTHS]
    if lengths:
        total = " + ".join(f"coalesce(sum({length}), 0)" for length in lengths)
        _check_unfolded(int(database.run(f"SELECT {total} FROM {file}")[0][0]))


def _bounded(batches: Any) -> Any:
    """Return the rows of all batches; BadInput if they unpack to too much."""
    import pyarrow as pa

    found, size_bytes = [], 0
    for batch in batches:
        size_bytes += batch.nbytes
        _check_unfolded(size_bytes)
        found.append(batch)
    return pa.Table.from_batches(found, batches.schema)


def _check_unfolded(size_bytes: int) -> None:
    if size_bytes > PARQUET_BYTES:
        raise BadInput(f"{IT} unpacks to more than {PARQUET_BYTES} bytes of values", code="side-too-large")
