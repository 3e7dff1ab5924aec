"""Converts values of a body to values of a model's input: exact, rounded to the nearest float, or a bad row; never wrapped.

| to | from | rule |
|---|---|---|
| float16, float32, float64 | numbers | the nearest value; a finite number that would become infinite is refused |
| integers | numbers | whole numbers within the type's range; everything else is refused |
| bool | numbers | 0 and 1; everything else is refused |
| text | texts | unchanged; a number is refused |

Booleans of the body count as 0 and 1. A missing value is refused, or becomes NaN with the option `missing=nan`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from regather.core.errors import PermanentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_JSON_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_MOST_DIGITS = 400
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Place:
    """Origin of values: the numbers of their rows, and their column."""

    numbers: "NDArray[np.int64]"
    column: str

    def refused(self, index: int, why: str) -> PermanentError:
        """Return the error for the value of one row."""
        return bad_row(int(self.numbers[index]), f"column {self.column!r} {why}")


class Real(float):
    """A number that JSON writes with a point or an exponent; `text` is the number as written, not rounded to a float."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Read the text."""
        found = super().__new__(cls, text)
        found.text = text
        return found


def bad_row(number: int, why: str) -> PermanentError:
    """Return the error for a row."""
    return PermanentError(f"row {number}: {why}")


def shown(value: object) -> str:
    """Return a value, shortened, for a message."""
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def from_texts(texts: Sequence[str], dtype: str, missing: str, place: Place) -> "NDArray[Any]":
    """Return the values of CSV cells."""
    whole = _is_whole(dtype)
    return from_numbers(
        [_of_text(text, index, missing, place, whole=whole) for index, text in enumerate(texts)], dtype, place
    )


def from_json(values: Sequence[object], dtype: str, missing: str, place: Place) -> "NDArray[Any]":
    """Return JSON values: numbers, booleans, null, and the three strings for numbers that JSON cannot write."""
    whole = _is_whole(dtype)
    numbers = [_of_json(value, index, missing, place, whole=whole) for index, value in enumerate(values)]
    return from_numbers(numbers, dtype, place)


def from_numbers(values: Sequence[int | float | Decimal], dtype: str, place: Place) -> "NDArray[Any]":
    """Return Python's numbers as values of `dtype`."""
    import numpy as np

    if not _is_whole(dtype):
        for index, value in enumerate(values):
            if isinstance(value, int) and abs(value) > 2**1000:
                raise place.refused(index, f"is {shown(value)}, which {dtype} cannot hold")
        return convert(np.array(values, np.float64), dtype, place)
    info = np.iinfo(dtype) if dtype != "bool" else None
    low, high = (int(info.min), int(info.max)) if info else (0, 1)
    for index, value in enumerate(values):
        if not (math.isfinite(value) and value == int(value) and low <= value <= high):
            raise place.refused(index, f"is {shown(value)}, which the model's {dtype} cannot hold")
    return np.array([int(value) for value in values], dtype)


def convert(values: "NDArray[Any]", dtype: str, place: Place) -> "NDArray[Any]":
    """Return NumPy's numbers as values of `dtype`, by the rules above."""
    import numpy as np

    if values.dtype == dtype:
        return values
    if values.dtype.kind in "iub" and dtype in ("float32", "float64"):
        return values.astype(dtype)  # no value is out of range
    with np.errstate(all="ignore"):
        found = values.astype(dtype)
        wrong = _changed(values, found) if _is_whole(dtype) else np.isinf(found)
        if wrong.any() and not _is_whole(dtype):
            wrong &= np.isfinite(values)
    if wrong.any():
        index = int(np.argmax(wrong.reshape(len(values), -1).any(axis=1)))
        value = values[index].reshape(-1)[int(np.argmax(wrong[index].reshape(-1)))].item()
        raise place.refused(index, f"is {shown(value)}, which the model's {dtype} cannot hold")
    return found


def convert_some(
    values: "NDArray[Any]", gone: "NDArray[np.bool_]", dtype: str, missing: str, place: Place
) -> "NDArray[Any]":
    """Return values as convert() does, with NaN for missing ones, or refuse the first row that lacks one.

    `values` must have some number that `dtype` can hold in place of a missing value; it is ignored.
    """
    import numpy as np

    if not gone.any():
        return convert(values, dtype, place)
    if missing != "nan":
        raise missing_value(int(np.argmax(gone)), place)
    if _is_whole(dtype):
        raise place.refused(int(np.argmax(gone)), f"has no value here, and the model's {dtype} has no NaN")
    found = convert(values, dtype, place)
    return np.where(gone, found.dtype.type("nan"), found)


def missing_value(index: int, place: Place) -> PermanentError:
    """Return the error for a row that has no value in a column."""
    return place.refused(index, "has no value here (missing=nan would give the model NaN)")


def _changed(values: "NDArray[Any]", found: "NDArray[Any]") -> "NDArray[np.bool_]":
    """Return where a conversion to whole numbers changed the value: a fraction, a value out of range, NaN."""
    import numpy as np

    if values.dtype.kind == "f":
        wide = values.astype(np.float64)
        info = np.iinfo(found.dtype) if found.dtype.kind != "b" else None
        low, high = (float(info.min), float(info.max) + 1) if info else (0.0, 2.0)
        inside: NDArray[np.bool_] = (wide >= low) & (wide < high) & (wide == np.floor(wide))
        return ~inside
    # Whole numbers: the round trip shows a wrap, except for a lost sign in the same bits.
    changed: NDArray[np.bool_] = (found.astype(values.dtype) != values) | ((found > 0) != (values > 0))
    return changed


def _is_whole(dtype: str) -> bool:
    return not dtype.startswith("float")


def _of_text(text: str, index: int, missing: str, place: Place, *, whole: bool) -> int | float:
    text = text.strip(" \t")
    if not text:
        return _missing(index, missing, place)
    if len(text) <= _MOST_DIGITS:
        if whole and _WHOLE.fullmatch(text):
            return int(text)
        if _NOT_FINITE.fullmatch(text):
            return float(text)
        if _NUMBER.fullmatch(text):
            value = float(text)
            if math.isinf(value):
                raise place.refused(index, f"is {shown(text)}, which is too large for a float")
            return _exact(text, value, index, place) if whole else value
    raise place.refused(index, f"is {shown(text)}, which is not a number")


def _exact(text: str, value: float, index: int, place: Place) -> int:
    """Return a whole number that is written with a point or an exponent, without rounding to a float."""
    exact = Decimal(text) if abs(value) < 2**65 else None
    if exact is None or exact != exact.to_integral_value():
        raise place.refused(index, f"is {shown(text)}, which is not a whole number that the model can hold")
    return int(exact)


def _of_json(value: object, index: int, missing: str, place: Place, *, whole: bool) -> int | float:
    if value is None:
        return _missing(index, missing, place)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        if isinstance(value, float) and math.isinf(value):
            raise place.refused(index, "is too large for a float")
        return _exact(value.text, value, index, place) if whole and isinstance(value, Real) else value
    if isinstance(value, str) and value in _JSON_NOT_FINITE:
        return float(value)
    raise place.refused(index, f"is {shown(value)}, which is not a number")


def _missing(index: int, missing: str, place: Place) -> float:
    if missing != "nan":
        raise missing_value(index, place)
    return math.nan
