"""Kind `table.sql`: a table in SQL, in two steps: `map` over each shard's rows, `reduce` over the rows of all maps.

`map` is one SELECT over the table `shard`, a shard's rows in their order, and over `side`, the form's small file, if
there is one. `reduce` is one SELECT over `parts`, the rows of all shards' maps, one shard after the other. Without
`reduce` these rows are the result. The client has to write queries that do not depend on the cut: a `map` that filters
or computes row by row, and sums or counts that `reduce` adds up, do not; an average of averages does. Input, types and
bad rows are as in `table.etl`.
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
    """The two queries, and how to read the table."""

    map: str = Field(
        max_length=_MAX_SQL_CHARACTERS, description="one SELECT over the table `shard`, and `side` if the form has it"
    )
    reduce: str = Field(
        default="", max_length=_MAX_SQL_CHARACTERS, description="one SELECT over `parts`, the rows of all maps"
    )
    output: Literal["ndjson", "csv", "json", "parquet", "arrow"] = Field(
        default="ndjson", description="format of the result"
    )

    @property
    def joined(self) -> bool:
        """Whether the result is the concatenation of the shards' outputs."""
        return not self.reduce and self.output == "ndjson"


class TableSql(TableProcessor[SqlOptions]):
    """Run SQL over each shard of a table, and SQL over the rows that these queries return."""

    options_model = SqlOptions
    result_examples = ({"map": "SELECT * FROM shard"},)
    side_bytes = SIDE_BYTES

    def use(self, database: "Engine", options: SqlOptions, plan: Plan) -> RowUse:
        """Return that the job reads all columns, because only DuckDB knows which of them a query uses."""
        from regather.kinds.table.sql_checks import check_queries

        made = check_queries(database, options, plan)
        beside = low_names(plan.side.columns if plan.side else ())
        return RowUse(low_names(plan.columns), bytes_of_names(made), side_names=beside, side_keys=beside)

    def row_output_bytes(self, use: RowUse, request: SplitRequest) -> int:
        """Return 0 if the client asked for a number of shards, which may be right: a map that groups writes less."""
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
