"""Kind `table.sql`: a table in SQL, in two steps: `map` over each shard's rows, `reduce` over what all shards gave.

`map` is one SELECT over the table `shard`, a shard's rows in their order, and over `side`, the form's small file, if there
is one; `reduce` is one over `parts`, the rows of all shards' maps, one shard after the other. Without `reduce` these rows
are the result. What a query makes of shards that are cut elsewhere is the client's business: a `map` that filters or
computes row by row, and sums or counts that `reduce` adds up, do not depend on the cut; an average of averages does. The
rest is as in `table.etl`: input, types, bad rows.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from regather.kinds.table import EXTRA
from regather.kinds.table.etl import INSPECT_BYTES, meta_of, table_splitter
from regather.kinds.table.options import SidedOptions
from regather.kinds.table.results import MEDIA_TYPES
from regather.kinds.table.shard_rows import rows_of
from regather.kinds.table.side_room import SIDE_BYTES
from regather.processors.base import DATA_ERRORS, FileSplitter, Processor, ShardRows, ShardView, SplitRequest, Splitter

if TYPE_CHECKING:
    from regather.kinds.table.engine import Engine
    from regather.kinds.table.plan import Plan
    from regather.kinds.table.side import Names

_MAX_SQL_CHARACTERS = 20_000


class SqlOptions(SidedOptions):
    """Two queries, and how the table is read."""

    map: str = Field(
        max_length=_MAX_SQL_CHARACTERS, description="one SELECT over the table `shard`, and `side` if the form has it"
    )
    reduce: str = Field(
        default="", max_length=_MAX_SQL_CHARACTERS, description="one SELECT over `parts`, all rows that the maps gave"
    )
    output: Literal["ndjson", "csv", "json", "parquet", "arrow"] = Field(
        default="ndjson", description="how the rows are written"
    )

    @property
    def joined(self) -> bool:
        """Whether the result is the shards' outputs one after the other."""
        return not self.reduce and self.output == "ndjson"


class TableSql(Processor[SqlOptions]):
    """Run SQL over each shard of a table, and SQL over what that gave."""

    options_model = SqlOptions
    certain = DATA_ERRORS
    extra = EXTRA
    result_examples = ({"map": "SELECT * FROM shard"},)
    inspect_bytes = INSPECT_BYTES
    side_bytes = SIDE_BYTES

    def splitter(self, options: SqlOptions, request: SplitRequest) -> Splitter | FileSplitter:
        """See Processor."""
        return table_splitter(options, request, _check)

    def inspect(self, head: bytes, options: SqlOptions, request: SplitRequest) -> bytes:
        """See Processor."""
        from regather.kinds.table.engine import engine
        from regather.kinds.table.inspection import plan_of
        from regather.kinds.table.side import sided

        plan = plan_of(engine(), head, options, request, whole=len(head) < self.inspect_bytes)
        return sided(engine(), options, plan, request.side, _check).encode()

    def process(self, shard: ShardView, options: SqlOptions) -> bytes:
        """See Processor."""
        from regather.kinds.table.sql_shards import mapped

        return mapped(shard.payload, meta_of(shard), options)

    def rows(self, shard: ShardView, options: SqlOptions) -> ShardRows:
        """See Processor."""
        return rows_of(shard.payload, meta_of(shard), options)

    def merges_outputs(self, options: SqlOptions) -> bool:
        """Rows of NDJSON without a reduce are joined as they are."""
        return not options.joined

    def media_type(self, options: SqlOptions) -> str:
        """See Processor."""
        return MEDIA_TYPES[options.output]

    def merge(self, outputs: Sequence[bytes | None], options: SqlOptions) -> bytes:
        """See Processor."""
        from regather.kinds.table.sql_shards import reduced

        return reduced([output for output in outputs if output is not None], options)


def _check(database: "Engine", options: SqlOptions, plan: "Plan") -> "Names":
    from regather.kinds.table.sql_shards import check_queries

    return check_queries(database, options, plan)
