"""What the table kinds have in common: how they sample and cut a body, and what the rows of a shard are."""

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override

from regather.core.errors import PermanentError
from regather.kinds.table import EXTRA
from regather.kinds.table.options import ReadingOptions, SidedOptions
from regather.kinds.table.plan import Plan, Reading, RowUse, TableMeta
from regather.kinds.table.shard_rows import rows_of
from regather.kinds.table.text_cut import planned_text
from regather.processors.base import DATA_ERRORS, FileSplitter, Processor, ShardRows, ShardView, SplitRequest, Splitter

if TYPE_CHECKING:
    from regather.kinds.table.engine import Engine

_PARQUET_MAGIC = b"PAR1"
_INSPECT_BYTES = 1024 * 1024
"""Number of bytes at a body's beginning that are sampled."""

OptionsT = TypeVar("OptionsT", bound=SidedOptions)


class TableProcessor(Processor[OptionsT]):
    """A kind whose body is a table."""

    certain = DATA_ERRORS
    extra = EXTRA
    inspect_bytes = _INSPECT_BYTES

    @abstractmethod
    def use(self, database: "Engine", options: OptionsT, plan: Plan) -> RowUse:
        """Return what a job does with rows; BadRequest if its options do not fit the plan."""

    def row_output_bytes(self, use: RowUse, request: SplitRequest) -> int:
        """Return the size of a row's output beside values. By it, a shard whose output may be too large is cut again."""
        return use.output_bytes

    @override
    def splitter(self, options: OptionsT, request: SplitRequest) -> Splitter | FileSplitter:
        if is_parquet(options, request):
            from regather.kinds.table.parquet_file import ParquetSplitter

            def read(engine: "Engine", plan: Plan) -> Reading:
                return self._reading(engine, options, plan, request)

            return ParquetSplitter(request, options.cast, read)
        if request.head is None and options.format == "parquet":
            request = SplitRequest(request.shard_size_bytes, content_type=request.content_type)
            options = options.model_copy(update={"format": "csv"})
        return planned_text(options, request, values=not options.groups)

    @override
    def inspect(self, head: bytes, options: OptionsT, request: SplitRequest) -> bytes:
        from regather.kinds.table.engine import engine
        from regather.kinds.table.inspection import plan_of

        plan = plan_of(engine(), head, options, request, whole=len(head) < self.inspect_bytes)
        found = self._reading(engine(), options, plan, request)
        plan = replace(found.plan, row_output_bytes=self.row_output_bytes(found.use, request))
        return replace(found, plan=plan).encode()

    def _reading(self, database: "Engine", options: OptionsT, plan: Plan, request: SplitRequest) -> Reading:
        from regather.kinds.table.side import sided

        return sided(database, options, plan, request.side, self.use)

    @override
    def rows(self, shard: ShardView, options: OptionsT) -> ShardRows:
        return rows_of(shard.payload, meta_of(shard), options)

    def merges_outputs(self, options: OptionsT) -> bool:
        """Return False for rows of NDJSON in their own order: their outputs are concatenated."""
        return not options.joined


def is_parquet(options: ReadingOptions, request: SplitRequest) -> bool:
    """Whether the body is a Parquet file."""
    return (request.head or b"").startswith(_PARQUET_MAGIC) and options.format in ("auto", "parquet")


def meta_of(shard: ShardView) -> TableMeta:
    """Return a shard's meta; PermanentError if it is invalid."""
    try:
        return TableMeta.decode(shard.meta)
    except (ValueError, TypeError, KeyError) as error:
        raise PermanentError(f"shard {shard.seq} is not part of a table: {error}") from error
