"""The rows of a shard with a plan: picks some of them, and puts the side table before them."""

from collections.abc import Sequence
from dataclasses import replace

from regather.core.errors import BadInput, PermanentError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.table.options import ReadingOptions
from regather.kinds.table.plan import Plan, TableMeta
from regather.processors.base import Piece, ShardRows
from regather.processors.splitting.shard_rows import ArrowRows, TextRows
from regather.processors.splitting.text_rows import NDJSON, csv_dialect


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
