"""The nemesis' plan: decided by the seed alone, every kind comes, brokers get time to come back."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from chaos.nemesis import all_faults
from chaos.plan import BROKER_GAP_S, BROKER_KINDS, SHARES, Kind, PlannedFault, make_plan

ALL = list(Kind)


def plan(seed: int, count: int = 100, every_s: float = 8.0) -> list[PlannedFault]:
    return make_plan(seed, count, kinds=ALL, every_s=every_s)


def test_the_seed_decides_everything() -> None:
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)
    assert [fault.kind for fault in plan(7)] != [fault.kind for fault in plan(8)]


@pytest.mark.parametrize("count", [1, 5, len(ALL), 20, 100])
def test_as_many_faults_as_were_asked_for_in_order_of_time(count: int) -> None:
    faults = plan(3, count)
    assert [fault.number for fault in faults] == list(range(1, count + 1))
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert faults[-1].at_s < 4 + 8 * count


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_and_the_rest_is_shared_out(seed: int) -> None:
    found = Counter(fault.kind for fault in plan(seed))
    assert set(found) == set(ALL)
    off = {kind: found[kind] - SHARES[kind] * 100 / sum(SHARES.values()) for kind in ALL}
    assert max(map(abs, off.values())) <= 6


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_brokers_lie_apart(seed: int) -> None:
    times_s = [fault.at_s for fault in plan(seed) if fault.kind in BROKER_KINDS]
    assert len(times_s) > 15
    assert min(later - earlier for earlier, later in pairwise(times_s)) >= BROKER_GAP_S - 0.1


def test_what_is_struck_instead_is_never_a_broker() -> None:
    others = {kind for fault in plan(1) for kind in fault.otherwise}
    assert len(others) > 5
    assert others & BROKER_KINDS == set()


def test_only_the_kinds_that_were_asked_for() -> None:
    kinds = [Kind.WORKER_KILL, Kind.BROKER_KILL]
    assert {fault.kind for fault in make_plan(1, 10, kinds=kinds, every_s=8.0)} == set(kinds)


def test_every_kind_has_a_share_a_fault_and_a_row_in_the_page(repository_root: Path) -> None:
    page = (repository_root / "docs/operations/chaos.md").read_text().partition("## Faults")[2].partition("## ")[0]
    assert set(SHARES) == set(all_faults()) == set(Kind)
    assert [kind for kind in Kind if f"`{kind.value}`" not in page] == []
