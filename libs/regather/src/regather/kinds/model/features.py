"""Rows of a shard as the model's inputs: from payload and meta to matrices, row numbers and the carried column.

Four readers return the same thing, a table whose columns can be read as matrices: `ArrayTable` (NPY, raw) here,
`CsvTable`, `JsonTable` and `ArrowTable` (Parquet) in modules of their names. The splitter has decided what a row is; a
reader that finds other rows refuses the shard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from regather.core.errors import PermanentError
from regather.kinds.model.numbers import Place, convert
from regather.kinds.model.options import PredictOptions
from regather.kinds.model.shard_meta import ShardMeta
from regather.kinds.model.signature import CARRIED, TEXT, Columns, Tensor, columns_by_input
from regather.processors.splitting.rows import Band

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Table(Protocol):
    """Rows of one shard."""

    @property
    def columns(self) -> Columns:
        """Names of the columns."""

    @property
    def numbers(self) -> "NDArray[np.int64]":
        """Numbers of the rows in the whole body."""

    def read(self, dtypes: Mapping[int, str]) -> None:
        """Read these columns as these types; must be called before matrix() and carried()."""

    def matrix(self, columns: Sequence[int], dtype: str) -> "NDArray[Any]":
        """Return columns side by side as (rows, values); PermanentError names a row that does not fit."""

    def carried(self, column: int) -> list[object]:
        """Return a column's values as they are in the body."""


@dataclass(frozen=True, slots=True)
class Features:
    """Rows as the model's inputs: `inputs` maps names to arrays of (rows, ...); `ids` is the carried column."""

    numbers: "NDArray[np.int64]"
    inputs: "Mapping[str, NDArray[Any]]"
    ids: list[object] | None


def read_features(payload: bytes, meta: ShardMeta, options: PredictOptions, inputs: Sequence[Tensor]) -> Features:
    """Read a shard's rows for a model with these inputs; PermanentError names the bad row or column."""
    table = _table(payload, meta, options)
    chosen = columns_by_input(inputs, table.columns, options)
    carried = table.columns.index(options.id) if options.id else None
    dtypes: dict[int, str] = {}
    for tensor in inputs:
        for column in chosen[tensor.name]:
            if dtypes.setdefault(column, tensor.dtype) != tensor.dtype:
                name = table.columns.names[column]
                raise PermanentError(
                    f"column {name!r} goes to inputs of two types, {dtypes[column]} and {tensor.dtype}"
                )
    if carried is not None and dtypes.setdefault(carried, CARRIED) != CARRIED:
        raise PermanentError(f"column {options.id!r} is the id of the result; it cannot be a feature, too")
    table.read(dtypes)
    matrices = {tensor.name: _input(table, chosen[tensor.name], tensor) for tensor in inputs}
    return Features(table.numbers, matrices, None if carried is None else table.carried(carried))


def _input(table: Table, columns: Sequence[int], tensor: Tensor) -> "NDArray[Any]":
    matrix = table.matrix(columns, tensor.dtype)
    if not len(matrix) and matrix.shape[1] != tensor.width:
        import numpy as np

        return np.zeros((0, *(side or 1 for side in tensor.shape)), matrix.dtype)
    return matrix.reshape(len(matrix), *tensor.row_shape(matrix.shape[1]))


def _table(payload: bytes, meta: ShardMeta, options: PredictOptions) -> Table:
    from regather.kinds.model.arrow_table import ArrowTable
    from regather.kinds.model.csv_table import CsvTable
    from regather.kinds.model.json_table import JsonTable

    if isinstance(meta.where, Band):
        return ArrayTable(payload, meta)
    if meta.where.format == "arrow":
        return ArrowTable(payload, meta, options)
    if meta.where.format == "ndjson":
        return JsonTable(payload, meta, options)
    return CsvTable(payload, meta, options)


class ArrayTable:
    """An array (rows, features); its columns are c0, c1, and so on."""

    def __init__(self, payload: bytes, meta: ShardMeta) -> None:
        import numpy as np

        band = meta.where
        assert isinstance(band, Band)
        width = band.width * band.channels
        try:
            values = np.frombuffer(payload, np.dtype(band.dtype).newbyteorder("<")).reshape(band.rows, width)
        except (ValueError, TypeError) as error:
            raise PermanentError(f"rows from {band.row0} on: the shard's bytes are not {band.rows} rows") from error
        self._values = values
        self.columns = Columns([f"c{index}" for index in range(width)], named=False)
        self.numbers = numbers_of(meta)

    def read(self, dtypes: Mapping[int, str]) -> None:
        """Do nothing: all columns are read already."""

    def matrix(self, columns: Sequence[int], dtype: str) -> "NDArray[Any]":
        """Return columns side by side."""
        if dtype == TEXT:
            raise PermanentError("the model needs texts here; an array of numbers has none")
        every = list(columns) == list(range(self._values.shape[1]))
        values = self._values if every else self._values[:, columns]
        try:
            return convert(values, dtype, Place(self.numbers, "of the array"))
        except PermanentError:
            for column in columns:  # find the column that is wrong, to name it
                convert(self._values[:, column], dtype, Place(self.numbers, f"c{column}"))
            raise

    def carried(self, column: int) -> list[object]:
        """Return a column's numbers."""
        found: list[object] = self._values[:, column].tolist()
        return found


def numbers_of(meta: ShardMeta) -> "NDArray[np.int64]":
    """Return the numbers of a shard's rows."""
    import numpy as np

    return np.concatenate([np.arange(part.start, part.stop, dtype=np.int64) for part in meta.ranges])


def numbers_found(meta: ShardMeta, places: Sequence[int], lines: int) -> "NDArray[np.int64]":
    """Return the numbers of the rows that a reader found at these places among `lines` lines, blank ones included.

    A splitter may count blank lines as rows or not. If a reader finds neither count, it disagrees with the splitter
    about where rows end, and no number would be right: PermanentError.
    """
    numbers = numbers_of(meta)
    if len(places) == len(numbers):
        return numbers
    if lines == len(numbers):
        return numbers[list(places)]
    raise PermanentError(
        f"rows from {numbers[0] if len(numbers) else 0} on: {len(numbers)} rows were cut and {len(places)} are read; a "
        "field has a line end or a quote that does not belong there"
    )
