"""Figures of `image.features` for a float32 image: the exact sums of its bands, each rounded once, at the end."""

import math
from collections.abc import Sequence
from typing import Any

from regather.kinds.image.figures import Slopes, entropy, ratio
from regather.kinds.image.float_bands import COUNTED, EXACT, UNIT_BITS, FloatCounts, Sums, highest, lowest

_UNITS = 1 << UNIT_BITS


def placed_float_sums(counts: FloatCounts) -> list[Sums]:
    """Return a band's sums with the y moment counted from the image's first row."""
    row0 = counts.band.row0
    return [{**sums, "y_moment": sums["y_moment"] + row0 * sums["sum"]} for sums in counts.channels]


def add_float_sums(first: Sums, second: Sums) -> Sums:
    """Add the sums of one channel of two bands."""
    total = {name: first[name] + second[name] for name in (*EXACT, *COUNTED)}
    return {**total, "min": lowest(first["min"], second["min"]), "max": highest(first["max"], second["max"])}


def float_channels(channels: Sequence[Sums], histograms: Sequence[list[int]]) -> list[dict[str, Any]]:
    """Return the figures of each channel."""
    return [_channel(sums, histogram) for sums, histogram in zip(channels, histograms, strict=True)]


def float_slopes(channels: Sequence[Sums], octants: Sequence[int]) -> Slopes:
    """Return the figures of the slopes of all channels; `inner` is the smallest number of inner pixels of a channel."""
    energy = sum(sums["energy_x"] + sums["energy_y"] for sums in channels)
    sharpness = [_spread(sums, "laplacian_", sums["inner_pixels"]) for sums in channels]
    return Slopes(
        min(sums["inner_pixels"] for sums in channels),
        ratio(energy, _UNITS * sum(sums["inner_pixels"] for sums in channels)),
        None if None in sharpness else math.fsum(filter(None, sharpness)) / len(channels),
        [octant / _UNITS for octant in octants],
    )


def _channel(sums: Sums, histogram: list[int]) -> dict[str, Any]:
    count, inner = sums["count"], sums["inner_pixels"]
    spread = _spread(sums, "", count)
    return {
        **{name: sums[name] / _UNITS for name in EXACT},
        **{name: sums[name] for name in ("min", "max", *COUNTED)},
        "mean": ratio(sums["sum"], _UNITS * count),
        "std": None if spread is None else math.sqrt(spread),
        "centroid": [ratio(sums["x_moment"], sums["sum"]), ratio(sums["y_moment"], sums["sum"])],
        "gradient_energy": ratio(sums["energy_x"] + sums["energy_y"], _UNITS * inner),
        "sharpness": _spread(sums, "laplacian_", inner),
        "entropy_bits": entropy(histogram),
        "histogram": histogram,
    }


def _spread(sums: Sums, prefix: str, count: int) -> float | None:
    """Return the variance. Squares of the Laplacian are rounded before they are added, so it must be kept from below 0."""
    total, squares = sums[f"{prefix}sum"], sums[f"{prefix}sum_of_squares"]
    return ratio(max(0, count * squares * _UNITS - total * total), count * count * _UNITS * _UNITS)
