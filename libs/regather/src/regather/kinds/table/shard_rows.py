"""A shard as rows of which some are picked; each picked piece keeps the plan."""

from collections.abc import Sequence

from regather.kinds.table.options import TableOptions
from regather.kinds.table.plan import Plan, TableMeta
from regather.processors.base import Piece, ShardRows
from regather.processors.splitting.shard_rows import ArrowRows, TextRows
from regather.processors.splitting.text_rows import NDJSON, csv_dialect


class PlannedRows:
    """Rows of a shard with a plan."""

    def __init__(self, inner: ShardRows, plan: Plan) -> None:
        self._inner = inner
        self._plan = b"\n" + plan.encode()

    @property
    def numbers(self) -> range:
        """The rows' numbers in the whole body."""
        return self._inner.numbers

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return the same shard with these rows alone."""
        piece = self._inner.pick(keep)
        return Piece(piece.payload, piece.meta + self._plan)


def rows_of(payload: bytes, meta: TableMeta, options: TableOptions) -> ShardRows:
    """Return the rows of a shard; nothing is interpreted."""
    span, plan = meta.span, meta.plan
    if plan.format == "arrow":
        return PlannedRows(ArrowRows(payload, span), plan)
    dialect = NDJSON
    if plan.format == "csv":
        dialect = csv_dialect(plan.delimiter, quote=options.quote or None, header=False)._replace(keep_empty_rows=True)
    return PlannedRows(TextRows(payload, span, dialect), plan)
