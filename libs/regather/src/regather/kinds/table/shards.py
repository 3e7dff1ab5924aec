"""What a child does with one shard, and with the outputs of all shards.

If outputs are concatenated, the output of a shard is a part of the result. Otherwise it is the plan and the Arrow table
of rows or states, so that the merging child needs no other input.
"""

import json
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from regather.core.errors import PermanentError
from regather.kinds.table.bad_rows import first_bad_row
from regather.kinds.table.carried import joined
from regather.kinds.table.engine import Engine, engine, forget_engine
from regather.kinds.table.failures import is_of_data, row_error, said
from regather.kinds.table.merging import merged, packed
from regather.kinds.table.options import ReadingOptions, TableOptions
from regather.kinds.table.plan import Plan, TableMeta
from regather.kinds.table.query import Query, over, query_of
from regather.kinds.table.reading import json_objects, shard_relation
from regather.kinds.table.results import ndjson
from regather.kinds.table.shard_rows import rows_of
from regather.processors.base import Piece

_PLAN_BYTES = struct.Struct("<I")
_KEPT_QUERIES = 16
_COMPLETE: set[Query] = set()
"""Queries for which this process runs the complete SQL without trying the quick one."""

OptionsT = TypeVar("OptionsT", bound=ReadingOptions)
Run = Callable[[Engine, bytes, TableMeta, OptionsT], bytes]


def shard_output(payload: bytes, meta: TableMeta, options: TableOptions) -> bytes:
    """Return the output of one shard; PermanentError names the first bad row."""
    return on_rows(payload, meta, options, _run)


def on_rows(payload: bytes, meta: TableMeta, options: OptionsT, run: Run[OptionsT]) -> bytes:
    """Return `run`'s output for a shard; if the shard's data is at fault, PermanentError names the first bad row."""
    database = engine()
    try:
        return run(database, payload, meta, options)
    except Exception as error:
        if not is_of_data(error):
            forget_engine()
            raise
        raise _named(database, payload, meta, options, run, error) from error


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


def check_keys(database: Engine, content: bytes, meta: TableMeta) -> None:
    """Raise PermanentError for a row with a key that is not in the plan, because its value would be lost silently."""
    known = [column.name for column in meta.plan.columns]
    with database.source(content) as source:
        keys = f"SELECT row_number() OVER () AS n, unnest(json_keys(json)) AS k FROM {json_objects(source)}"
        found = database.run(f"SELECT n, k FROM ({keys}) WHERE NOT list_contains(?, k) ORDER BY n LIMIT 1", [known])
    if found:
        ((number, key),) = found
        way = "name it in cast, or list the wanted columns in select" if key else "SQL has no such name; rename it"
        raise PermanentError(
            f"row {meta.span.number(number - 1)}: the key {json.dumps(key)} is in none of the rows whose types were "
            f"sampled; {way}"
        )


def _named(
    database: Engine, payload: bytes, meta: TableMeta, options: OptionsT, run: Run[OptionsT], error: BaseException
) -> Exception:
    """Return the error with the number of the bad row."""

    def run_piece(piece: Piece) -> bytes:
        return run(database, piece.payload, TableMeta.decode(piece.meta), options)

    try:
        found = first_bad_row(rows_of(payload, meta, options), run_piece)
    except PermanentError as named:
        return named
    if found:
        index, of_row = found
        return row_error(meta.span.number(index), of_row)
    return PermanentError(f"rows from {meta.span.row0} on: {said(error)}")
