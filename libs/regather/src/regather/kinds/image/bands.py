"""What `image.features` counts in one band of rows: whole numbers only, so that bands add up exactly.

A band owns `rows` rows; the halo rows above and below it are there for neighbourhoods and belong to other bands. The
walk goes in tiles of a few rows that fit a core's cache, so its time depends on the bytes and not on the band.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from regather.processors.splitting.rows import ITEM_BYTES, Band

BINS = 256
LEVELS = 16
"""Grey levels of the co-occurrence counts: the highest four bits of a value."""

OCTANTS = 8
RADII = (1, 2, 3)
"""Distances of the neighbours in both texture counts; the largest one is the halo that a band needs."""

SUMS = ("sum", "sum_of_squares", "min", "max", "x_moment", "y_moment", "energy_x", "energy_y", "laplacian_sum",
        "laplacian_sum_of_squares")  # fmt: skip
"""Names of the whole numbers that are kept for each channel."""

TILE_VALUES = 192 * 1024
_PAIRED_FROM = 128 * 1024
_MAGIC = b"RIF1"
_HEAD = struct.Struct("<4s8sQQQQQQ")  # magic, dtype, width, channels, height (0: unknown), row0, rows, inner pixels
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""Neighbours clockwise from the upper left, as (rows, columns): bit 0 to bit 7 of a local binary pattern."""

_FORWARD = ((0, 1), (1, 1), (1, 0), (1, -1))
"""One direction of each pair of opposite ones."""

Pixels = NDArray[np.unsignedinteger]
Wide = NDArray[np.signedinteger]
Counts = NDArray[np.int64]
AnyType = TypeVar("AnyType", bound=np.generic)


@dataclass(frozen=True, slots=True)
class BandCounts:
    """The counts of one band. C is the number of channels, R of the radii.

    `sums` (C, len(SUMS)) with the y moment relative to the band's first row, `octants` (8,), `histogram` (C, 256),
    `patterns` (R, 256), `pairs` (R, 16, 16). `inner` is how many pixels of one channel have all eight neighbours.
    """

    band: Band
    inner: int
    sums: Counts
    octants: Counts
    histogram: Counts
    patterns: Counts
    pairs: Counts

    def encode(self) -> bytes:
        """As bytes: sums of 8 bytes, counts of 4, for a band of at most 10 MiB cannot overflow those."""
        band = self.band
        head = _HEAD.pack(
            _MAGIC, band.dtype.encode(), band.width, band.channels, band.height or 0, band.row0, band.rows, self.inner
        )
        counts = np.concatenate([self.histogram.ravel(), self.patterns.ravel(), self.pairs.ravel()])
        return b"".join([head, self.sums.tobytes(), self.octants.tobytes(), counts.astype("<u4").tobytes()])

    @classmethod
    def decode(cls, output: bytes) -> "BandCounts":
        """Read what encode() wrote; ValueError for anything else."""
        if output[:4] != _MAGIC:
            raise ValueError(f"no counts of a band: they begin with {_MAGIC!r}, not with {output[:4]!r}")
        _, dtype, width, channels, height, row0, rows, inner = _HEAD.unpack_from(output)
        band = Band(row0, rows, 0, 0, width, channels, dtype.rstrip(b"\0").decode(), height or None)
        wide_count = channels * len(SUMS) + OCTANTS
        wide = np.frombuffer(output, "<i8", wide_count, _HEAD.size)
        narrow = np.frombuffer(output, "<u4", offset=_HEAD.size + 8 * wide_count).astype(np.int64)
        histogram, patterns, pairs = np.split(narrow, [channels * BINS, (channels + len(RADII)) * BINS])
        return cls(
            band,
            inner,
            wide[:-OCTANTS].reshape(channels, len(SUMS)),
            wide[-OCTANTS:],
            histogram.reshape(channels, BINS),
            patterns.reshape(len(RADII), BINS),
            pairs.reshape(len(RADII), LEVELS, LEVELS),
        )


def count_band(payload: bytes, band: Band) -> BandCounts:
    """Count one band; ValueError if the payload has not the band's size."""
    pixels = band_pixels(payload, band)
    if band.dtype.startswith("int"):
        pixels = pixels.view(f"<u{ITEM_BYTES[band.dtype]}") ^ _lowest(band.dtype)
    walk = _Walk(band)
    tile_rows = max(1, TILE_VALUES // (band.width * band.channels))
    for first in range(band.top, band.top + band.rows, tile_rows):
        walk.add(pixels, first, min(first + tile_rows, band.top + band.rows))
    return walk.counts()


def band_pixels(payload: bytes, band: Band) -> NDArray[Any]:
    """Return a band's payload as an array of shape (rows with halo, width, channels); ValueError for a wrong size."""
    shape = (band.top + band.rows + band.bottom, band.width, band.channels)
    expected_bytes = shape[0] * shape[1] * shape[2] * ITEM_BYTES[band.dtype]
    if len(payload) != expected_bytes:
        raise ValueError(f"the band has {len(payload)} bytes; {shape} values of {band.dtype} are {expected_bytes}")
    return np.frombuffer(payload, np.dtype(band.dtype).newbyteorder("<")).reshape(shape)


def _lowest(dtype: str) -> int:
    """How far below zero the values of a type begin: a value plus that is never negative, and in the same order."""
    return 1 << 8 * ITEM_BYTES[dtype] - 1 if dtype.startswith("int") else 0


class _Walk:
    """Adds up tile after tile. Planes are (channels, rows, columns) with the halo rows that there are.

    Values with a sign come shifted up by _lowest(), which changes no difference; counts() takes it out of the sums.
    """

    def __init__(self, band: Band) -> None:
        self._band = band
        self._shift = 8 * ITEM_BYTES[band.dtype] - 8
        self._wide = np.dtype(np.int32 if self._shift else np.int16)
        self._inner = 0
        self._totals = {name: np.zeros(band.channels, np.int64) for name in SUMS}
        self._totals["min"] += (1 << 8 * ITEM_BYTES[band.dtype]) - 1
        self._octants = np.zeros(OCTANTS, np.int64)
        self._histogram = np.zeros((band.channels, BINS), np.int64)
        self._patterns = np.zeros((len(RADII), BINS), np.int64)
        self._pairs = np.zeros((len(RADII), LEVELS * LEVELS), np.int64)

    def add(self, pixels: Pixels, first: int, end: int) -> None:
        """Add the rows `first` to `end - 1` of the payload."""
        halo = max(RADII)
        low, high = max(0, first - halo), min(len(pixels), end + halo)
        planes = np.ascontiguousarray(pixels[low:high].transpose(2, 0, 1))
        own = slice(first - low, end - low)
        self._add_values(planes[:, own], first - self._band.top)
        levels = (planes >> (self._shift + 4)).astype(np.uint8)
        for index, radius in enumerate(RADII):
            self._pairs[index] += tally(pair_codes(levels, own, radius))
            self._patterns[index] += tally(pattern_codes(rows_around(planes, own, radius), radius))
        self._add_slopes(rows_around(planes, own, 1).astype(self._wide))

    def counts(self) -> BandCounts:
        """What was added, once all is."""
        if not self._shift:
            values = np.arange(BINS)
            self._totals["sum_of_squares"][:] = self._histogram @ (values * values)
            self._totals["min"][:] = np.argmax(self._histogram > 0, axis=1)
            self._totals["max"][:] = BINS - 1 - np.argmax(self._histogram[:, ::-1] > 0, axis=1)
        self._lower(_lowest(self._band.dtype))
        return BandCounts(
            self._band,
            self._inner,
            np.stack([self._totals[name] for name in SUMS], axis=1),
            self._octants,
            self._histogram,
            self._patterns,
            self._pairs.reshape(len(RADII), LEVELS, LEVELS),
        )

    def _lower(self, shift: int) -> None:
        """Take out of the sums that every value was `shift` too high."""
        band, totals = self._band, self._totals
        pixels = band.rows * band.width
        totals["sum_of_squares"] += shift * (shift * pixels - 2 * totals["sum"])
        totals["sum"] -= shift * pixels
        totals["x_moment"] -= shift * (band.width * (band.width - 1) // 2 * band.rows)
        totals["y_moment"] -= shift * (band.rows * (band.rows - 1) // 2 * band.width)
        totals["min"] -= shift
        totals["max"] -= shift

    def _add_values(self, own: Pixels, row: int) -> None:
        totals = self._totals
        row_sums = own.sum(axis=2, dtype=np.int64)
        totals["sum"] += row_sums.sum(axis=1)
        totals["y_moment"] += row_sums @ np.arange(row, row + own.shape[1])
        totals["x_moment"] += own.sum(axis=1, dtype=np.int64) @ np.arange(own.shape[2])
        if self._shift:  # else the histogram has one bin for each value, and says it all in the end
            totals["sum_of_squares"] += np.square(own, dtype=np.int64).sum(axis=(1, 2))
            totals["min"][:] = np.minimum(totals["min"], own.min(axis=(1, 2)))
            totals["max"][:] = np.maximum(totals["max"], own.max(axis=(1, 2)))
        for channel, plane in enumerate(own >> self._shift if self._shift else own):
            self._histogram[channel] += np.bincount(plane.ravel(), minlength=BINS)

    def _add_slopes(self, planes: Wide) -> None:
        """Sobel and Laplace filters around every pixel that has eight neighbours."""
        if planes.shape[1] < 3 or planes.shape[2] < 3:
            return
        above, centre, below = planes[:, :-2], planes[:, 1:-1], planes[:, 2:]
        smooth = above + 2 * centre + below
        x_slope = smooth[:, :, 2:] - smooth[:, :, :-2]
        step = below - above
        y_slope = step[:, :, :-2] + 2 * step[:, :, 1:-1] + step[:, :, 2:]
        cross = above[:, :, 1:-1] + below[:, :, 1:-1] + centre[:, :, :-2] + centre[:, :, 2:]
        laplacian = 4 * centre[:, :, 1:-1] - cross
        totals = self._totals
        totals["energy_x"] += _energy(x_slope)
        totals["energy_y"] += _energy(y_slope)
        totals["laplacian_sum"] += laplacian.sum(axis=(1, 2), dtype=np.int64)
        totals["laplacian_sum_of_squares"] += _energy(laplacian)
        self._octants += _octants(x_slope, y_slope)
        self._inner += laplacian[0].size


def rows_around(planes: NDArray[AnyType], own: slice, radius: int) -> NDArray[AnyType]:
    """The own rows and up to `radius` more on either side, as far as there are any."""
    return planes[:, max(0, own.start - radius) : own.stop + radius]


def _energy(values: Wide) -> Counts:
    """Sum of the squares of each channel. A square has twice the bits of its root."""
    square = np.square(values, dtype=np.int32 if values.dtype == np.int16 else np.int64)
    energy: Counts = square.sum(axis=(1, 2), dtype=np.int64)
    return energy


def _octants(x_slope: Wide, y_slope: Wide) -> Counts:
    """Sums of |gx| + |gy| by the eighth of the circle that the slope points to.

    Bit 0: gx < 0, bit 1: gy < 0, bit 2: |gy| > |gx|. The weights are whole numbers far below 2**53: floats hold them.
    """
    length, octant = octants_of(x_slope, y_slope)
    return np.bincount(octant.ravel(), length.ravel(), OCTANTS).astype(np.int64)


def octants_of(x_slope: NDArray[Any], y_slope: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return |gx| + |gy| of each slope, and the eighth of the circle that it points to."""
    x_size, y_size = np.abs(x_slope), np.abs(y_slope)
    return x_size + y_size, _bits([y_size > x_size, y_slope < 0, x_slope < 0])


def pattern_codes(planes: NDArray[Any], radius: int, valid: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Local binary patterns: bit k says that neighbour k of the ring is not below the centre.

    With `valid` (a flag for each value) those alone that no value without the flag takes part in.
    """
    rows, columns = planes.shape[1] - 2 * radius, planes.shape[2] - 2 * radius
    if rows < 1 or columns < 1:
        return np.zeros(0, np.uint8)
    corners = [(radius + down * radius, radius + right * radius) for down, right in reversed(_RING)]
    centre = planes[:, radius : radius + rows, radius : radius + columns]
    codes = _bits(planes[:, top : top + rows, left : left + columns] >= centre for top, left in corners)
    if valid is None:
        return codes
    kept = valid[:, radius : radius + rows, radius : radius + columns].copy()
    for top, left in corners:
        kept &= valid[:, top : top + rows, left : left + columns]
    return codes[kept]


def pair_codes(
    levels: NDArray[np.uint8], own: slice, radius: int, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """(level, level of the pixel `radius` further) in four directions; a pair belongs to its first pixel.

    With `valid` (a flag for each value) those pairs alone of which both have the flag.
    """
    codes = _all_pairs(levels, own, radius, LEVELS)
    return codes if valid is None else codes[_all_pairs(valid.view(np.uint8), own, radius, 2) == 3]


def _all_pairs(levels: NDArray[np.uint8], own: slice, radius: int, base: int) -> NDArray[np.uint8]:
    first_levels = levels[:, own] * np.uint8(base)
    codes = np.empty(len(_FORWARD) * first_levels.size, np.uint8)
    filled = 0
    for down, right in _FORWARD:
        second = levels[:, own.start + down * radius : own.stop + down * radius]
        first = first_levels[:, : second.shape[1]]
        if right:
            far, near = slice(radius, None), slice(None, -radius)
            first, second = first[:, :, near if right > 0 else far], second[:, :, far if right > 0 else near]
        np.bitwise_or(first, second, out=codes[filled : filled + first.size].reshape(first.shape))
        filled += first.size
    return codes[:filled]


def _bits(flags: Iterable[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Numbers made of flags, the highest bit first. Doubling is an addition: numpy shifts bytes one by one."""
    rest = iter(flags)
    code = next(rest).astype(np.uint8)
    for flag in rest:
        np.add(code, code, out=code)
        np.bitwise_or(code, flag.view(np.uint8), out=code)
    return code


def tally(codes: NDArray[np.uint8]) -> Counts:
    """How often each byte occurs. Many are counted as pairs of bytes: half as many steps."""
    flat = codes.reshape(-1)
    if flat.size < _PAIRED_FROM:
        return np.bincount(flat, minlength=BINS)
    even = flat.size & ~1
    two = np.bincount(flat[:even].view(np.uint16), minlength=BINS * BINS).reshape(BINS, BINS)
    counts: Counts = two.sum(axis=0) + two.sum(axis=1)
    counts[flat[even:]] += 1
    return counts
