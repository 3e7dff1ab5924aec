"""Single faults on purpose: what random runs found, made so frequent that a few seeds show it."""

from dataclasses import replace
from typing import Any

import pytest

from regather.core.merge_attempts import MOST_BEGUN
from regather.core.model import JobState, OnError
from regather.testing.simulation.network import FaultProfile
from simulation import loops, trace
from simulation.kinds import Row
from simulation.workload import JobPlan


def plan(number: int, fates: list[tuple[str, int]], kind: str = "rows", **more: Any) -> JobPlan:
    label = f"j{number}"
    rows = tuple(Row(label, at, fate, argument) for at, (fate, argument) in enumerate(fates))
    return JobPlan(label, kind, rows, 1, start_s=0.1 * number, **more)


def go(seed: int, plans: list[JobPlan], **profile: float) -> loops.Run:
    trace.silence(cached=False)
    run = loops.Run(seed, plans=plans, profile=FaultProfile(**profile))
    run.play()
    run.judge()
    assert run.invariants.violations == []
    return run


def states(run: loops.Run) -> dict[str, JobState]:
    return {finals[0].status.label: finals[0].status.state for finals in run.ledger.finals.values()}


@pytest.mark.parametrize("seed", range(4))
def test_a_chain_goes_on_when_commits_say_ok_and_nothing_is_there(seed: int) -> None:
    plans = [plan(number, [("ok", 0)] * 8, "chained") for number in range(4)]
    run = go(seed, plans, commit_ignored=0.4)
    assert set(states(run).values()) == {JobState.SUCCEEDED}
    assert run.history.faults["commit-ignored"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_final_points_at_no_segment_that_is_not_there(seed: int) -> None:
    plans = [plan(number, [("ok", 0)] * 6, pad=210_000) for number in range(4)]
    run = go(seed, plans, commit_ignored=0.4)
    assert set(states(run).values()) == {JobState.SUCCEEDED}
    results = [finals[0].status.result for finals in run.ledger.finals.values()]
    assert any(result is not None and result.segments for result in results)


@pytest.mark.parametrize("seed", range(3))
def test_shards_that_take_workers_along_end_as_dead_letters_and_nobody_else_does(seed: int) -> None:
    fates = [("ok", 0), ("deadly", 9), ("ok", 0), ("deadly", 9), ("ok", 0), ("deadly", 2)]
    run = go(seed, [plan(0, fates, on_error=OnError.SKIP)])
    final = next(finals[0].status for finals in run.ledger.finals.values() if finals[0].status.label == "j0")
    assert (final.state, final.gaps) == (JobState.PARTIAL, ((1, 1), (3, 3)))
    assert run.history.faults["worker-killed-by-shard"] <= 6 * 3


@pytest.mark.parametrize("seed", range(4))
def test_a_merge_that_takes_aggregators_along_ends_its_job_and_nobody_elses(seed: int) -> None:
    deadly = plan(0, [("ok", 0)] * 2, "merged", merge="deadly")
    run = go(seed, [deadly, *(plan(number, [("ok", 0)] * 3, "merged") for number in range(1, 5))])
    ends = states(run)
    assert ends.pop("j0") is JobState.FAILED
    assert set(ends.values()) == {JobState.SUCCEEDED}
    assert (
        run.history.faults["aggregator-killed-by-merge"] == 1 + MOST_BEGUN
    )  # of the first death nobody knows the cause


@pytest.mark.parametrize("seed", [18, 19, 27, 54, 58, 97])  # of the first hundred, those that found something
def test_an_aggregator_that_comes_back_loses_no_job_that_was_redriven_meanwhile(seed: int) -> None:
    trace.silence(cached=False)
    slow_to_fail = [("ok", 0), ("ok", 0), *[("slow", 1900), ("perm", 0)] * 3]
    plans = [
        replace(plan(n, slow_to_fail, "merged", on_error=OnError.SKIP), per_shard=2, start_s=4 + n, redrives=((), ()))
        for n in range(4)
    ]
    run = loops.Run(seed, plans=plans, profile=FaultProfile(reply_lost=0.02, slow=0.05))
    for at_s in (3.5, 40.0):
        run.installation.later(at_s, freeze_an_owner, run)
    run.play()
    run.judge()
    assert run.invariants.violations == []


def freeze_an_owner(run: loops.Run) -> None:
    """Suspend one of two aggregators for longer than its session lasts."""
    aggregators = [service for service in run.installation.services if service.name.startswith("a")]
    if len(aggregators) > 1:
        aggregators[run.seed % 2].freeze(15 + run.seed % 5 * 3)


def test_a_late_word_of_a_gateway_never_hides_the_end() -> None:
    plans = [plan(number, [("ok", 0)] * 2, key=f"k{number}", twice=True) for number in range(6)]
    for seed in range(6):
        run = go(seed, plans, request_late=0.15)
        assert run.history.faults["request-late"] > 0


def test_a_submission_that_is_sent_twice_has_one_owner_and_one_result() -> None:
    run = go(1, [plan(number, [("ok", 0)] * 5, key=f"k{number}", twice=True) for number in range(5)])
    assert set(states(run).values()) == {JobState.SUCCEEDED}
