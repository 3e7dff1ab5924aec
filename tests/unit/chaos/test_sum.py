"""Slices of one commit add up; a failing slice fails the sum."""

import json
from pathlib import Path
from typing import Any

from chaos.sum import ADDED, WORST, added, slices_of


def part(seed: int, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = dict.fromkeys(ADDED, 0) | dict.fromkeys(WORST, 0.0)
    document |= {"ok": True, "seed": seed, "faults": {"poison": seed}, "violations": []}
    return document | changes


def test_sums_and_worsts() -> None:
    whole = added([part(1, jobs=5, drain_s=9.5), part(2, jobs=7, drain_s=3.0)])
    assert (whole["ok"], whole["jobs"], whole["drain_s"], whole["faults"]) == (True, 12, 9.5, {"poison": 3})
    assert (whole["seeds"], whole["failing_seeds"]) == ([1, 2], [])


def test_a_failing_slice_fails_the_sum_and_names_its_seed() -> None:
    whole = added([part(1), part(2, ok=False, lost=1, violations=["lost: x"])])
    assert (whole["ok"], whole["lost"], whole["failing_seeds"]) == (False, 1, [2])
    assert whole["violations"] == ["seed 2: lost: x"]


def test_no_slice_is_no_proof() -> None:
    assert added([])["ok"] is False


def test_only_slices_of_the_commit_are_read(tmp_path: Path) -> None:
    for name, seed in (("chaos-abc-1", 1), ("chaos-abd-2", 2), ("chaos-sum", 3)):
        (tmp_path / f"{name}.json").write_text(json.dumps(part(seed)))
    assert [document["seed"] for document in slices_of(tmp_path, "abc")] == [1]
