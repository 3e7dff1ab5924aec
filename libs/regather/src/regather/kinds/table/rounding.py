"""Converts three digits in base 2^62 to the nearest double: rounded once, ties to even, as IEEE 754 defines it.

NumPy rounds a whole column of sums at a time. The first 64 bits of a number decide, together with whether any later bit
is set. Adding up the digits as doubles would round twice; the last bit would then depend on how the sum was made.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGIT_BITS = 62
_KEPT_BITS = 53
_TOP_BITS = 64
_DROPPED_BITS = _TOP_BITS - _KEPT_BITS
_LEAST_EXPONENT = -2 * _DIGIT_BITS  # the last digit counts units of 2^-124

Words = NDArray[np.uint64]


def rounded_once(high: Any, middle: Any, low: Any) -> Any:
    """Return doubles, as an Arrow array, for digits from 0 to 2^62 - 1 (`high`: to 2^63 - 1); null where one is null."""
    import pyarrow as pa

    columns = [np.asarray(digits.fill_null(0), np.uint64) for digits in (high, middle, low)]
    missing = np.asarray(high.is_null()) | np.asarray(middle.is_null()) | np.asarray(low.is_null())
    return pa.array(round_digits(*columns), mask=missing)


def round_digits(high: Words, middle: Words, low: Words) -> NDArray[np.float64]:
    """Return the double nearest to high + middle / 2^62 + low / 2^124 for each element."""
    exponents = np.zeros(len(high), np.int64)
    for _ in range(2):  # move the first digit that is not 0 to the front
        empty = high == 0
        high, middle, low = np.where(empty, middle, high), np.where(empty, low, middle), np.where(empty, 0, low)
        exponents -= np.where(empty, _DIGIT_BITS, 0)
    bits = _bit_length(high)
    top, sticky = _first_bits(high, middle, low, bits)
    kept = (top >> np.uint64(_DROPPED_BITS)).astype(np.int64)
    rest = top & np.uint64((1 << _DROPPED_BITS) - 1)
    half = np.uint64(1 << (_DROPPED_BITS - 1))
    up = (rest > half) | ((rest == half) & (sticky | (kept & 1 == 1)))
    result: NDArray[np.float64] = np.ldexp((kept + up).astype(np.float64), exponents + bits - _KEPT_BITS)
    return np.where(high == 0, 0.0, result)


def _first_bits(high: Words, middle: Words, low: Words, bits: NDArray[np.int64]) -> tuple[Words, NDArray[np.bool_]]:
    """Return the first 64 bits from the highest set bit on, and whether any bit after them is set."""
    room = (_TOP_BITS - bits).astype(np.uint64)  # 1 to 64 bits of room for the next digits, of 62 bits each
    first = np.where(bits > 0, high << np.minimum(room, np.uint64(63)), np.uint64(0))
    from_middle = np.minimum(room, np.uint64(_DIGIT_BITS))
    taken = middle >> (np.uint64(_DIGIT_BITS) - from_middle)
    left = room - from_middle  # 0, 1 or 2
    top = first | (taken << left) | (low >> (np.uint64(_DIGIT_BITS) - left))
    middle_rest = middle & ((np.uint64(1) << (np.uint64(_DIGIT_BITS) - from_middle)) - np.uint64(1))
    low_rest = low & ((np.uint64(1) << (np.uint64(_DIGIT_BITS) - left)) - np.uint64(1))
    return top, (middle_rest != 0) | (low_rest != 0)


def _bit_length(values: Words) -> NDArray[np.int64]:
    """Return the bit length of each number; it corrects a conversion to double that rounds up to a power of two."""
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    too_many = (bits > 0) & ((values >> np.maximum(bits - 1, 0).astype(np.uint64)) == 0)
    length: NDArray[np.int64] = bits - too_many
    return length
