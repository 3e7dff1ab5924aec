"""Seeds: the same one gives the same run, those of the suite violate nothing, and those that found something stay."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simulation import loops, runner, trace
from simulation.regressions import FOUND

ROOT = Path(__file__).resolve().parent.parent.parent


def simulate(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "simulation", "--report", str(report), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=170)
    assert report.exists(), result.stderr
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert result.returncode == (0 if document["ok"] else 1)
    return document


@pytest.mark.long
def test_two_thousand_seeds_of_the_rules_violate_nothing(tmp_path: Path) -> None:
    document = simulate(tmp_path, "--level", "rules", "--seeds", "2000")
    assert (document["seeds"], document["violations"]) == (2000, {})


@pytest.mark.long
def test_fifty_seeds_of_the_loops_violate_nothing(tmp_path: Path) -> None:
    document = simulate(tmp_path, "--level", "loops", "--seeds", "50")
    assert (document["seeds"], document["violations"]) == (50, {})
    silent = {"transaction-expired", "worker-killed-by-shard", "commit-ignored"}  # too rare for fifty seeds
    wanted = {"killed", "frozen", "expelled", "stopped", "outage", "offset-moved-back", "redelivered", "reply-lost"}
    assert wanted - silent <= set(document["faults"])


@pytest.mark.parametrize(("level", "seed", "what"), FOUND, ids=lambda value: str(value)[:40])
def test_a_seed_that_found_something_violates_nothing_any_more(level: str, seed: int, what: str) -> None:
    trace.silence(cached=False)
    assert runner.run_seed(level, seed).failing == {}, what


def test_the_same_seed_gives_the_identical_run_and_another_one_does_not() -> None:
    trace.silence(cached=False)
    digests = [loops.Run(seed).go().digest for seed in (7, 7, 8)]
    assert digests[0] == digests[1] != digests[2]


def test_a_seed_gives_the_identical_run_in_another_process_with_other_hashes() -> None:
    code = "from simulation import loops, trace; trace.silence(); print(loops.Run(7).go().digest)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "PYTHONHASHSEED": "4711"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    trace.silence(cached=False)
    assert result.stdout.strip() == loops.Run(7).go().digest


def test_a_replay_tells_what_happened() -> None:
    told = "\n".join(runner.replay("loops", 3))
    for word in ("plan: JobPlan", "opened", "sealed", "final", "accepted", "assigned", "digest"):
        assert word in told


def test_the_rules_are_told_too() -> None:
    told = "\n".join(runner.replay("rules", 1))
    for word in ("Opened", "commits", "plan:"):
        assert word in told
