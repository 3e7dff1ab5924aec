"""Growth by age: kills and restarts are none, warming up is none, a burst is none, a leak in every life is."""

import pytest

from chaos.monitor import parse
from chaos.slopes import LEAST_LIFE_S, WARM_UP_S, Sample, slope_of


def life(name: str, level: float, per_hour: float, *, seconds: int = 200) -> list[Sample]:
    return [Sample(name, age_s, level + per_hour * age_s / 3600) for age_s in range(0, seconds, 2)]


def test_a_leak_is_found_though_its_process_is_killed_and_restarted() -> None:
    slope = slope_of([*life("a 1", 80, 120), *life("a 2", 75, 120), *life("b 1", 90, 120)])
    assert slope.per_hour == pytest.approx(120, abs=0.1)
    assert (slope.lives, slope.seconds) == (3, 3 * (198 - WARM_UP_S))


def test_processes_of_different_sizes_that_do_not_grow_have_no_slope() -> None:
    assert slope_of([*life("a 1", 80, 0), *life("a 2", 300, 0, seconds=400)]).per_hour == 0.0


def test_the_growth_of_the_first_seconds_does_not_count() -> None:
    warm = [Sample("a 1", age_s, min(age_s, WARM_UP_S)) for age_s in range(0, 200, 2)]
    assert slope_of(warm).per_hour == 0.0


def test_a_burst_late_in_a_life_is_no_growth() -> None:
    burst = [Sample("a 1", age_s, 40.0 + 30.0 * (360 <= age_s < 380)) for age_s in range(0, 400, 2)]
    assert slope_of(burst).per_hour == 0.0


def test_one_life_that_grows_among_many_that_do_not_is_no_leak_of_all() -> None:
    flat = [sample for number in range(4) for sample in life(f"a {number}", 80, 0)]
    assert slope_of([*flat, *life("b 1", 80, 5000)]).per_hour == 0.0


def test_the_long_life_counts_more_than_the_short_ones() -> None:
    short = [sample for number in range(3) for sample in life(f"a {number}", 80, 900, seconds=int(LEAST_LIFE_S) + 2)]
    assert slope_of([*short, *life("b 1", 80, 60, seconds=600)]).per_hour == pytest.approx(60, abs=0.1)


def test_lives_too_short_to_say_anything_say_nothing() -> None:
    assert slope_of(life("a 1", 80, 1000, seconds=int(LEAST_LIFE_S))) == (0.0, 0, 0)


def test_samples_of_a_page_are_added_up_over_labels() -> None:
    page = '# HELP x y\nx_total{a="1"} 2.0\nx_total{a="2 {"} 3.0\ny 1e3\n'
    assert parse(page) == {"x_total": 5.0, "y": 1000.0}
