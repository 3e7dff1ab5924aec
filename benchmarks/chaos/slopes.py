"""How fast something grows in processes that are killed again and again. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

WARM_UP_S = 45.0
"""The first seconds of a process's life say nothing of leaks: modules are loaded, pools and caches fill."""

_LEAST_SAMPLES = 8
HOUR_S = 3600.0


class Sample(NamedTuple):
    """One reading of one process `life` (name and pid) at the age `age_s`."""

    life: str
    age_s: float
    value: float


def slope_per_hour(samples: Iterable[Sample]) -> float:
    """Growth per hour of process life, by least squares within each life; 0 without enough samples.

    Each life has a level of its own, so that neither kills nor restarts count as growth; only how the readings of one
    process rise or fall with its age does.
    """
    lives: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.age_s >= WARM_UP_S:
            lives[sample.life].append(sample)
    above = below = 0.0
    for life in lives.values():
        if len(life) < _LEAST_SAMPLES:
            continue
        mean_age_s = sum(sample.age_s for sample in life) / len(life)
        mean = sum(sample.value for sample in life) / len(life)
        above += sum((sample.age_s - mean_age_s) * (sample.value - mean) for sample in life)
        below += sum((sample.age_s - mean_age_s) ** 2 for sample in life)
    return round(above / below * HOUR_S, 1) if below else 0.0
