"""Shards with a plan: cuts them so that their outputs fit a record, and picks some of their rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from regather.core.errors import BadInput, PermanentError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.table.options import ReadingOptions
from regather.kinds.table.plan import Plan, TableMeta
from regather.processors.base import Piece, ShardRows, SplitRequest, Splitter
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.shard_rows import ArrowRows, TextRows
from regather.processors.splitting.text_rows import NDJSON, csv_dialect

_OUTPUT_BYTES = 8 * 1024 * 1024  # below the 10 MiB of a record, because values may grow when written as JSON


class PlannedSplitter:
    """A splitter of text whose pieces carry the plan, and whose outputs fit a record.

    Column names and states of groups make an output larger than its shard. A piece whose output may be too large is cut
    again at row ends; BadInput if the client asked for an exact number of shards. `values`: the output has the shard's
    own values, beside what the plan adds per row.
    """

    def __init__(self, inner: Splitter, request: SplitRequest, options: ReadingOptions, *, values: bool = True) -> None:
        self._inner = inner
        self._options = options
        plan, _, self._side = request.plan.partition(b"\n")
        self._plan = Plan.decode(plan)
        self._encoded = b"\n" + self._plan.encode()
        self._shards = request.shards
        self._values = int(values)

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Cut the next bytes; return the pieces that are now complete."""
        return self._planned(self._inner.feed(data))

    def finish(self) -> Iterable[Piece]:
        """Return the last pieces."""
        return self._planned(self._inner.finish())

    def _planned(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            span = RowSpan.decode(piece.meta)
            output_bytes = self._plan.output_bytes(span.rows, self._values * len(piece.payload))
            parts = min(span.rows, -(-output_bytes // _OUTPUT_BYTES))
            if parts > 1:
                for part in self._parts(piece, span, parts):
                    yield behind(self._side, part)
            else:
                yield behind(self._side, Piece(piece.payload, piece.meta + self._encoded))

    def _parts(self, piece: Piece, span: RowSpan, parts: int) -> Iterator[Piece]:
        if self._shards is not None:
            raise BadInput(
                f"shards={self._shards}: the output of a shard with {span.rows} rows may not fit a record; ask for at "
                f"least {self._shards * parts}, or leave it out",
                code="bad-split",
            )
        rows = rows_of(piece.payload, TableMeta(span, self._plan), self._options)
        edges = [span.row0 + span.rows * part // parts for part in range(parts + 1)]
        yield from (rows.pick([range(first, end)]) for first, end in pairwise(edges))


def behind(side: bytes, piece: Piece) -> Piece:
    """Return the piece with the side table before its rows; BadInput if a record has no room for both."""
    if not side:
        return piece
    meta = TableMeta.decode(piece.meta)
    if len(side) + len(piece.payload) > MAX_SHARD_BYTES:
        raise BadInput(
            f"rows from {meta.span.row0} on ({meta.span.rows}) have {len(piece.payload)} bytes in a shard, after a side "
            f"table of {len(side)} bytes; both together may have at most {MAX_SHARD_BYTES}",
            code="row-too-large",
        )
    span = replace(meta.span, header_bytes=len(side) + meta.span.header_bytes)
    return Piece(side + piece.payload, replace(meta, span=span).encode())


class PlannedRows:
    """Rows of a shard with a plan."""

    def __init__(self, inner: ShardRows, plan: Plan) -> None:
        self._inner = inner
        self._plan = b"\n" + plan.encode()

    @property
    def numbers(self) -> range:
        """Numbers of the rows in the whole body."""
        return self._inner.numbers

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return the same shard with only these rows."""
        piece = self._inner.pick(keep)
        return Piece(piece.payload, piece.meta + self._plan)


def rows_of(payload: bytes, meta: TableMeta, options: ReadingOptions) -> ShardRows:
    """Return the rows of a shard; values are not interpreted."""
    span, plan = meta.span, meta.plan
    if plan.format == "parquet":
        return PlannedRows(ArrowRows(_decoded(payload, meta), span), replace(plan, format="arrow"))
    if plan.format == "arrow":
        return PlannedRows(ArrowRows(payload, span), plan)
    dialect = NDJSON
    if plan.format == "csv":
        dialect = csv_dialect(plan.delimiter, quote=options.quote or None, header=False)._replace(keep_empty_rows=True)
    return PlannedRows(TextRows(payload, span, dialect), plan)


def _decoded(payload: bytes, meta: TableMeta) -> bytes:
    """Return the rows of Parquet row groups as Arrow; PermanentError if they cannot be read."""
    from regather.kinds.table.engine import engine
    from regather.kinds.table.failures import is_of_data, said
    from regather.kinds.table.merging import packed

    database = engine()
    try:
        with database.source(payload) as source:
            return packed(database.table(f"SELECT * FROM read_parquet({source.path})"))
    except Exception as error:
        if not is_of_data(error):
            raise
        rows = f"rows {meta.span.row0} to {meta.span.row0 + meta.span.rows - 1}"
        raise PermanentError(f"{rows}: the Parquet file cannot be read: {said(error)}") from error
