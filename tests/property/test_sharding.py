"""The even-split law holds for every total, shard size, shard count and way of arriving."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import (
    MAX_ASKED_SHARDS,
    MAX_SHARD_BYTES,
    MIN_SHARD_BYTES,
    HeldBackPlan,
    Plan,
    check_shard_size,
    plan_by_count,
    plan_by_size,
    units_per_shard,
)

arrivals = st.lists(st.integers(0, 5_000), max_size=12)


def deal(plan: Plan, arriving: list[int]) -> tuple[list[int], int]:
    """Sizes of all shards, and the most units that were held after a cut."""
    sizes: list[int] = []
    held = most_held = 0
    for units in arriving:
        held += units
        while (run := plan.next_run(held))[0]:
            count, size = run
            sizes += [size] * count
            held -= count * size
        most_held = max(most_held, held)
    rest = list(plan.rest(held))
    assert sum(rest) == held
    return sizes + rest, most_held


@given(arrivals, st.integers(1, 60))
def test_a_number_of_shards_gives_that_many_and_sizes_differ_by_at_most_one(arriving: list[int], shards: int) -> None:
    total = sum(arriving) + shards
    sizes, _ = deal(plan_by_count(shards, total), [*arriving, shards])
    assert len(sizes) == shards
    assert sum(sizes) == total
    assert max(sizes) - min(sizes) <= 1


@given(arrivals, st.integers(1, 1_500))
def test_a_shard_size_with_a_known_total_gives_the_fewest_even_shards(arriving: list[int], units: int) -> None:
    total = sum(arriving) + 1
    sizes, most_held = deal(plan_by_size(units, total), [*arriving, 1])
    assert sum(sizes) == total
    assert len(sizes) == -(-total // units)
    assert max(sizes) <= units
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == 1 or 2 * min(sizes) >= units
    assert most_held <= units


@given(arrivals, st.integers(1, 1_500))
@example([2], 1)
@example([4], 3)
def test_a_shard_size_without_a_total_never_ends_in_a_tiny_shard(arriving: list[int], units: int) -> None:
    total = sum(arriving) + 1
    sizes, most_held = deal(plan_by_size(units, None), [*arriving, 1])
    assert sum(sizes) == total
    assert max(sizes) <= units
    assert len(sizes) == 1 or 2 * min(sizes) >= units
    assert len(set(sizes[:-2])) <= 1
    assert most_held < 2 * units


@given(st.integers(0, 100), st.integers(1, 20))
def test_whatever_is_left_in_the_end_is_cut_within_the_size(held: int, units: int) -> None:
    sizes = HeldBackPlan(units).rest(held)
    assert sum(sizes) == held
    assert all(0 < size <= units for size in sizes)


@pytest.mark.parametrize("size_bytes", [MIN_SHARD_BYTES, 5_000, MAX_SHARD_BYTES])
def test_shard_sizes_within_the_limits_are_taken(size_bytes: int) -> None:
    assert check_shard_size(size_bytes) == size_bytes


@pytest.mark.parametrize("size_bytes", [-1, 0, MIN_SHARD_BYTES - 1, MAX_SHARD_BYTES + 1])
def test_shard_sizes_outside_the_limits_are_refused_with_both_limits(size_bytes: int) -> None:
    with pytest.raises(BadRequest, match=rf"{size_bytes} bytes.*1024 to 10485760") as caught:
        check_shard_size(size_bytes)
    assert caught.value.code == "bad-shard-size"


@given(st.integers(MIN_SHARD_BYTES, MAX_SHARD_BYTES), st.integers(1, MAX_SHARD_BYTES // 7), st.integers(0, 3))
def test_a_shard_with_its_halo_stays_within_the_size_unless_one_row_is_larger(
    shard_size_bytes: int, row_bytes: int, halo: int
) -> None:
    rows = units_per_shard(shard_size_bytes, row_bytes, halo_units=halo)
    payload_bytes = (rows + 2 * halo) * row_bytes
    assert rows >= 1
    assert payload_bytes <= (MAX_SHARD_BYTES if rows == 1 else shard_size_bytes)
    assert rows == 1 or payload_bytes + row_bytes > shard_size_bytes


def test_a_row_above_the_largest_shard_is_refused_with_both_sizes() -> None:
    assert units_per_shard(MIN_SHARD_BYTES, MAX_SHARD_BYTES) == 1
    with pytest.raises(BadInput, match=r"10485761 bytes.*10485760"):
        units_per_shard(MAX_SHARD_BYTES, MAX_SHARD_BYTES + 1)
    with pytest.raises(BadInput, match=r"5000000 bytes \(15000000 with its 1 neighbours.*10485760"):
        units_per_shard(MAX_SHARD_BYTES, 5_000_000, halo_units=1)


@pytest.mark.parametrize(
    ("shards", "total", "why"),
    [
        (0, 10, "it must be from 1 to"),
        (MAX_ASKED_SHARDS + 1, 10**9, "it must be from 1 to"),
        (4, None, "needs the body's length"),
        (11, 10, "more than the 10 bytes"),
        (1, 0, "more than the 0 bytes"),
        (2, 2 * MAX_SHARD_BYTES + 1, "ask for at least 3"),
    ],
)
def test_a_number_of_shards_that_cannot_be_is_refused(shards: int, total: int | None, why: str) -> None:
    with pytest.raises(BadRequest, match=why) as caught:
        plan_by_count(shards, total)
    assert caught.value.code == "bad-split"


def test_the_advised_number_of_shards_is_the_least_that_works() -> None:
    with pytest.raises(BadRequest, match="ask for at least 3"):
        plan_by_count(2, 20, unit_bytes=MAX_SHARD_BYTES // 9, halo_units=1)
    sizes, _ = deal(plan_by_count(3, 20, unit_bytes=MAX_SHARD_BYTES // 9, halo_units=1), [20])
    assert sizes == [7, 7, 6]


def test_a_number_of_shards_of_rows_that_are_too_large_is_refused() -> None:
    with pytest.raises(BadInput, match="a row is never cut"):
        plan_by_count(2, 4, unit_bytes=MAX_SHARD_BYTES, halo_units=1)
