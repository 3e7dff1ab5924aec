"""Figures derived from exact whole numbers by one correctly rounded division, or by `math.fsum`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slopes:
    """Figures of the slopes of all channels."""

    inner: int
    gradient_energy: float | None
    sharpness: float | None
    orientation: Sequence[float]


def ratio(part: int, whole: int) -> float | None:
    """Return part / whole, correctly rounded; None if `whole` is 0."""
    return part / whole if whole else None


def variance(total: int, squares: int, count: int) -> float | None:
    """Return the variance of `count` whole numbers from their sum and sum of squares; None for no numbers."""
    return ratio(count * squares - total * total, count * count)


def entropy(counts: Sequence[int]) -> float | None:
    """Return Shannon's entropy in bits: the sum of p * log2(1 / p); None if nothing was counted."""
    total = sum(counts)
    if not total:
        return None
    return math.fsum(count / total * math.log2(total / count) for count in counts if count)
