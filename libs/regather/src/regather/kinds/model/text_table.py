"""What the tables of CSV and JSON have in common: they put the columns that were read side by side."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regather.kinds.model.arrow_columns import matrix_of, side_by_side
from regather.kinds.model.features import numbers_of
from regather.kinds.model.numbers import Place
from regather.kinds.model.shard_meta import ShardMeta
from regather.kinds.model.signature import TEXT, Columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

Values = dict[int, Any]


class TextTable(ABC):
    """Columns that were read, by index: NumPy arrays if Arrow read them, otherwise lists of values."""

    columns: Columns

    def __init__(self, meta: ShardMeta, missing: str) -> None:
        self._meta = meta
        self._missing = missing
        self._values: Values = {}
        self.numbers = numbers_of(meta)

    def matrix(self, columns: Sequence[int], dtype: str) -> "NDArray[Any]":
        """Return columns side by side; a list gives as many values as it has."""
        if (fast := self._fast(columns, dtype)) is not None:
            return fast
        parts = [self._column(column, dtype) for column in columns]
        return side_by_side(parts, len(self.numbers), dtype)

    @abstractmethod
    def _column(self, column: int, dtype: str) -> "NDArray[Any]":
        """Return one column as an array."""

    def _fast(self, columns: Sequence[int], dtype: str) -> "NDArray[Any] | None":
        """Return all columns at once if Arrow has read them as one type."""
        values = [self._values[column] for column in columns]
        kinds = {getattr(column, "dtype", None) for column in values}
        if dtype == TEXT or len(kinds) != 1 or None in kinds:
            return None
        names = [self.columns.names[column] for column in columns]
        return matrix_of(values, names, dtype, Place(self.numbers, ", ".join(names[:3])))
