"""Sobel and Laplace filters over whole numbers, and the exact sums of their results.

A slope is a difference of pixels, so a tile can be shifted to begin at 0. With values up to NARROW_RANGE every step
fits 16 bits: such a tile (any of 8 bits, most of 12) moves half as many bytes as one whose values span all 16 bits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regather.kinds.image.texture import code_of_bits

OCTANTS = 8
NARROW_RANGE = 8191
"""The largest 16-bit slope is four times this; |gx| + |gy| is twice as large and has no sign."""

Counts = NDArray[np.int64]
Signed = NDArray[np.signedinteger]
Unsigned = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class SlopeSums:
    """The sums of a tile. `channels` maps names in SUMS to a value per channel; `inner` is pixels per channel."""

    channels: dict[str, Counts]
    octants: Counts
    inner: int


def slope_sums(planes: Unsigned) -> SlopeSums | None:
    """Filter every pixel that has eight neighbours; None if no pixel has. Planes are (channels, rows, columns)."""
    if planes.shape[1] < 3 or planes.shape[2] < 3:
        return None
    values = _from_zero(planes)
    above, centre, below = values[:, :-2], values[:, 1:-1], values[:, 2:]
    sides = above + below
    cross = sides[:, :, 1:-1] + centre[:, :, :-2] + centre[:, :, 2:]
    smooth = sides + 2 * centre
    x_slope = smooth[:, :, 2:] - smooth[:, :, :-2]
    step = below - above
    y_slope = step[:, :, :-2] + 2 * step[:, :, 1:-1] + step[:, :, 2:]
    laplacian = 4 * centre[:, :, 1:-1] - cross
    channels = {
        "energy_x": _energy(x_slope),
        "energy_y": _energy(y_slope),
        "laplacian_sum": _laplacian_sum(values),
        "laplacian_sum_of_squares": _energy(laplacian),
    }
    return SlopeSums(channels, _octants(x_slope, y_slope), laplacian[0].size)


def octants_of(x_slope: NDArray[Any], y_slope: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return |gx| + |gy| of each slope, and the eighth of the circle that it points to.

    Bit 0: gx < 0, bit 1: gy < 0, bit 2: |gy| > |gx|.
    """
    x_size, y_size = np.abs(x_slope), np.abs(y_slope)
    octant = code_of_bits([y_size > x_size, y_slope < 0, x_slope < 0])
    if x_size.dtype == np.int16:  # the sum of two may need the sign bit
        return x_size.view(np.uint16) + y_size.view(np.uint16), octant
    return x_size + y_size, octant


def _from_zero(planes: Unsigned) -> Signed:
    """Return the values minus the lowest one, in 16 bits if every step fits them, otherwise in 32."""
    lowest = planes.min()
    narrow = bool(planes.max() - lowest <= NARROW_RANGE)
    values: Signed = (planes - lowest).astype(np.int16) if narrow else planes.astype(np.int32)
    return values


def _energy(slopes: Signed) -> Counts:
    """Return the sum of squares of each channel; a square needs twice the bits of its root."""
    square: Signed = np.square(slopes, dtype=np.int32 if slopes.dtype == np.int16 else np.int64)
    return _sums(square)


def _laplacian_sum(values: Signed) -> Counts:
    """Return the sum over inner pixels of 4 I(y, x) minus its four neighbours; all but outer rows and columns cancel."""
    down, right = values[:, :, 1:-1], values[:, 1:-1]
    inner = _sums(down[:, [1, -2]]) + _sums(right[:, :, [1, -2]])
    return inner - _sums(down[:, [0, -1]]) - _sums(right[:, :, [0, -1]])


def _sums(planes: Signed) -> Counts:
    sums: Counts = planes.sum(axis=(1, 2), dtype=np.int64)
    return sums


def _octants(x_slope: Signed, y_slope: Signed) -> Counts:
    """Return the sums of |gx| + |gy| by octant; the weights are whole numbers far below 2**53, so floats are exact."""
    length, octant = octants_of(x_slope, y_slope)
    return np.bincount(octant.ravel(), length.ravel(), OCTANTS).astype(np.int64)
