"""Slices of one commit add up; a failing slice fails the sum, and so does one that tested something else."""

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.checker import ChaosResult
from chaos.report import Run, report_of
from chaos.sum import ADDED, WORST, added, slices_of

OF_A_SLICE = (
    "seed", "faults_fired", "faults", "faults_idle", "jobs", "shards", "lost", "duplicate_finals", "wrong", "unfinished",
    "dead_letters_missing", "versions_checked", "duplicates_folded", "executions_max", "drain_s", "rss_slope_mb_h",
    "fd_slope_h", "tasks_slope_h",
)  # fmt: skip
"""Every slice has these, and so has their sum, with `seeds` for `seed`."""


def part(seed: int, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = dict.fromkeys(ADDED, 0) | dict.fromkeys(WORST, 0.0)
    document |= {
        "ok": True,
        "seed": seed,
        "faults": {"poison": seed},
        "violations": [],
        "commit": "abc",
        "dirty": False,
    }
    return document | changes


def whole(*parts: dict[str, Any]) -> dict[str, Any]:
    return added({f"chaos-abc-{number}.json": part for number, part in enumerate(parts)}, "abc")


def test_sums_and_worsts() -> None:
    document = whole(part(1, jobs=5, drain_s=9.5), part(2, jobs=7, drain_s=3.0))
    assert (document["ok"], document["jobs"], document["drain_s"], document["faults"]) == (True, 12, 9.5, {"poison": 3})
    assert (document["seeds"], document["failing_seeds"], document["refused"]) == ([1, 2], [], [])


def test_a_failing_slice_fails_the_sum_and_names_its_seed() -> None:
    document = whole(part(1), part(2, ok=False, lost=1, violations=["lost: x"]))
    assert (document["ok"], document["lost"], document["failing_seeds"]) == (False, 1, [2])
    assert document["violations"] == ["seed 2: lost: x"]


def test_no_slice_is_no_proof() -> None:
    assert whole()["ok"] is False


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dirty": True}, "the files were not those of the commit"),
        ({"dirty": None}, "the files were not those of the commit"),
        ({"commit": "abd"}, "it is of commit abd"),
    ],
)
def test_what_tested_something_else_is_refused_and_fails_the_sum(changes: dict[str, Any], why: str) -> None:
    document = whole(part(1, jobs=5), part(2, jobs=7, **changes))
    assert (document["ok"], document["jobs"], document["seeds"]) == (False, 5, [1])
    assert document["refused"] == [f"chaos-abc-1.json: {why}"]


def test_a_seed_counts_once() -> None:
    document = whole(part(1, jobs=5), part(1, jobs=5))
    assert (document["jobs"], document["slices"], document["seeds"], document["faults"]) == (5, 1, [1], {"poison": 1})


def test_the_sum_has_what_a_slice_has() -> None:
    slice_ = report_of(Run(seed=7), ChaosResult(), wanted=0, logs="") | {"commit": "abc", "dirty": False}
    assert [name for name in OF_A_SLICE if name not in slice_] == []
    document = whole(slice_)
    assert [name for name in OF_A_SLICE if name not in document] == ["seed"]
    assert document["seeds"] == [7]


def test_only_slices_of_the_commit_are_read(tmp_path: Path) -> None:
    for name, seed in (("chaos-abc-1", 1), ("chaos-abd-2", 2), ("chaos-sum", 3)):
        (tmp_path / f"{name}.json").write_text(json.dumps(part(seed)))
    assert [document["seed"] for document in slices_of(tmp_path, "abc").values()] == [1]
