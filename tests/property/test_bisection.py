"""The search for bad rows finds exactly them, in few runs, and says so where no single row is to blame."""

from collections.abc import Callable, Sequence
from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from regather.core.bisection import Bisection, SearchResult

Fails = Callable[[Sequence[range]], bool]


def search(rows: range, fails: Fails, *, most_bad: int = 10_000, budget_us: int = 10**12) -> Bisection[str]:
    bisection = Bisection[str](rows, most_bad=most_bad, budget_us=budget_us)
    while bisection.result is None:
        run = bisection.next_run
        assert all(part and part.start >= rows.start and part.stop <= rows.stop for part in run)
        bisection.apply("boom" if fails(run) else None, 1000)
    return bisection


def contains(bad: set[int]) -> Fails:
    return lambda run: any(row in part for part in run for row in bad)


@st.composite
def shards(draw: st.DrawFn) -> tuple[range, set[int]]:
    first = draw(st.integers(0, 10**9))
    rows = range(first, first + draw(st.integers(2, 3000)))
    return rows, draw(st.sets(st.sampled_from(rows), min_size=1, max_size=min(20, len(rows) - 1)))


@given(shards())
def test_exactly_the_bad_rows_are_found_within_log2_plus_two_runs_for_each(shard: tuple[range, set[int]]) -> None:
    rows, bad = shard
    found = search(rows, contains(bad))
    assert found.result is SearchResult.FOUND
    assert set(found.bad) == bad
    assert found.runs <= (ceil(log2(len(rows))) + 2) * len(bad) + 1


@given(shards())
def test_the_last_run_is_every_good_row_and_no_other(shard: tuple[range, set[int]]) -> None:
    rows, bad = shard
    runs: list[Sequence[range]] = []

    def fails(run: Sequence[range]) -> bool:
        runs.append(run)
        return contains(bad)(run)

    search(rows, fails)
    assert [row for part in runs[-1] for row in part] == [row for row in rows if row not in bad]


@given(st.integers(2, 500), st.integers(1, 500))
def test_where_only_many_rows_together_fail_no_row_is_to_blame(count: int, limit: int) -> None:
    rows = range(count)
    found = search(rows, lambda run: sum(map(len, run)) > limit)
    assert found.result is SearchResult.NO_ROW
    assert not found.bad


@given(st.integers(1, 60))
def test_where_every_row_is_bad_the_shard_is(count: int) -> None:
    found = search(range(count), lambda _run: True)
    assert found.result is SearchResult.ALL_ROWS


@given(shards(), st.integers(0, 19))
def test_it_gives_up_above_the_most_bad_rows(shard: tuple[range, set[int]], most_bad: int) -> None:
    rows, bad = shard
    found = search(rows, contains(bad), most_bad=most_bad)
    assert found.result is (SearchResult.FOUND if len(bad) <= most_bad else SearchResult.TOO_MANY)
    assert set(found.bad) == set(sorted(bad)[: most_bad + 1])


@given(shards(), st.integers(1, 30))
def test_it_gives_up_beyond_its_budget(shard: tuple[range, set[int]], runs: int) -> None:
    rows, bad = shard
    needed = search(rows, contains(bad)).runs
    found = search(rows, contains(bad), budget_us=1000 * runs)
    assert found.result is (SearchResult.FOUND if needed <= runs else SearchResult.TOO_LONG)
    assert found.runs == min(needed, runs)
