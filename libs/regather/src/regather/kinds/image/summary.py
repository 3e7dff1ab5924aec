"""The result of `image.features`: adds up the counts of the bands, and derives figures from the sums.

Each derived figure comes from exact whole numbers by one correctly rounded division, or by `math.fsum`, whose terms
need no order. So the answer does not depend on how the image was cut, to the last bit.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regather.core.seq_ranges import ranges
from regather.kinds.image.bands import RADII, SUMS, BandCounts
from regather.kinds.image.figures import Slopes, entropy, ratio, variance
from regather.kinds.image.float_bands import MAGIC, FloatCounts
from regather.kinds.image.float_summary import add_float_sums, float_channels, float_slopes, placed_float_sums
from regather.kinds.image.texture import LEVELS
from regather.processors.splitting.rows import Band

Document = dict[str, Any]
_COMMON_MULTIPLE = math.lcm(*range(1, LEVELS + 1))


def summarise(outputs: Sequence[bytes | None]) -> bytes:
    """Return the result from the bands' counts in order; None marks a shard that failed for good.

    ValueError if bands do not follow each other, or if there is none.
    """
    total = _Total()
    for seq, output in enumerate(outputs):
        if output is None:
            total.skip()
        else:
            total.add(FloatCounts.decode(output) if output.startswith(MAGIC) else BandCounts.decode(output), seq)
    document = total.document()
    document["gaps"] = ranges(seq for seq, output in enumerate(outputs) if output is None)
    document["digest"] = digest(document)
    return json.dumps(document).encode()


def digest(document: Document) -> str:
    """Return the SHA-256 of all whole numbers and texts of the result, as JSON with sorted names and without spaces.

    Derived figures (floats) are left out: another machine's logarithm may differ in the last bit.
    """
    exact = json.dumps(_without_floats(document), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(exact.encode()).hexdigest()


class _Total:
    """Sums over all bands; those that could exceed 64 bits are Python integers."""

    def __init__(self) -> None:
        self._last: Band | None = None
        self._gap = False
        self._rows = 0
        self._inner = 0
        self._sums: list[dict[str, Any]] = []
        self._octants: list[int] = []
        self._counts: list[NDArray[np.int64]] = []

    def skip(self) -> None:
        """Note that a band is missing here."""
        self._gap = True

    def add(self, counts: BandCounts | FloatCounts, seq: int) -> None:
        """Add the next band."""
        self._check_order(counts.band, seq)
        self._last, self._gap = counts.band, False
        self._rows += counts.band.rows
        if isinstance(counts, FloatCounts):
            sums, octants, add = placed_float_sums(counts), counts.octants, add_float_sums
        else:
            self._inner += counts.inner
            sums = [_channel_sums(channel, counts.band.row0) for channel in counts.sums.tolist()]
            octants, add = counts.octants.tolist(), _add
        self._sums = [add(*pair) for pair in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._octants = [sum(pair) for pair in zip(self._octants, octants, strict=True)] if self._octants else octants
        tables = [counts.histogram, counts.patterns, counts.pairs]
        self._counts = [a + b for a, b in zip(self._counts, tables, strict=True)] if self._counts else tables

    def document(self) -> Document:
        """Return the result without gaps and digest."""
        band = self._last
        if band is None:
            raise ValueError("not one band of the image was processed")
        histogram, patterns, pairs = self._counts
        slopes = float_slopes(self._sums, self._octants) if band.dtype == "float32" else self._slopes(band)
        return {
            "width": band.width,
            "height": band.height or (None if self._gap else band.row0 + band.rows),
            "channels": band.channels,
            "dtype": band.dtype,
            "rows": self._rows,
            "inner_pixels": slopes.inner,
            "per_channel": self._channels(band, histogram.tolist()),
            "gradient_energy": slopes.gradient_energy,
            "sharpness": slopes.sharpness,
            "entropy_bits": entropy(histogram.sum(axis=0).tolist()),
            "texture": {
                "orientation": slopes.orientation,
                "patterns": [_pattern(*radius) for radius in zip(RADII, patterns.tolist(), strict=True)],
                "pairs": [_pair(*radius) for radius in zip(RADII, pairs.tolist(), strict=True)],
            },
        }

    def _channels(self, band: Band, histogram: list[list[int]]) -> list[Document]:
        if band.dtype == "float32":
            return float_channels(self._sums, histogram)
        pixels = self._rows * band.width
        return [_channel(*channel, pixels, self._inner) for channel in zip(self._sums, histogram, strict=True)]

    def _slopes(self, band: Band) -> Slopes:
        energy = sum(sums["energy_x"] + sums["energy_y"] for sums in self._sums)
        sharpness = [_spread(sums, "laplacian_", self._inner) for sums in self._sums]
        return Slopes(
            self._inner,
            ratio(energy, self._inner * band.channels),
            None if None in sharpness else math.fsum(filter(None, sharpness)) / band.channels,
            self._octants,
        )

    def _check_order(self, band: Band, seq: int) -> None:
        last = self._last
        if last is None:
            follows = band.row0 == 0 or self._gap
        else:
            same = (band.width, band.channels, band.dtype) == (last.width, last.channels, last.dtype)
            end = last.row0 + last.rows
            follows = same and (band.row0 > end if self._gap else band.row0 == end)
        if not follows:
            raise ValueError(f"shard {seq} with rows from {band.row0} on does not follow {last}")


def _channel_sums(values: Sequence[int], row0: int) -> dict[str, int]:
    sums = dict(zip(SUMS, values, strict=True))
    sums["y_moment"] += row0 * sums["sum"]
    return sums


def _add(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    total = {name: first[name] + second[name] for name in SUMS}
    total["min"] = min(first["min"], second["min"])
    total["max"] = max(first["max"], second["max"])
    return total


def _channel(sums: dict[str, int], histogram: list[int], pixels: int, inner: int) -> Document:
    spread = _spread(sums, "", pixels)
    return {
        **sums,
        "count": pixels,
        "mean": ratio(sums["sum"], pixels),
        "std": None if spread is None else math.sqrt(spread),
        "centroid": [ratio(sums["x_moment"], sums["sum"]), ratio(sums["y_moment"], sums["sum"])],
        "gradient_energy": ratio(sums["energy_x"] + sums["energy_y"], inner),
        "sharpness": _spread(sums, "laplacian_", inner),
        "entropy_bits": entropy(histogram),
        "histogram": histogram,
    }


def _pattern(radius: int, histogram: list[int]) -> Document:
    smooth = sum(count for code, count in enumerate(histogram) if _turns(code) <= 2)
    return {
        "radius": radius,
        "uniform": ratio(smooth, sum(histogram)),
        "entropy_bits": entropy(histogram),
        "histogram": histogram,
    }


def _pair(radius: int, counts: list[list[int]]) -> Document:
    total = sum(map(sum, counts))
    cells = [(i, j, count) for i, row in enumerate(counts) for j, count in enumerate(row)]
    closeness = sum(count * (_COMMON_MULTIPLE // (1 + abs(i - j))) for i, j, count in cells)
    return {
        "radius": radius,
        "contrast": ratio(sum(count * (i - j) ** 2 for i, j, count in cells), total),
        "homogeneity": ratio(closeness, total * _COMMON_MULTIPLE),
        "uniformity": ratio(sum(count * count for _, _, count in cells), total * total),
        "correlation": _correlation(cells, total),
        "entropy_bits": entropy([count for _, _, count in cells]),
        "counts": counts,
    }


def _correlation(cells: Sequence[tuple[int, int, int]], total: int) -> float | None:
    first, second = sum(i * n for i, _, n in cells), sum(j * n for _, j, n in cells)
    spread_first = total * sum(i * i * n for i, _, n in cells) - first * first
    spread_second = total * sum(j * j * n for _, j, n in cells) - second * second
    if not spread_first or not spread_second:
        return None
    common = total * sum(i * j * n for i, j, n in cells) - first * second
    return common / (math.sqrt(spread_first) * math.sqrt(spread_second))


def _turns(code: int) -> int:
    """Return how often the bits of a pattern change around the ring."""
    return (code ^ (code >> 1 | code << 7 & 0xFF)).bit_count()


def _spread(sums: dict[str, int], prefix: str, count: int) -> float | None:
    return variance(sums[f"{prefix}sum"], sums[f"{prefix}sum_of_squares"], count)


def _without_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_floats(part) for name, part in value.items() if not isinstance(part, float)}
    if isinstance(value, list | tuple):
        return list(_kept(value))
    return value


def _kept(values: Sequence[Any]) -> Iterator[Any]:
    return (_without_floats(value) for value in values if not isinstance(value, float))
