"""Rows of a Parquet file's shard, an Arrow stream, as columns of numbers. Only the requested columns are read."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regather.core.errors import PermanentError
from regather.kinds.model.features import numbers_of
from regather.kinds.model.numbers import Place, convert_some, from_numbers, missing_value
from regather.kinds.model.options import PredictOptions
from regather.kinds.model.shard_meta import ShardMeta
from regather.kinds.model.signature import TEXT, Columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ArrowTable:
    """Columns of numbers, booleans or decimals, of dictionaries of these, or of lists of these with equal length."""

    def __init__(self, payload: bytes, meta: ShardMeta, options: PredictOptions) -> None:
        import pyarrow as pa

        try:
            self._table = pa.ipc.open_stream(payload).read_all()
        except pa.ArrowException as error:
            raise PermanentError("the shard is not an Arrow stream of rows") from error
        self._missing = options.missing
        self._meta = meta
        self.numbers = numbers_of(meta)
        if self._table.num_rows != len(self.numbers):
            raise PermanentError(f"the shard has {self._table.num_rows} rows; its meta says {len(self.numbers)}")
        types = self._table.schema.types
        self.columns = Columns(
            list(self._table.schema.names),
            named=True,
            lists=frozenset(i for i, kind in enumerate(types) if _is_list(kind)),
        )

    def read(self, dtypes: Mapping[int, str]) -> None:
        """Do nothing: all columns are read already."""

    def matrix(self, columns: Sequence[int], dtype: str) -> "NDArray[Any]":
        """Return columns side by side; a list gives as many values as it has."""
        import numpy as np

        parts = [self._values(column, dtype) for column in columns]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(self.numbers), 0), np.float64)

    def carried(self, column: int) -> list[object]:
        """Return a column's values as JSON represents them."""
        return _carried(_plain(self._table.column(column)), self.columns.names[column])

    def _values(self, column: int, dtype: str) -> "NDArray[Any]":
        values = _plain(self._table.column(column))
        place = Place(self.numbers, self.columns.names[column])
        rows = len(self.numbers)
        if not _is_list(values.type):
            return self._flat(values, dtype, place)[:, None]
        while _is_list(values.type):
            width = _list_width(values, place)
            values = _plain(values.flatten())
            place = Place(place.numbers.repeat(width), place.column)
        found = self._flat(values, dtype, place).reshape(rows, -1 if rows else 0)
        told = self._meta.values_of(place.column)
        if rows and told is not None and found.shape[1] != told:
            raise place.refused(0, f"has {found.shape[1]} values; that of the body's first row has {told}")
        return found

    def _flat(self, values: Any, dtype: str, place: Place) -> "NDArray[Any]":
        import numpy as np
        import pyarrow as pa

        gone = np.asarray(values.is_null()) if values.null_count else np.zeros(len(values), np.bool_)
        if dtype == TEXT:
            return _texts(values, gone, place)
        kind = values.type
        if pa.types.is_decimal(kind):
            numbers = [0 if value is None else value for value in values.to_pylist()]
            found = from_numbers(numbers, dtype, place)
        elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            found = (values.fill_null(0) if gone.any() else values).to_numpy(zero_copy_only=False)
        elif pa.types.is_null(kind):
            found = np.zeros(len(values))
        else:
            raise PermanentError(
                f"column {place.column!r} holds {kind}, not numbers; choose the model's columns with the option columns"
            )
        return convert_some(found, gone, dtype, self._missing, place)


def _plain(values: Any) -> Any:
    """Return a column as one array, without a dictionary or an extension type."""
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # it has no chunk, or too many bytes for one
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if isinstance(values.type, pa.BaseExtensionType):  # DuckDB writes booleans as bool8, one byte each
        values = values.storage.cast(pa.bool_()) if isinstance(values.type, pa.Bool8Type) else values.storage
    return values


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _list_width(values: Any, place: Place) -> int:
    """Return the length of each row's list; the first row whose list is missing or has another length is bad."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = np.asarray(pc.list_value_length(values).fill_null(-1))
    if not len(lengths):
        return 0
    first = int(lengths[0])
    for index in np.flatnonzero(lengths != first)[:1].tolist() if first >= 0 else [0]:
        if lengths[index] < 0:
            raise missing_value(index, place)
        raise place.refused(index, f"is a list of {lengths[index]}; the first one has {first}")
    return first


def _texts(values: Any, gone: "NDArray[np.bool_]", place: Place) -> "NDArray[Any]":
    import numpy as np
    import pyarrow as pa

    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise PermanentError(f"column {place.column!r} holds {values.type}; the model takes texts here")
    if gone.any():
        raise place.refused(int(np.argmax(gone)), "has no value here, and a text cannot be NaN")
    return np.array(values.to_pylist(), dtype=object)


def _carried(values: Any, name: str) -> list[object]:
    """Return numbers, booleans and texts unchanged, times in ISO 8601, decimals as texts, bytes as hexadecimal digits."""
    import pyarrow as pa

    kind = values.type
    plain = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    if any(is_kind(kind) for is_kind in plain) or pa.types.is_null(kind):
        found: list[object] = values.to_pylist()
        return found
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return [None if value is None else value.hex() for value in values.to_pylist()]
    try:
        texts = values.cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        raise PermanentError(f"column {name!r} holds {kind}; it cannot be used as id") from error
    return [text.replace(" ", "T", 1) if text and pa.types.is_timestamp(kind) else text for text in texts]
