"""Columns as Arrow's CSV and JSON readers return them, and checks for values that Arrow accepts but our rules do not.

Arrow reads a shard first: it is fast, but its errors say too little. If it refuses a shard, or reads a value more
leniently than the rules of `numbers.py`, `csv_table.py` and `json_table.py` read the shard again value by value and
find the values, or the bad row. Both ways give the same numbers, so the result does not depend on the cut.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regather.core.errors import PermanentError
from regather.kinds.model.numbers import Place, convert
from regather.kinds.model.signature import CARRIED, TEXT

if TYPE_CHECKING:
    from numpy.typing import NDArray


def side_by_side(parts: "Sequence[NDArray[Any]]", rows: int, dtype: str) -> "NDArray[Any]":
    """Return columns of values, or of lists of values, as one matrix."""
    import numpy as np

    if not parts:
        return np.zeros((rows, 0), object if dtype == TEXT else dtype)
    return np.concatenate([part if part.ndim == 2 else part[:, None] for part in parts], axis=1)


def arrow_type(dtype: str) -> Any:
    """Return the Arrow type to read a column as, for an input of `dtype`."""
    import pyarrow as pa

    if dtype in (TEXT, CARRIED):
        return pa.string()
    if dtype.startswith("float"):
        return pa.float64()
    return pa.uint64() if dtype == "uint64" else pa.int64()


def whole_columns(table: Any, names: Sequence[str], missing: str) -> list[Any] | None:
    """Return columns as NumPy arrays or lists of texts; None if our rules have to check a value."""
    import numpy as np
    import pyarrow as pa

    columns = [table.column(name) for name in names]
    may_miss = [missing == "nan" and pa.types.is_floating(column.type) for column in columns]
    if any(column.null_count and not may for column, may in zip(columns, may_miss, strict=True)):
        return None
    found = [column.to_pylist() if pa.types.is_string(column.type) else column.to_numpy() for column in columns]
    reals = [values for values in found if isinstance(values, np.ndarray) and values.dtype.kind == "f"]
    if not reals or np.isfinite(reals).all():
        return found
    written = np.count_nonzero(np.isnan(reals)) - sum(column.null_count for column in columns)
    return None if written or np.isinf(reals).any() else found  # Arrow reads nan(1) as NaN; here it is not a number


def matrix_of(columns: "Sequence[NDArray[Any]]", names: Sequence[str], dtype: str, place: Place) -> "NDArray[Any]":
    """Return columns of numbers side by side as `dtype`; an error names the column that does not fit."""
    import numpy as np

    try:
        return convert(np.column_stack(columns), dtype, place)
    except PermanentError:
        for column, name in zip(columns, names, strict=True):
            convert(column, dtype, Place(place.numbers, name))
        raise
