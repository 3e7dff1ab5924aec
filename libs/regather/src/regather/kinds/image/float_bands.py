"""Counts for `image.features` over one band of float32 rows, with exact sums, so that bands add up exactly.

Theory. A sum of floats depends on the order unless it is exact. Each summed value is a float64 that depends only on its
pixel's neighbourhood and is a multiple of 2**-298 (a float32 is a multiple of 2**-149, its square of 2**-298). So sums
are kept as whole numbers of that unit. `exact_sums` computes them with vector operations: S. Rump, T. Ogita and S.
Oishi, "Accurate floating-point summation, part I" (2008), lemma 3.3: adding and subtracting a large power of two leaves
the high bits of every value, whose sum float64 holds exactly; the next pass sums what was cut off.

NaN and infinite values are counted and left out: of the values, of every 3 x 3 neighbourhood that contains one
(slopes), of every ring (patterns) and of every pair.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regather.kinds.image.bands import BINS, RADII, TILE_VALUES, band_pixels
from regather.kinds.image.slopes import OCTANTS, octants_of
from regather.kinds.image.tallies import ByteTally, Counts
from regather.kinds.image.texture import LEVELS, Flags, PairCounts, pattern_codes, rows_around
from regather.processors.splitting.rows import Band

UNIT_BITS = 298
"""The sums are whole numbers of 2**-298."""

EXACT = ("sum", "sum_of_squares", "x_moment", "y_moment", "energy_x", "energy_y", "laplacian_sum",
         "laplacian_sum_of_squares")  # fmt: skip
COUNTED = ("count", "nan_pixels", "inf_pixels", "inner_pixels")
MAGIC = b"RIF2"
_HEAD = struct.Struct("<4sI")
Floats = NDArray[np.float64]
Sums = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FloatCounts:
    """The counts of one band, like BandCounts.

    `channels` has, for each channel, the EXACT sums in units of 2**-298 (the y moment relative to the band's first
    row), `min` and `max` (None if no value is finite) and the COUNTED numbers; `octants` are in those units, too.
    """

    band: Band
    channels: list[Sums]
    octants: list[int]
    histogram: Counts
    patterns: Counts
    pairs: Counts

    def encode(self) -> bytes:
        """Return the counts as bytes: sums as JSON, whose whole numbers have no limit, then counts of 4 bytes."""
        sums = json.dumps([self.band.encode().decode(), self.channels, self.octants]).encode()
        counts = np.concatenate([self.histogram.ravel(), self.patterns.ravel(), self.pairs.ravel()])
        return _HEAD.pack(MAGIC, len(sums)) + sums + counts.astype("<u4").tobytes()

    @classmethod
    def decode(cls, output: bytes) -> "FloatCounts":
        """Parse what encode() wrote; ValueError for anything else."""
        magic, size = _HEAD.unpack_from(output)
        if magic != MAGIC:
            raise ValueError(
                f"not the counts of a band of floats: they begin with {MAGIC!r}, this begins with {magic!r}"
            )
        band, sums, octants = json.loads(output[_HEAD.size : _HEAD.size + size])
        counts = np.frombuffer(output, "<u4", offset=_HEAD.size + size).astype(np.int64)
        histogram, patterns, pairs = np.split(counts, [len(sums) * BINS, (len(sums) + len(RADII)) * BINS])
        return cls(
            Band.decode(band.encode()),
            sums,
            octants,
            histogram.reshape(len(sums), BINS),
            patterns.reshape(len(RADII), BINS),
            pairs.reshape(len(RADII), LEVELS, LEVELS),
        )


def count_float_band(payload: bytes, band: Band, span: tuple[float, float] | None) -> FloatCounts:
    """Count one band; `span` is the lower end of the histogram's first bin and the upper end of its last one.

    Without `span` a bin is the high byte of the value's order-preserving bits. ValueError if the payload does not have
    the band's size.
    """
    pixels = band_pixels(payload, band)
    walk = _FloatWalk(band, span)
    tile_rows = max(1, TILE_VALUES // (band.width * band.channels))
    for first in range(band.top, band.top + band.rows, tile_rows):
        walk.add(pixels, first, min(first + tile_rows, band.top + band.rows))
    return walk.counts()


def exact_sums(values: Floats) -> list[int]:
    """Return the sum of each row in units of 2**-298; every value must be a multiple of that."""
    rest = values.reshape(len(values), -1).copy()
    totals = [0] * len(rest)
    guard_bits = max(1, rest.shape[1]).bit_length() + 1
    while rest.size:
        largest = np.abs(rest).max(axis=1)
        if not largest.any():
            break
        large = np.ldexp(1.0, np.frexp(largest)[1] + guard_bits)[:, None]
        high = (rest + large) - large
        totals = [total + _units(part) for total, part in zip(totals, high.sum(axis=1).tolist(), strict=True)]
        rest -= high
    return totals


def _units(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return (numerator << UNIT_BITS) // denominator


class _FloatWalk:
    """Adds up tile after tile. Planes are (channels, rows, columns), including the halo rows that exist."""

    def __init__(self, band: Band, span: tuple[float, float] | None) -> None:
        self._band = band
        self._span = span
        self._channels: list[Sums] = [
            dict.fromkeys((*EXACT, *COUNTED), 0) | {"min": None, "max": None} for _ in range(band.channels)
        ]
        self._octants = [0] * OCTANTS
        self._histogram = np.zeros((band.channels, BINS), np.int64)
        self._patterns = [ByteTally() for _ in RADII]
        self._pairs = [PairCounts(radius) for radius in RADII]

    def add(self, pixels: NDArray[Any], first: int, end: int) -> None:
        """Add the rows `first` to `end - 1` of the payload."""
        halo = max(RADII)
        low, high = max(0, first - halo), min(len(pixels), end + halo)
        planes = np.ascontiguousarray(pixels[low:high].transpose(2, 0, 1))
        finite: Flags = np.isfinite(planes)
        whole = bool(finite.all())
        clean = planes + np.float32(0) if whole else np.where(finite, planes, np.float32(0)) + np.float32(0)
        own = slice(first - low, end - low)
        bins = self._bins(clean)
        self._add_values(planes[:, own], clean[:, own], finite[:, own], first - self._band.top)
        self._add_histogram(bins[:, own], finite[:, own])
        levels = bins >> np.uint8(4)
        valid = None if whole else finite
        for radius, pairs, patterns in zip(RADII, self._pairs, self._patterns, strict=True):
            pairs.add(levels, own, valid)
            around = rows_around(clean, own, radius)
            patterns.add(pattern_codes(around, radius, None if whole else rows_around(finite, own, radius)))
        self._add_slopes(rows_around(clean, own, 1).astype(np.float64), rows_around(finite, own, 1), whole=whole)

    def counts(self) -> FloatCounts:
        """Return the counts of everything that was added; call it once, at the end."""
        patterns = np.stack([tally.counts() for tally in self._patterns])
        pairs = np.stack([pairs.counts() for pairs in self._pairs]).reshape(len(RADII), LEVELS, LEVELS)
        return FloatCounts(self._band, self._channels, self._octants, self._histogram, patterns, pairs)

    def _bins(self, clean: NDArray[Any]) -> NDArray[np.uint8]:
        if self._span is not None:
            low, high = self._span
            scaled = np.floor((clean.astype(np.float64) - low) / (high - low) * BINS)
            return np.clip(scaled, 0, BINS - 1).astype(np.uint8)
        bits = clean.view(np.uint32)
        ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
        return (ordered >> 24).astype(np.uint8)

    def _add_values(self, own: NDArray[Any], clean: NDArray[Any], finite: Flags, row: int) -> None:
        values = clean.astype(np.float64)
        self._add("sum", values)
        self._add("sum_of_squares", values * values)
        self._add("x_moment", values * np.arange(values.shape[2], dtype=np.float64))
        self._add("y_moment", values * np.arange(row, row + values.shape[1], dtype=np.float64)[:, None])
        for channel, plane, flags in zip(self._channels, own, finite, strict=True):
            kept = plane[flags]
            channel["count"] += kept.size
            channel["nan_pixels"] += int(np.isnan(plane).sum())
            channel["inf_pixels"] += int(np.isinf(plane).sum())
            if kept.size:
                channel["min"] = lowest(channel["min"], float(kept.min()) + 0.0)
                channel["max"] = highest(channel["max"], float(kept.max()) + 0.0)

    def _add_histogram(self, bins: NDArray[np.uint8], finite: Flags) -> None:
        for channel, (plane, flags) in enumerate(zip(bins, finite, strict=True)):
            self._histogram[channel] += np.bincount(plane[flags], minlength=BINS)

    def _add_slopes(self, planes: Floats, finite: Flags, *, whole: bool) -> None:
        """Apply Sobel and Laplace filters at every finite pixel that has eight finite neighbours."""
        if planes.shape[1] < 3 or planes.shape[2] < 3:
            return
        above, centre, below = planes[:, :-2], planes[:, 1:-1], planes[:, 2:]
        smooth = (above + 2 * centre) + below
        x_slope = smooth[:, :, 2:] - smooth[:, :, :-2]
        step = below - above
        y_slope = (step[:, :, :-2] + 2 * step[:, :, 1:-1]) + step[:, :, 2:]
        cross = ((above[:, :, 1:-1] + below[:, :, 1:-1]) + centre[:, :, :-2]) + centre[:, :, 2:]
        laplacian = 4 * centre[:, :, 1:-1] - cross
        inner = np.full(laplacian.shape, fill_value=True) if whole else _all_around(finite)
        for slope in () if whole else (x_slope, y_slope, laplacian):
            slope[~inner] = 0.0
        self._add("energy_x", x_slope * x_slope)
        self._add("energy_y", y_slope * y_slope)
        self._add("laplacian_sum", laplacian)
        self._add("laplacian_sum_of_squares", laplacian * laplacian)
        for channel, flags in zip(self._channels, inner, strict=True):
            channel["inner_pixels"] += int(flags.sum())
        length, octant = octants_of(x_slope, y_slope)
        for index in range(OCTANTS):
            self._octants[index] += exact_sums(length[octant == index].reshape(1, -1))[0]

    def _add(self, name: str, values: Floats) -> None:
        for channel, total in zip(self._channels, exact_sums(values), strict=True):
            channel[name] += total


def _all_around(flags: Flags) -> Flags:
    """Return for every pixel with eight neighbours whether the flag is set at it and at all of them."""
    down: Flags = flags[:, :-2] & flags[:, 1:-1] & flags[:, 2:]
    around: Flags = down[:, :, :-2] & down[:, :, 1:-1] & down[:, :, 2:]
    return around


def lowest(first: float | None, second: float | None) -> float | None:
    """Return the lower value; None is no value."""
    return min((value for value in (first, second) if value is not None), default=None)


def highest(first: float | None, second: float | None) -> float | None:
    """Return the higher value; None is no value."""
    return max((value for value in (first, second) if value is not None), default=None)
