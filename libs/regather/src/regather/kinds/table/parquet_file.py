"""Cuts Parquet files by rows; runs in a killable child. Columns that the job does not read are left out.

If possible, and if the client asked for no size, a shard has whole row groups as they are in the file
(`parquet/slices.py`). Otherwise DuckDB decodes the rows, and shards are Arrow streams. In both cases types and values
are DuckDB's.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from regather.core.errors import BadInput
from regather.core.sharding import MAX_SHARD_BYTES, check_asked_shards
from regather.kinds.table.engine import Engine, engine, literal, quoted, reader
from regather.kinds.table.failures import said
from regather.kinds.table.parquet.footer import NoSlices, alone
from regather.kinds.table.parquet.slices import Slice, slices
from regather.kinds.table.plan import Column, Plan, Reading, RowUse, TableMeta
from regather.kinds.table.shard_rows import behind
from regather.kinds.table.side_room import fitted
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.row_packer import RowSpan

PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 122_880
_OUTPUT_BYTES = 8 * 1024 * 1024
_SHARD_BYTES = 8 * 1024 * 1024
"""Default size of a shard in Arrow's memory; the packed shard is smaller."""


class ParquetSplitter:
    """Cuts a file into shards of whole rows, with only the columns that the job reads.

    `cast` are the types that the client asks for; `read` checks the plan and returns what the job reads of table and
    side table. BadInput if the file is not Parquet, is cut off or damaged, or has rows that fit no shard; BadRequest if
    options and columns do not fit together.
    """

    def __init__(self, request: SplitRequest, cast: Mapping[str, str], read: Callable[[Engine, Plan], Reading]) -> None:
        self._request = request
        self._cast = {name.lower(): kind for name, kind in cast.items()}
        self._read = read

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the shards in order; a file without rows gives one shard without rows."""
        try:
            plan = self._plan(path)
            found = self._read(engine(), plan)
            pieces = self._slices(path, plan, found.use) if not found.packed else None
            yield from self._decoded(path, found) if pieces is None else pieces
        except _errors() as error:
            raise BadInput(f"the Parquet file cannot be read: {said(error)}", code="parquet-invalid") from error

    def _decoded(self, path: Path, found: Reading) -> Iterator[Piece]:
        database, source = reader(path), _source(path)
        if found.packed:
            self._request = fitted(self._request, len(found.packed), _SHARD_BYTES)
        total = int(database.run(f"SELECT count(*) FROM {source}")[0][0])
        columns, output_bytes = found.plan.named(found.use.names), found.use.output_bytes
        plan = Plan("arrow", columns, row_output_bytes=output_bytes, side=found.plan.side)
        for piece in self._pieces(database, source, plan, total):
            yield behind(found.packed, piece)

    def _slices(self, path: Path, plan: Plan, use: RowUse) -> Iterator[Piece] | None:
        """Return the pieces as row groups, or None if the file has to be decoded."""
        if self._request.shards is not None or self._request.shard_size_bytes is not None:
            return None
        found = slices(path, [column.name for column in plan.columns], use)
        try:
            first = next(found)
        except NoSlices:
            return None
        columns = plan.named(use.names)
        return (_sliced(part, Plan("parquet", columns)) for part in chain([first], found))

    def _plan(self, path: Path) -> Plan:
        return Plan("arrow", tuple(self._column(name, kind) for name, kind in _columns(path)))

    def _column(self, name: str, kind: str) -> Column:
        asked = self._cast.get(name.lower(), kind)
        return Column(name, asked, cast=asked != kind)

    def _pieces(self, database: Engine, source: str, plan: Plan, total: int) -> Iterator[Piece]:
        names = ", ".join(quoted(column.name) for column in plan.columns) or '1 AS "$none"'
        tables = _Tables(database.batches(f"SELECT {names} FROM {source}", _BATCH_ROWS))
        if not total:
            yield _piece(tables.empty(), 0, plan)
            return
        first = 0
        for rows in self._sizes(tables, total, plan):
            yield _piece(tables.take(rows), first, plan)
            first += rows
        if tables.take(1).num_rows or first != total:
            raise BadInput(f"the file says that it has {total} rows, but has others", code="parquet-invalid")

    def _sizes(self, tables: "_Tables", total: int, plan: Plan) -> Iterator[int]:
        """Yield how many rows each shard has: even shards by count, or as many of the next rows as fit."""
        request = self._request
        if request.shards is not None:
            check_asked_shards(request.shards)
            if request.shards > total:
                raise BadInput(f"shards={request.shards} is more than the {total} rows of the file", code="bad-split")
            yield from ((total + later) // request.shards for later in reversed(range(request.shards)))
            return
        size_bytes = _SHARD_BYTES if request.shard_size_bytes is None else request.shard_size_bytes
        left = total
        while left:
            rows = min(left, tables.rows_of(size_bytes), _most_rows(plan))
            shards = -(-left // rows) if left < 2 * rows else 0
            rows = -(-left // shards) if shards else rows  # the last two share what is left, so that none is tiny
            yield rows
            left -= rows


class _Tables:
    """The file's rows in order, as Arrow tables of any length."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self._held = self.empty()

    def empty(self) -> Any:
        return self._batches.schema.empty_table()

    def rows_of(self, size_bytes: int) -> int:
        """Return how many of the next rows have about this many bytes; at least one."""
        if not self._held.num_rows:
            self._read()
        row_bytes = max(1.0, self._held.nbytes / max(1, self._held.num_rows))
        return max(1, int(size_bytes / row_bytes))

    def take(self, rows: int) -> Any:
        """Return the next rows; fewer at the end of the file."""
        while self._held.num_rows < rows and self._read():
            pass
        taken, self._held = self._held.slice(0, rows), self._held.slice(rows)
        return taken

    def _read(self) -> bool:
        import pyarrow as pa

        batch = next(self._batches, None)
        if batch is None:
            return False
        self._held = pa.concat_tables([self._held, pa.Table.from_batches([batch], self._held.schema)])
        return True


def _columns(path: Path) -> list[tuple[str, str]]:
    """Return name and type of each column, as DuckDB has them.

    A file of only this footer gives the same answer, and does not need an engine that may open this path. The footer is
    not changed, so DuckDB refuses what is wrong in it, although shards have footers of their own.
    """
    with (
        contextlib.suppress(NoSlices, *_errors()),
        path.open("rb") as file,
        engine().source(alone(file)) as source,
    ):
        return engine().describe(f"SELECT * FROM read_parquet({source.path})")
    return reader(path).describe(f"SELECT * FROM {_source(path)}")


def _source(path: Path) -> str:
    return f"read_parquet({literal(str(path))})"


def _most_rows(plan: Plan) -> int:
    """Return how many rows' output surely fits; each row repeats the names of all columns that are read or come out."""
    read_bytes = 16 + sum(len(column.name) + 24 for column in plan.columns)
    return max(1, _OUTPUT_BYTES // plan.output_bytes(1, max(0, read_bytes - plan.row_output_bytes)))


def _piece(table: Any, first: int, plan: Plan) -> Piece:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        stream.write_table(table.combine_chunks())
    payload = sink.getvalue().to_pybytes()
    if len(payload) > MAX_SHARD_BYTES:
        raise BadInput(
            f"rows from {first} on have {len(payload)} bytes as a shard of {table.num_rows} rows, above {MAX_SHARD_BYTES}: "
            "ask for a smaller shard_size, or for more shards",
            code="row-too-large",
        )
    return Piece(payload, TableMeta(RowSpan(first, table.num_rows, 0, "arrow"), plan).encode())


def _sliced(part: Slice, plan: Plan) -> Piece:
    return Piece(part.content, TableMeta(RowSpan(part.row0, part.rows, 0, "parquet"), plan).encode())


def _errors() -> tuple[type[Exception], ...]:
    import duckdb
    import pyarrow as pa

    return duckdb.Error, pa.ArrowException, OSError
