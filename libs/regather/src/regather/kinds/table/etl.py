"""Kind `table.etl`: extract, transform and load a table, cut by rows.

Input: CSV, NDJSON or one JSON array, plain or compressed, or Parquet. Expressions are SQL with the meaning that DuckDB
gives them, over the whole file: the sharded answer equals DuckDB's own at any shard size, groups in the order of their
first rows. Sums of floating-point numbers are exact and rounded once.

A child looks at the body's beginning first (`inspect`): it takes the columns' types from these rows or from `cast`, and
checks the options against them. The plan travels with each shard. A row that does not fit its plan, or that an
expression fails for, is a bad row; errors name it, counted from 0 without the header.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from regather.core.errors import PermanentError
from regather.core.sharding import DEFAULT_SHARD_BYTES
from regather.kinds.table import EXTRA
from regather.kinds.table.options import SidedOptions, TableOptions
from regather.kinds.table.plan import JSON_BYTES, Plan, Reading, TableMeta
from regather.kinds.table.results import MEDIA_TYPES
from regather.kinds.table.shard_rows import PlannedSplitter, rows_of
from regather.kinds.table.side_room import SIDE_BYTES, fitted
from regather.kinds.table.text_input import text_splitter
from regather.processors.base import DATA_ERRORS, FileSplitter, Processor, ShardRows, ShardView, SplitRequest, Splitter

if TYPE_CHECKING:
    from regather.kinds.table.engine import Engine
    from regather.kinds.table.side import Names, ReadNames

_PARQUET_MAGIC = b"PAR1"
INSPECT_BYTES = 1024 * 1024
"""So much of a body's beginning is sampled."""

_GROUP_BYTES, _STATE_BYTES = 10, 8  # compressed, where each row is a group of its own
_GROUPS_SHARD_BYTES = 4 * 1024 * 1024
"""Default size of a shard that becomes groups. Starting a query costs as much as a quarter of a megabyte of rows, and
what comes out is small; rows that come out would not fit an outcome."""

OptionsT = TypeVar("OptionsT", bound=SidedOptions)


class TableEtl(Processor[TableOptions]):
    """Filter, cast, derive, group and aggregate the rows of a table; or rows out, in their order or sorted."""

    options_model = TableOptions
    certain = DATA_ERRORS
    extra = EXTRA
    result_examples = ({"aggregate": "n = count()"},)
    inspect_bytes = INSPECT_BYTES
    side_bytes = SIDE_BYTES

    def splitter(self, options: TableOptions, request: SplitRequest) -> Splitter | FileSplitter:
        """See Processor."""
        if options.groups and request.shard_size_bytes is None and request.shards is None:
            request = replace(request, shard_size_bytes=_GROUPS_SHARD_BYTES)
        return table_splitter(options, request, _names_read)

    def inspect(self, head: bytes, options: TableOptions, request: SplitRequest) -> bytes:
        """See Processor."""
        from regather.kinds.table.engine import engine
        from regather.kinds.table.inspection import plan_of
        from regather.kinds.table.side import sided

        plan = plan_of(engine(), head, options, request, whole=len(head) < self.inspect_bytes)
        found = sided(engine(), options, plan, request.side, _names_read)
        plan = replace(found.plan, row_output_bytes=_row_output_bytes(options, found.plan))
        return replace(found, plan=plan).encode()

    def process(self, shard: ShardView, options: TableOptions) -> bytes:
        """See Processor."""
        from regather.kinds.table.shards import shard_output

        return shard_output(shard.payload, meta_of(shard), options)

    def rows(self, shard: ShardView, options: TableOptions) -> ShardRows:
        """See Processor."""
        return rows_of(shard.payload, meta_of(shard), options)

    def merges_outputs(self, options: TableOptions) -> bool:
        """Rows of NDJSON in their own order are joined as they are."""
        return not options.joined

    def media_type(self, options: TableOptions) -> str:
        """See Processor."""
        if options.output is None:
            return "application/json" if options.groups else MEDIA_TYPES["ndjson"]
        return MEDIA_TYPES[options.output]

    def merge(self, outputs: Sequence[bytes | None], options: TableOptions) -> bytes:
        """See Processor."""
        from regather.kinds.table.shards import merged_output

        return merged_output([output for output in outputs if output is not None], options)


def table_splitter(
    options: OptionsT, request: SplitRequest, names_read: "ReadNames[OptionsT]"
) -> Splitter | FileSplitter:
    """Return what cuts a table; `names_read` checks options against the columns of a file that has its own."""
    if (request.head or b"").startswith(_PARQUET_MAGIC) and options.format in ("auto", "parquet"):
        from regather.kinds.table.parquet_file import ParquetSplitter

        def read(engine: "Engine", plan: Plan) -> Reading:
            from regather.kinds.table.side import sided

            return sided(engine, options, plan, request.side, names_read)

        return ParquetSplitter(request, options.cast, read)
    if request.head is None and options.format == "parquet":
        request = SplitRequest(request.shard_size_bytes, content_type=request.content_type)
        options = options.model_copy(update={"format": "csv"})
    side_bytes = len(request.plan.partition(b"\n")[2])
    rows = fitted(request, side_bytes, DEFAULT_SHARD_BYTES) if side_bytes else request
    splitter = text_splitter(options, replace(rows, plan=b""))
    values = not getattr(options, "groups", False)
    return PlannedSplitter(splitter, request, options, values=values) if request.plan else splitter


def _names_read(database: "Engine", options: TableOptions, plan: Plan) -> "Names":
    from regather.kinds.table.query import query_of
    from regather.kinds.table.side import Names

    query = query_of(database, options, plan)
    keys = query.join.side_names if query.join and query.join.columns else frozenset()
    return Names(query.names, query.side_names, keys, not options.groups)


def _row_output_bytes(options: TableOptions, plan: Plan) -> int:
    """Return how much of a shard's output each row may take, whatever its values are: names of columns, or states."""
    if options.groups:
        return _GROUP_BYTES + _STATE_BYTES * len(options.aggregate)
    names = options.select or tuple(column.name for column in plan.columns)
    return sum(len(name.encode()) + JSON_BYTES for name in (*names, *options.derive))


def meta_of(shard: ShardView) -> TableMeta:
    """Return what a shard's meta says; PermanentError for anything else."""
    try:
        return TableMeta.decode(shard.meta)
    except (ValueError, TypeError, KeyError) as error:
        raise PermanentError(f"shard {shard.seq} is no part of a table: {error}") from error
