"""What a child does with one shard, and with the outputs of all shards.

If outputs are concatenated, the output of a shard is a part of the result. Otherwise it is the plan and the Arrow table
of rows or states, so that the merging child needs no other input.
"""

import struct
from collections.abc import Sequence

from regather.core.errors import PermanentError
from regather.kinds.table.bad_rows import check_keys, on_rows
from regather.kinds.table.carried import joined
from regather.kinds.table.engine import Engine, engine
from regather.kinds.table.failures import is_of_data, said
from regather.kinds.table.merging import merged, packed
from regather.kinds.table.options import TableOptions
from regather.kinds.table.plan import Plan, TableMeta
from regather.kinds.table.query import Query, over, query_of
from regather.kinds.table.reading import shard_relation
from regather.kinds.table.results import ndjson

_PLAN_BYTES = struct.Struct("<I")
_KEPT_QUERIES = 16
_COMPLETE: set[Query] = set()
"""Queries for which this process runs the complete SQL without trying the quick one."""


def shard_output(payload: bytes, meta: TableMeta, options: TableOptions) -> bytes:
    """Return the output of one shard; PermanentError names the first bad row."""
    return on_rows(payload, meta, options, _run)


def merged_output(outputs: Sequence[bytes], options: TableOptions) -> bytes:
    """Return the result of all outputs that exist; PermanentError for data that cannot be merged."""
    if not outputs:
        return b""
    database = engine()
    end = _PLAN_BYTES.size + _PLAN_BYTES.unpack_from(outputs[0])[0]
    query = query_of(database, options, Plan.decode(outputs[0][_PLAN_BYTES.size : end]))
    tables = [output[_PLAN_BYTES.size + _PLAN_BYTES.unpack_from(output)[0] :] for output in outputs]
    output = options.output if options.output or options.groups else "ndjson"
    try:
        return merged(database, query, tables, output)
    except Exception as error:
        if not is_of_data(error):
            raise
        raise PermanentError(f"the shards' outputs cannot be merged: {said(error)}") from error


def _run(database: Engine, payload: bytes, meta: TableMeta, options: TableOptions) -> bytes:
    """Run the quick query; if it fails, run the complete one, whose errors name column and value."""
    query = query_of(database, options, meta.plan)
    if query not in _COMPLETE:
        try:
            return _output(database, payload, meta, options, query, quick=True)
        except Exception as error:
            if not is_of_data(error):
                raise
        _remember(query)
    return _output(database, payload, meta, options, query, quick=False)


def _remember(query: Query) -> None:
    """Note that the quick query failed, such as for a null among doubles: it would mostly fail in the next shard, too."""
    if len(_COMPLETE) >= _KEPT_QUERIES:
        _COMPLETE.clear()
    _COMPLETE.add(query)


def _output(
    database: Engine, payload: bytes, meta: TableMeta, options: TableOptions, query: Query, *, quick: bool
) -> bytes:
    with (
        shard_relation(database, payload, meta, options, query.names, quick=quick) as rows,
        joined(database, payload, meta, query.join, rows) as relation,
    ):
        sql = over(relation, query.quick if quick else query.shard)
        if query.merged:
            plan = meta.plan.encode()
            # An Arrow table beside the shard's file may have other types in the next job.
            alone = meta.plan.format in ("csv", "parquet") and query.join is None
            table = database.table_again if alone else database.table
            return _PLAN_BYTES.pack(len(plan)) + plan + packed(table(sql))
        if meta.plan.format == "ndjson" and not options.select:
            check_keys(database, payload[meta.span.header_bytes :], meta)
        return ndjson(database, sql, query.columns)
