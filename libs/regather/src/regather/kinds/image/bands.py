"""Counts for `image.features` over one band of rows: whole numbers only, so that bands add up exactly.

A band owns `rows` rows; the halo rows above and below are neighbours that belong to other bands. The walk goes in tiles
of a few rows that fit a core's cache, so its time depends on the number of bytes, not on the band's shape.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regather.kinds.image.slopes import OCTANTS, slope_sums
from regather.kinds.image.tallies import ByteTally, Counts
from regather.kinds.image.texture import LEVELS, PairCounts, pattern_codes, rows_around
from regather.processors.splitting.rows import ITEM_BYTES, Band

BINS = 256
RADII = (1, 2, 3)
"""Distances of the neighbours in both texture counts; the largest one is the halo that a band needs."""

SUMS = ("sum", "sum_of_squares", "min", "max", "x_moment", "y_moment", "energy_x", "energy_y", "laplacian_sum",
        "laplacian_sum_of_squares")  # fmt: skip
"""Names of the whole numbers that each channel has."""

TILE_VALUES = 192 * 1024
_TILE_ROWS = 64 * 1024
"""The sum of this many 16-bit values fits 32 bits."""

_MAGIC = b"RIF1"
_HEAD = struct.Struct("<4s8sQQQQQQ")  # magic, dtype, width, channels, height (0: unknown), row0, rows, inner pixels
Pixels = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class BandCounts:
    """The counts of one band. C is the number of channels, R of the radii.

    `sums` (C, len(SUMS)) with the y moment relative to the band's first row, `octants` (8,), `histogram` (C, 256),
    `patterns` (R, 256), `pairs` (R, 16, 16). `inner` is the number of pixels of one channel that have all eight
    neighbours.
    """

    band: Band
    inner: int
    sums: Counts
    octants: Counts
    histogram: Counts
    patterns: Counts
    pairs: Counts

    def encode(self) -> bytes:
        """Return the counts as bytes: sums of 8 bytes, counts of 4, which a band of at most 10 MiB cannot overflow."""
        band = self.band
        head = _HEAD.pack(
            _MAGIC, band.dtype.encode(), band.width, band.channels, band.height or 0, band.row0, band.rows, self.inner
        )
        counts = np.concatenate([self.histogram.ravel(), self.patterns.ravel(), self.pairs.ravel()])
        return b"".join([head, self.sums.tobytes(), self.octants.tobytes(), counts.astype("<u4").tobytes()])

    @classmethod
    def decode(cls, output: bytes) -> "BandCounts":
        """Parse what encode() wrote; ValueError for anything else."""
        if output[:4] != _MAGIC:
            raise ValueError(f"not the counts of a band: they begin with {_MAGIC!r}, this begins with {output[:4]!r}")
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
    """Count one band; ValueError if the payload does not have the band's size."""
    pixels = band_pixels(payload, band)
    if band.dtype.startswith("int"):
        pixels = pixels.view(f"<u{ITEM_BYTES[band.dtype]}") ^ _lowest(band.dtype)
    walk = _Walk(band)
    tile_rows = min(_TILE_ROWS, max(1, TILE_VALUES // (band.width * band.channels)))
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
    """Return how far below zero a type begins: a value plus this is never negative, and the order stays the same."""
    return 1 << 8 * ITEM_BYTES[dtype] - 1 if dtype.startswith("int") else 0


class _Walk:
    """Adds up tile after tile. Planes are (channels, rows, columns), including the halo rows that exist.

    Signed values arrive shifted up by _lowest(), which changes no difference; counts() removes the shift from the sums.
    """

    def __init__(self, band: Band) -> None:
        self._band = band
        self._shift = 8 * ITEM_BYTES[band.dtype] - 8
        self._inner = 0
        self._totals = {name: np.zeros(band.channels, np.int64) for name in SUMS}
        self._totals["min"] += (1 << 8 * ITEM_BYTES[band.dtype]) - 1
        self._octants = np.zeros(OCTANTS, np.int64)
        self._histogram = [ByteTally() for _ in range(band.channels)]
        self._patterns = [ByteTally() for _ in RADII]
        self._pairs = [PairCounts(radius) for radius in RADII]

    def add(self, pixels: Pixels, first: int, end: int) -> None:
        """Add the rows `first` to `end - 1` of the payload."""
        halo = max(RADII)
        low, high = max(0, first - halo), min(len(pixels), end + halo)
        planes = np.ascontiguousarray(pixels[low:high].transpose(2, 0, 1))
        own = slice(first - low, end - low)
        self._add_values(planes[:, own], first - self._band.top)
        self._add_pairs(planes, own)
        for radius, patterns in zip(RADII, self._patterns, strict=True):
            patterns.add(pattern_codes(rows_around(planes, own, radius), radius))
        self._add_slopes(rows_around(planes, own, 1))

    def counts(self) -> BandCounts:
        """Return the counts of everything that was added; call it once, at the end."""
        histogram = np.stack([tally.counts() for tally in self._histogram])
        if not self._shift:
            self._count_values(histogram)
        self._lower(_lowest(self._band.dtype))
        return BandCounts(
            self._band,
            self._inner,
            np.stack([self._totals[name] for name in SUMS], axis=1),
            self._octants,
            histogram,
            np.stack([tally.counts() for tally in self._patterns]),
            np.stack([pairs.counts() for pairs in self._pairs]).reshape(len(RADII), LEVELS, LEVELS),
        )

    def _count_values(self, histogram: Counts) -> None:
        """Compute the sums that follow from a histogram with one bin per value."""
        totals, values = self._totals, np.arange(BINS)
        totals["sum_of_squares"][:] = histogram @ (values * values)
        totals["min"][:] = np.argmax(histogram > 0, axis=1)
        totals["max"][:] = BINS - 1 - np.argmax(histogram[:, ::-1] > 0, axis=1)

    def _lower(self, shift: int) -> None:
        """Remove a shift of `shift` per value from the sums."""
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
        totals["x_moment"] += own.sum(axis=1, dtype=np.uint32).astype(np.int64) @ np.arange(own.shape[2])
        if self._shift:
            totals["sum_of_squares"] += np.square(own, dtype=np.uint32).sum(axis=(1, 2), dtype=np.int64)
            totals["min"][:] = np.minimum(totals["min"], own.min(axis=(1, 2)))
            totals["max"][:] = np.maximum(totals["max"], own.max(axis=(1, 2)))
        for tally, plane in zip(self._histogram, own, strict=True):
            tally.add((plane >> self._shift).astype(np.uint8) if self._shift else plane)

    def _add_pairs(self, planes: Pixels, own: slice) -> None:
        lowest, highest = int(planes.min()) >> (self._shift + 4), int(planes.max()) >> (self._shift + 4)
        if lowest == highest:  # for example 12 bits in 16: all values have the same level
            for pairs in self._pairs:
                pairs.add_one_level(lowest, planes.shape, own)
            return
        levels = (planes >> (self._shift + 4)).astype(np.uint8)
        for pairs in self._pairs:
            pairs.add(levels, own)

    def _add_slopes(self, planes: Pixels) -> None:
        found = slope_sums(planes)
        if found is None:
            return
        for name, sums in found.channels.items():
            self._totals[name] += sums
        self._octants += found.octants
        self._inner += found.inner
