"""Rows of Parquet for a model: cut like those of the table kinds, with every column."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from regather.kinds.model.shard_meta import FirstRow, list_widths, with_first_row
from regather.kinds.table.parquet_file import PARQUET_MAGIC, ParquetSplitter
from regather.kinds.table.plan import Plan, Reading, RowUse
from regather.processors.base import Piece, SplitRequest

__all__ = ["PARQUET_MAGIC", "ParquetRows"]


class ParquetRows:
    """Cuts a Parquet file into rows with all of its columns; the model's child chooses columns by name."""

    def __init__(self, request: SplitRequest) -> None:
        self._inner = ParquetSplitter(request, {}, _all_columns)

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the file's pieces in order."""
        told: FirstRow | None = None
        for piece in self._inner.cut(path):
            span, _, _ = piece.meta.partition(b"\n")
            told = told or FirstRow(lists=list_widths(_first_arrow_row(piece.payload)))
            yield with_first_row(Piece(piece.payload, span), told)


def _first_arrow_row(payload: bytes) -> Mapping[str, object]:
    """Return the first row's lists and nulls; runs in the child that cuts."""
    import pyarrow as pa

    for batch in pa.ipc.open_stream(payload):
        if batch.num_rows:
            names = [column.name for column in batch.schema if pa.types.is_nested(column.type)]
            return {name: batch.column(name)[0].as_py() for name in names if batch.schema.names.count(name) == 1}
    return {}


def _all_columns(_engine: object, plan: Plan) -> Reading:
    return Reading(plan, RowUse(frozenset(column.name.lower() for column in plan.columns)))
