"""What a child does for `table.sql`: it runs `map` over a shard's rows, and `reduce` over the rows of all shards."""

from collections.abc import Sequence
from contextlib import nullcontext

from regather.core.errors import PermanentError
from regather.kinds.table import checks
from regather.kinds.table.bad_rows import check_keys, on_rows
from regather.kinds.table.carried import side_relation
from regather.kinds.table.engine import Engine, engine
from regather.kinds.table.failures import is_of_data, said
from regather.kinds.table.merging import packed, unpacked
from regather.kinds.table.plan import TableMeta
from regather.kinds.table.reading import shard_relation
from regather.kinds.table.results import ndjson, written
from regather.kinds.table.sql import SqlOptions
from regather.kinds.table.sql_views import PARTS, SHARD, answer, query_view, side_view, without_row


def mapped(payload: bytes, meta: TableMeta, options: SqlOptions) -> bytes:
    """Return the rows of `map` for a shard: NDJSON, or an Arrow table if the merge needs them."""
    return on_rows(payload, meta, options, _run)


def reduced(outputs: Sequence[bytes], options: SqlOptions) -> bytes:
    """Return the result of `reduce` over all shards' rows; PermanentError if it fails."""
    if not outputs:
        return b""
    database = engine()
    try:
        with database.arrow("all_parts", unpacked(outputs)):
            if not options.reduce.strip():
                columns = database.describe("SELECT * FROM all_parts")
                return written(database, "SELECT * FROM all_parts", columns, options.output)
            with query_view(database, "reduce", PARTS, "all_parts", options.reduce) as columns:
                return written(database, answer(PARTS), columns, options.output)
    except Exception as error:
        if not is_of_data(error):
            raise
        raise PermanentError(f"reduce: {said(error)}") from error


def _run(database: Engine, payload: bytes, meta: TableMeta, options: SqlOptions) -> bytes:
    names = frozenset(column.name.lower() for column in meta.plan.columns)
    with shard_relation(database, payload, meta, options, names) as relation:
        if meta.plan.format == "ndjson" and checks.takes_whole_rows(database, options.map):
            check_keys(database, payload[meta.span.header_bytes :], meta)
        with (
            side_relation(database, payload, meta) if meta.plan.side else nullcontext() as side,
            side_view(database, side),
            query_view(database, "map", SHARD, without_row(relation), options.map) as columns,
        ):
            rows = answer(SHARD)
            return ndjson(database, rows, columns) if options.joined else packed(database.table(rows))
