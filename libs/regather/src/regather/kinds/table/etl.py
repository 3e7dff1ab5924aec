"""Kind `table.etl`: extract, transform and load a table, cut by rows.

Input: CSV, NDJSON or one JSON array, plain or compressed, or Parquet. Expressions are SQL with the meaning that DuckDB
gives them, over the whole file: the sharded answer equals DuckDB's own at any shard size, groups in the order of their
first rows. Sums of floating-point numbers are exact and rounded once.

A child looks at the body's beginning first (`inspect`): it takes the columns' types from these rows or from `cast`, and
checks the options against them. The plan travels with each shard. A row that does not fit its plan, or that an
expression fails for, is a bad row; errors name it, counted from 0 without the header.
"""

from collections.abc import Sequence

from regather.core.errors import PermanentError
from regather.kinds.table.options import TableOptions
from regather.kinds.table.plan import TableMeta, planned
from regather.kinds.table.results import MEDIA_TYPES
from regather.kinds.table.shard_rows import rows_of
from regather.kinds.table.text_input import text_splitter
from regather.processors.base import FileSplitter, Processor, ShardRows, ShardView, SplitRequest, Splitter

_PARQUET_MAGIC = b"PAR1"
_INSPECT_BYTES = 1024 * 1024


class TableEtl(Processor[TableOptions]):
    """Filter, cast, derive, group and aggregate the rows of a table; or rows out, in their order or sorted."""

    options_model = TableOptions
    inspect_bytes = _INSPECT_BYTES

    def splitter(self, options: TableOptions, request: SplitRequest) -> Splitter | FileSplitter:
        """See Processor."""
        if (request.head or b"").startswith(_PARQUET_MAGIC) and options.format in ("auto", "parquet"):
            from regather.kinds.table.parquet_file import ParquetSplitter

            return ParquetSplitter(request, options)
        if request.head is None and options.format == "parquet":
            request = SplitRequest(request.shard_size_bytes, content_type=request.content_type)
            options = options.model_copy(update={"format": "csv"})
        return planned(text_splitter(options, request), request.plan)

    def inspect(self, head: bytes, options: TableOptions, request: SplitRequest) -> bytes:
        """See Processor."""
        from regather.kinds.table.engine import engine
        from regather.kinds.table.inspection import plan_of
        from regather.kinds.table.query import query_of

        plan = plan_of(engine(), head, options, request, whole=len(head) < self.inspect_bytes)
        query_of(engine(), options, plan)
        return plan.encode()

    def process(self, shard: ShardView, options: TableOptions) -> bytes:
        """See Processor."""
        from regather.kinds.table.shards import shard_output

        return shard_output(shard.payload, _meta(shard), options)

    def rows(self, shard: ShardView, options: TableOptions) -> ShardRows:
        """See Processor."""
        return rows_of(shard.payload, _meta(shard), options)

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


def _meta(shard: ShardView) -> TableMeta:
    try:
        return TableMeta.decode(shard.meta)
    except (ValueError, TypeError, KeyError) as error:
        raise PermanentError(f"shard {shard.seq} is no part of a table: {error}") from error
