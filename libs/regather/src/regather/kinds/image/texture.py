"""Texture of a tile: local binary patterns, and pairs of grey levels at a distance.

Planes are (channels, rows, columns). `own` are the rows whose pixels are counted; the rows around them are neighbours,
as far as the image has any. With `valid` (a flag for each value), only patterns and pairs count in which every value
has the flag.

Theory of the pairs. A level has four bits, so the four levels at the corners of a square of side `radius` are one
16-bit number. Counting that number counts all four pairs whose first pixel is one of the upper corners: to the right,
to the lower right, below, and to the lower left. So pairs cost one count per pixel instead of four. The pixels without
a square (at the right edge and in the image's last rows) are counted pair by pair.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from regather.kinds.image.tallies import ByteTally, Counts, WordTally

LEVELS = 16
"""Grey levels of the co-occurrence counts: the highest four bits of a value."""

Flags = NDArray[np.bool_]
Levels = NDArray[np.uint8]
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""Neighbours clockwise from the upper left, as (rows, columns): bit 0 to bit 7 of a local binary pattern."""

_FORWARD = ((0, 1), (1, 1), (1, 0), (1, -1))
"""One direction of each pair of opposite directions."""

_SQUARES_FROM = 64 * 1024
AnyType = TypeVar("AnyType", bound=np.generic)


def rows_around(planes: NDArray[AnyType], own: slice, radius: int) -> NDArray[AnyType]:
    """Return the own rows and up to `radius` more on either side, as far as they exist."""
    return planes[:, max(0, own.start - radius) : own.stop + radius]


def pattern_codes(planes: NDArray[Any], radius: int, valid: Flags | None = None) -> NDArray[np.uint8]:
    """Return local binary patterns: bit k is set if neighbour k of the ring is not below the centre."""
    rows, columns = planes.shape[1] - 2 * radius, planes.shape[2] - 2 * radius
    if rows < 1 or columns < 1:
        return np.zeros(0, np.uint8)
    corners = [(radius + down * radius, radius + right * radius) for down, right in reversed(_RING)]
    centre = planes[:, radius : radius + rows, radius : radius + columns]
    codes = code_of_bits(planes[:, top : top + rows, left : left + columns] >= centre for top, left in corners)
    if valid is None:
        return codes
    kept = valid[:, radius : radius + rows, radius : radius + columns].copy()
    for top, left in corners:
        kept &= valid[:, top : top + rows, left : left + columns]
    return codes[kept]


def code_of_bits(flags: Iterable[Flags]) -> NDArray[np.uint8]:
    """Return numbers made of flags, the highest bit first. It doubles by addition because NumPy shifts bytes one by one."""
    rest = iter(flags)
    code = next(rest).astype(np.uint8)
    for flag in rest:
        np.add(code, code, out=code)
        np.bitwise_or(code, flag.view(np.uint8), out=code)
    return code


class PairCounts:
    """Counts (level, level of the pixel at distance `radius`) in four directions; a pair belongs to its first pixel."""

    def __init__(self, radius: int) -> None:
        self._radius = radius
        self._pairs = ByteTally()
        self._squares: WordTally | None = None

    def counts(self) -> Counts:
        """Return how often each pair occurred: 256 counts, with the first pixel's level in the high bits."""
        pairs = self._pairs.counts()
        return pairs if self._squares is None else pairs + _pairs_of_squares(self._squares.counts())

    def add(self, levels: Levels, own: slice, valid: Flags | None = None) -> None:
        """Count the pairs whose first pixel is in the own rows."""
        if valid is not None:
            both = _codes(valid.view(np.uint8), own, self._radius, 2)
            for codes, flags in zip(_codes(levels, own, self._radius, LEVELS), both, strict=True):
                self._pairs.add(codes[flags == 3])
        elif levels[:, own].size < _SQUARES_FROM or levels.shape[2] <= self._radius:
            for codes in _codes(levels, own, self._radius, LEVELS):
                self._pairs.add(codes)
        else:
            self._add_squares(levels, own)

    def add_one_level(self, level: int, shape: tuple[int, ...], own: slice) -> None:
        """Count the pairs of a tile whose values all have this level."""
        channels, rows, columns = shape
        first_rows = own.stop - own.start
        both_rows = max(0, min(own.stop, rows - self._radius) - own.start)
        inside = max(0, columns - self._radius)
        pairs = channels * (first_rows * inside + both_rows * (columns + 2 * inside))
        self._pairs.add_many(level * (LEVELS + 1), pairs)

    def _add_squares(self, levels: Levels, own: slice) -> None:
        radius = self._radius
        if self._squares is None:
            self._squares = WordTally()
        last = min(own.stop, levels.shape[1] - radius)
        if last > own.start:
            rows = levels[:, own.start : last + radius]
            beside = rows[:, :, :-radius] * np.uint8(LEVELS) | rows[:, :, radius:]
            squares = beside[:, : last - own.start].astype(np.uint16)
            squares <<= np.uint16(8)
            squares |= beside[:, radius:]
            self._squares.add(squares)
            edge = levels[:, own.start : last + radius, -radius:]
            self._pairs.add(edge[:, : last - own.start] * np.uint8(LEVELS) | edge[:, radius:])
        lowest = levels[:, max(own.start, last) : own.stop]
        self._pairs.add(lowest[:, :, :-radius] * np.uint8(LEVELS) | lowest[:, :, radius:])


def _pairs_of_squares(squares: Counts) -> Counts:
    """Return the counts of the four pairs in each square. Axes: upper left, upper right, lower left, lower right."""
    corners = squares.reshape(LEVELS, LEVELS, LEVELS, LEVELS)
    with_upper_left = corners.sum(axis=1)
    pairs: Counts = (
        corners.sum(axis=(2, 3))
        + with_upper_left.sum(axis=2)
        + with_upper_left.sum(axis=1)
        + corners.sum(axis=0).sum(axis=2)
    )
    return pairs.reshape(-1)


def _codes(levels: Levels, own: slice, radius: int, base: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the pairs of each direction as base * first + second."""
    first_levels = levels[:, own] * np.uint8(base)
    for down, right in _FORWARD:
        second = levels[:, own.start + down * radius : own.stop + down * radius]
        first = first_levels[:, : second.shape[1]]
        if right:
            far, near = slice(radius, None), slice(None, -radius)
            first, second = first[:, :, near if right > 0 else far], second[:, :, far if right > 0 else near]
        yield first | second
