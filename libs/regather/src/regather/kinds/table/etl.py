"""Kind `table.etl`: extract, transform and load a table, cut by rows.

Input: CSV, NDJSON or one JSON array, plain or compressed, or Parquet. Expressions are SQL with DuckDB's semantics over
the whole file: the result equals DuckDB's own at any shard size, with groups in the order of their first rows. Sums of
floating-point numbers are exact and rounded once.

A child first reads the body's beginning (`inspect`): it takes the columns' types from these rows or from `cast`, and
checks the options against them. The plan travels with each shard. A row that does not fit the plan, or for which an
expression fails, is a bad row; errors give its number, counted from 0 without the header.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import override

from regather.kinds.table.options import TableOptions
from regather.kinds.table.plan import Plan, RowUse, bytes_of_names
from regather.kinds.table.processor import TableProcessor, is_parquet, meta_of
from regather.kinds.table.results import MEDIA_TYPES
from regather.kinds.table.side_room import SIDE_BYTES
from regather.processors.base import FileSplitter, ShardView, SplitRequest, Splitter

if TYPE_CHECKING:
    from regather.kinds.table.engine import Engine
_GROUP_BYTES, _STATE_BYTES = 10, 8  # compressed, if each row is a group of its own
_GROUPS_SHARD_BYTES = 4 * 1024 * 1024
"""Default size of a shard that is grouped. Starting a query costs as much as a quarter of a megabyte of rows, and groups
are small; the output of that many rows would not fit an outcome."""


class TableEtl(TableProcessor[TableOptions]):
    """Filter, cast, derive, join, group and aggregate the rows of a table; returns groups, or rows in order or sorted."""

    options_model = TableOptions
    result_examples = ({"aggregate": "n = count()"},)
    side_bytes = SIDE_BYTES

    @override
    def splitter(self, options: TableOptions, request: SplitRequest) -> Splitter | FileSplitter:
        asked = request.shard_size_bytes is not None or request.shards is not None
        if options.groups and not asked and not is_parquet(options, request):
            request = replace(request, shard_size_bytes=_GROUPS_SHARD_BYTES)
        return super().splitter(options, request)

    @override
    def use(self, database: "Engine", options: TableOptions, plan: Plan) -> RowUse:
        from regather.kinds.table.query import query_of

        query = query_of(database, options, plan)
        side_keys = query.join.side_names if query.join and query.join.columns else frozenset()
        use = RowUse(query.names, side_names=query.side_names, side_keys=side_keys, side_values=not options.groups)
        if not options.groups:
            return use._replace(output_bytes=bytes_of_names(name for name, _ in query.columns))
        keys = frozenset(name.lower() for name in options.group_by)
        bounded = query.fixed_states and not keys & {name.lower() for name in options.derive}
        return use._replace(
            output_bytes=_GROUP_BYTES + _STATE_BYTES * len(options.aggregate),
            keys=keys,
            group_bytes=_GROUP_BYTES + _STATE_BYTES * query.states if bounded else None,
        )

    @override
    def process(self, shard: ShardView, options: TableOptions) -> bytes:
        from regather.kinds.table.shards import shard_output

        return shard_output(shard.payload, meta_of(shard), options)

    @override
    def media_type(self, options: TableOptions) -> str:
        if options.output is None:
            return "application/json" if options.groups else MEDIA_TYPES["ndjson"]
        return MEDIA_TYPES[options.output]

    @override
    def merge(self, outputs: Sequence[bytes | None], options: TableOptions) -> bytes:
        from regather.kinds.table.shards import merged_output

        return merged_output([output for output in outputs if output is not None], options)
