"""How fast something grows in processes that are killed again and again. Pure."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

WARM_UP_S = 60.0
"""The first seconds of a process's life say nothing of leaks: modules are loaded, pools and caches fill."""

BLOCK_S = 20.0
"""Readings so close to each other are one: what a fault does to connections and requests is over by the next one."""

LEAST_LIFE_S = WARM_UP_S + 3 * BLOCK_S
_LEAST_READINGS = 4
HOUR_S = 3600.0


class Sample(NamedTuple):
    """One reading of one process `life` (name and pid) at the age `age_s`."""

    life: str
    age_s: float
    value: float


class Slope(NamedTuple):
    """Growth per hour of process life, and what it was seen in: how many lives, and their seconds after warming up."""

    per_hour: float = 0.0
    lives: int = 0
    seconds: float = 0.0


def slope_of(samples: Iterable[Sample]) -> Slope:
    """The median of the slopes between any two blocks of one life, those far apart counting more (Theil and Sen).

    Pairs of one life only: neither kills nor restarts are growth. A median: neither a burst nor one odd life is.
    """
    lives: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.life].append(sample)
    slopes: list[tuple[float, float]] = []
    seconds, counted = 0.0, 0
    for life in lives.values():
        blocks = list(_blocks(life))
        if life[-1].age_s >= LEAST_LIFE_S and len(blocks) > 1:
            counted += 1
            seconds += life[-1].age_s - WARM_UP_S
            slopes += [((b - a) / (late - early), late - early) for (early, a), (late, b) in combinations(blocks, 2)]
    return Slope(round(_weighted_median(slopes) * HOUR_S, 1), counted, round(seconds)) if slopes else Slope()


def _blocks(life: Iterable[Sample]) -> Iterator[tuple[float, float]]:
    """Age and median reading of each block."""
    readings: dict[int, list[float]] = defaultdict(list)
    for sample in life:
        if sample.age_s >= WARM_UP_S:
            readings[int((sample.age_s - WARM_UP_S) // BLOCK_S)].append(sample.value)
    for number, values in sorted(readings.items()):
        if len(values) >= _LEAST_READINGS:
            yield WARM_UP_S + (number + 0.5) * BLOCK_S, statistics.median(values)


def _weighted_median(values: Sequence[tuple[float, float]]) -> float:
    half, below = sum(weight for _, weight in values) / 2, 0.0
    for value, weight in sorted(values):
        below += weight
        if below >= half:
            return value
    raise ValueError("no values")
