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
from typing_extensions import override

from regather.kinds.table.options import SidedOptions
from regather.kinds.table.plan import Plan, RowUse, bytes_of_names, low_names
from regather.kinds.table.processor import TableProcessor, meta_of
from regather.kinds.table.results import MEDIA_TYPES
from regather.kinds.table.side_room import SIDE_BYTES
from regather.processors.base import ShardView, SplitRequest

if TYPE_CHECKING:
    from regather.kinds.table.engine import Engine

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


class TableSql(TableProcessor[SqlOptions]):
    """Run SQL over each shard of a table, and SQL over what that gave."""

    options_model = SqlOptions
    result_examples = ({"map": "SELECT * FROM shard"},)
    side_bytes = SIDE_BYTES

    def use(self, database: "Engine", options: SqlOptions, plan: Plan) -> RowUse:
        """See TableProcessor. All columns count as read: which of them a query uses is DuckDB's to find out."""
        from regather.kinds.table.sql_shards import check_queries

        made = check_queries(database, options, plan)
        beside = low_names(plan.side.columns if plan.side else ())
        return RowUse(low_names(plan.columns), bytes_of_names(made), side_names=beside, side_keys=beside)

    def row_output_bytes(self, use: RowUse, request: SplitRequest) -> int:
        """So many shards as were asked for may be right: a map that groups makes less than it reads."""
        return use.output_bytes if request.shards is None else 0

    @override
    def process(self, shard: ShardView, options: SqlOptions) -> bytes:
        from regather.kinds.table.sql_shards import mapped

        return mapped(shard.payload, meta_of(shard), options)

    @override
    def media_type(self, options: SqlOptions) -> str:
        return MEDIA_TYPES[options.output]

    @override
    def merge(self, outputs: Sequence[bytes | None], options: SqlOptions) -> bytes:
        from regather.kinds.table.sql_shards import reduced

        return reduced([output for output in outputs if output is not None], options)
