"""Batches of shards take about ten milliseconds once a few were seen, whatever they take."""

from hypothesis import given
from hypothesis import strategies as st

from regather.core.batch_sizer import BATCH_TARGET_US, FIRST_BATCH_ITEMS, MAX_BATCH_ITEMS, BatchSizer


@given(st.integers(1, 10**9), st.integers(1, 64))
def test_a_batch_takes_about_the_target_or_is_one_shard(duration_us: int, items: int) -> None:
    pace = BatchSizer()
    assert pace.batch_items("kind") == FIRST_BATCH_ITEMS
    for _ in range(5):
        pace.saw("kind", items, duration_us * items)
    found = pace.batch_items("kind")
    assert found == 1 or found * duration_us <= BATCH_TARGET_US * 1.01
    assert found == MAX_BATCH_ITEMS or (found + 1) * duration_us > BATCH_TARGET_US * 0.99


def test_a_sort_that_becomes_slow_gets_small_batches_within_a_few() -> None:
    pace = BatchSizer()
    pace.saw("kind", 64, 64 * 20)
    assert pace.batch_items("kind") == MAX_BATCH_ITEMS
    pace.saw("kind", 64, 64 * 50_000)
    assert pace.batch_items("kind") == 1


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3), st.integers(0, 10**6)), max_size=50))
def test_sorts_do_not_mix(seen: list[tuple[int, int, int]]) -> None:
    pace = BatchSizer()
    for sort, items, duration_us in seen:
        pace.saw(sort, items, duration_us)
    assert pace.batch_items("never seen") == FIRST_BATCH_ITEMS


def test_only_the_sorts_seen_last_are_remembered() -> None:
    pace = BatchSizer()
    for sort in range(1001):
        pace.saw(sort, 1, 10**6)
    assert (pace.batch_items(0), pace.batch_items(1)) == (FIRST_BATCH_ITEMS, 1)
