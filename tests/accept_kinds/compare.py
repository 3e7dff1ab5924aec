"""Reading an answer's bytes and telling where it differs from what is right; None means equal.

Whole numbers, decimals and texts are exact. A double is exact unless the expectation allows its column a difference.
NaN and the infinities are the texts "NaN", "Infinity" and "-Infinity" in JSON.
"""

import io
import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from accept_kinds.case import Equal

NUMBER = (int, float, Decimal)


def difference(want: Equal, found: bytes) -> str | None:
    """Say how `found` differs from every value that would be right; None if it is one of them."""
    compare = COMPARES[want.compare]
    told = None
    for value in want.values:
        try:
            told = compare(value, found, want.tolerances)
        except (ValueError, KeyError, TypeError, IndexError, OSError, EOFError) as error:
            told = f"the answer cannot be read as {want.compare}: {type(error).__name__}: {error}"
        if told is None:
            return None
    return told


def parse_json(text: str | bytes) -> Any:
    """JSON with numbers kept exact: int and Decimal; bare NaN and infinities become the texts that are agreed."""
    return json.loads(text, parse_float=Decimal, parse_constant=str)


def same(want: Any, found: Any, tolerance: float = 0.0) -> bool:
    """Whether two JSON values are the same; numbers by value, true is not 1."""
    if isinstance(want, bool) or isinstance(found, bool) or want is None or found is None:
        return want is found
    if isinstance(want, NUMBER) and isinstance(found, NUMBER):
        doubles = tolerance > 0 or (_rounded(want) and _rounded(found))
        return want == found or (doubles and _near(float(want), float(found), tolerance))
    if isinstance(want, dict) and isinstance(found, dict):
        return list(want) == list(found) and all(same(want[name], found[name], tolerance) for name in want)
    if isinstance(want, list | tuple) and isinstance(found, list | tuple):
        return len(want) == len(found) and all(same(a, b, tolerance) for a, b in zip(want, found, strict=True))
    return type(want) is type(found) and want == found


def _rounded(value: float | Decimal) -> bool:
    """Whether a number may be a double's text: whole numbers and more than 17 digits are not, they are exact."""
    return isinstance(value, float) or (isinstance(value, Decimal) and len(value.normalize().as_tuple().digits) <= 17)


def _near(want: float, found: float, tolerance: float) -> bool:
    if math.isnan(want) or math.isnan(found):
        return math.isnan(want) and math.isnan(found)
    return want == found if tolerance == 0 else math.isclose(want, found, rel_tol=tolerance, abs_tol=0.0)


def first_difference(want: list[Any], found: list[Any], tolerances: Mapping[str, float]) -> str | None:
    """The first row, and in it the first column, that differs."""
    for number, (row, other) in enumerate(zip(want, found, strict=False)):
        told = _row_difference(row, other, tolerances)
        if told is not None:
            return f"row {number}: {told}"
    if len(want) != len(found):
        return f"{len(found)} rows, not {len(want)}"
    return None


def _row_difference(want: Any, found: Any, tolerances: Mapping[str, float]) -> str | None:
    if not isinstance(want, dict) or not isinstance(found, dict):
        return None if same(want, found) else f"{short(found)}, not {short(want)}"
    if list(want) != list(found):
        return f"columns {short(list(found))}, not {short(list(want))}"
    for name, value in want.items():
        if not same(value, found[name], tolerances.get(name, 0.0)):
            return f"{name} = {short(found[name])}, not {short(value)}"
    return None


def short(value: Any, length: int = 200) -> str:
    """A value in a report."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else f"{text[:length]}..."


def _ndjson(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    return first_difference(want, [parse_json(line) for line in found.decode().splitlines() if line], tolerances)


def _groups(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    return first_difference(want, parse_json(found)["groups"], tolerances)


def _json_rows(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    return first_difference(want, parse_json(found), tolerances)


def _document(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    """One JSON object; members that the expectation does not name are free, floats may differ by tolerances[""]."""
    return _member_difference(want, parse_json(found), "", tolerances.get("", 0.0))


def _member_difference(want: Any, found: Any, path: str, tolerance: float) -> str | None:
    if isinstance(want, dict) and isinstance(found, dict):
        for name, value in want.items():
            if name not in found:
                return f"{path}.{name} is missing"
            told = _member_difference(value, found[name], f"{path}.{name}", tolerance)
            if told is not None:
                return told
        return None
    if isinstance(want, list) and isinstance(found, list) and len(want) == len(found):
        of_items = (
            _member_difference(a, b, f"{path}[{at}]", tolerance)
            for at, (a, b) in enumerate(zip(want, found, strict=False))
        )
        return next(filter(None, of_items), None)
    exact = isinstance(want, int) and isinstance(found, int)
    return None if same(want, found, 0.0 if exact else tolerance) else f"{path} = {short(found)}, not {short(want)}"


def _lines(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    """NDJSON in which members that the expectation does not name are free."""
    lines = [parse_json(line) for line in found.decode().splitlines() if line]
    if len(lines) != len(want):
        return f"{len(lines)} lines, not {len(want)}"
    tolerance = tolerances.get("", 0.0)
    told = (
        _member_difference(a, b, f"line {at}", tolerance) for at, (a, b) in enumerate(zip(want, lines, strict=False))
    )
    return next(filter(None, told), None)


def _csv(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    """`want` is (names, rows of texts, None where a cell is null)."""
    import csv

    names, rows = want
    lines = list(csv.reader(io.StringIO(found.decode(), newline="")))
    if lines[:1] != [list(names)]:
        return f"header {short(lines[:1])}, not {names}"
    for number, (row, cells) in enumerate(zip(rows, lines[1:], strict=False)):
        if len(row) != len(cells):
            return f"row {number} has {len(cells)} cells, not {len(row)}"
        for name, value, cell in zip(names, row, cells, strict=True):
            if not _same_cell("" if value is None else value, cell, tolerances.get(name, 0.0)):
                return f"row {number}: {name} = {short(cell)}, not {short(value)}"
    return None if len(rows) == len(lines) - 1 else f"{len(lines) - 1} rows, not {len(rows)}"


def _same_cell(want: str, cell: str, tolerance: float) -> bool:
    if want == cell:
        return True
    try:
        return same(Decimal(want), Decimal(cell), tolerance)
    except ArithmeticError:
        return want.lower() in ("true", "false") and want.lower() == cell.lower()


def _arrow(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(found).read_all()
    except pa.ArrowException:
        table = pa.ipc.open_file(found).read_all()
    return _table_difference(want, table, tolerances)


def _parquet(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    import pyarrow.parquet as pq

    return _table_difference(want, pq.read_table(io.BytesIO(found)), tolerances)


def _table_difference(want: Any, table: Any, tolerances: Mapping[str, float]) -> str | None:
    """`want` is (DuckDB's types by name, rows)."""
    from accept_kinds.oracles.table import rows_of_arrow

    types, rows = want
    found_types, found = rows_of_arrow(table)
    return first_difference(rows, found, tolerances) or (
        None if types == found_types else f"types {short(found_types)}, not {short(types)}"
    )


def _npy(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    return _array_difference(want, np.load(io.BytesIO(found)), tolerances.get("", 0.0))


def _tiff(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    import tifffile

    return _array_difference(want, tifffile.imread(io.BytesIO(found)), tolerances.get("", 0.0))


def _array_difference(want: Any, found: Any, tolerance: float) -> str | None:
    if found.ndim == want.ndim + 1 and found.shape[-1] == 1:
        found = found[..., 0]  # one channel may have an axis of its own
    if want.shape != found.shape:
        return f"shape {found.shape}, not {want.shape}"
    if want.dtype != found.dtype:
        return f"values of {found.dtype}, not {want.dtype}"
    wide = np.float64 if want.dtype.kind == "f" else np.int64
    relative = tolerance if tolerance < 1 else 0.0  # from 1 on it is a difference of values
    away = ~np.isclose(found.astype(wide), want.astype(wide), rtol=relative, atol=tolerance, equal_nan=True)
    if not away.any():
        return None
    at = tuple(map(int, np.argwhere(away)[0]))
    return f"{int(away.sum())} of {away.size} values differ; at {at} {found[at]}, not {want[at]}"


def _bytes(want: Any, found: bytes, tolerances: Mapping[str, float]) -> str | None:
    return None if want == found else f"{len(found)} bytes {short(found, 80)}, not {len(want)} bytes {short(want, 80)}"


COMPARES: Mapping[str, Callable[[Any, bytes, Mapping[str, float]], str | None]] = {
    "ndjson": _ndjson,
    "groups": _groups,
    "json": _json_rows,
    "document": _document,
    "lines": _lines,
    "csv": _csv,
    "arrow": _arrow,
    "parquet": _parquet,
    "npy": _npy,
    "tiff": _tiff,
    "bytes": _bytes,
}
