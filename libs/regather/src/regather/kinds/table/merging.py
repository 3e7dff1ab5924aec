"""Makes the result of all shards' outputs: it concatenates their Arrow tables and runs the query's merge over them."""

from collections.abc import Sequence
from typing import Any

from regather.core.errors import PermanentError
from regather.kinds.table.engine import Engine
from regather.kinds.table.query import PARTS, Query
from regather.kinds.table.results import groups_document, written
from regather.kinds.table.wide_sums import has_wide, with_totals

EXACT_VALUES = 20_000_000
"""Up to this many values of medians and quantiles are sorted (160 MB of doubles); more are estimated from a sketch."""


def packed(table: Any) -> bytes:
    """Return a pyarrow Table as a compressed Arrow stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    ) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def unpacked(contents: Sequence[bytes]) -> Any:
    """Return the concatenation of tables that packed() packed."""
    import pyarrow as pa

    return pa.concat_tables([pa.ipc.open_stream(content).read_all() for content in contents])


def merged(engine: Engine, query: Query, outputs: Sequence[bytes], output: str | None) -> bytes:
    """Return the result; `output` is None for the JSON document of groups."""
    parts = unpacked(outputs)
    for column in query.wide:
        with engine.arrow(PARTS, parts):
            if has_wide(engine, column):
                parts = with_totals(engine, query.keys, column)
    with engine.arrow(PARTS, parts):
        estimated = _too_many(engine, query)
        sql = query.approximate if estimated else query.merged
        if output is None:
            return groups_document(engine, sql, query.columns, query.estimated if estimated else ())
        if estimated:
            names = ", ".join(query.estimated)
            raise PermanentError(
                f"{names}: there are more than {EXACT_VALUES} values, so the figures would be estimates, which output="
                f"{output} cannot mark as such; leave output out"
            )
        return written(engine, sql, query.columns, output)


def _too_many(engine: Engine, query: Query) -> bool:
    if not query.listed:
        return False
    lengths = " + ".join(f"coalesce(sum(len({column})), 0)" for column in query.listed)
    return bool(engine.run(f"SELECT {lengths} FROM {PARTS}")[0][0] > EXACT_VALUES)
