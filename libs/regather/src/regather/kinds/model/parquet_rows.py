"""Rows of Parquet for a model: cut as those of tables are, with every column."""

from collections.abc import Iterator
from pathlib import Path

from regather.kinds.table.parquet_file import PARQUET_MAGIC, ParquetSplitter
from regather.kinds.table.plan import Plan, Reading, RowUse
from regather.processors.base import Piece, SplitRequest

__all__ = ["PARQUET_MAGIC", "ParquetRows"]


class ParquetRows:
    """Rows of a Parquet file with all of its columns; the model's child chooses among them by name."""

    def __init__(self, request: SplitRequest) -> None:
        self._inner = ParquetSplitter(request, {}, _all_columns)

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the file's pieces in order."""
        for piece in self._inner.cut(path):
            span, _, _ = piece.meta.partition(b"\n")
            yield Piece(piece.payload, span)


def _all_columns(_engine: object, plan: Plan) -> Reading:
    return Reading(plan, RowUse(frozenset(column.name.lower() for column in plan.columns)))
