"""The test runner counts across its processes, and a process that dies fails the run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

PASSES = "def test_passes() -> None:\n    pass\n"
CRASHES = "import os\n\ndef test_crashes() -> None:\n    os._exit(3)\n"
FAILS = "def test_fails() -> None:\n    raise ValueError\n"


def run(root: Path, folder: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the runner over a folder of tests."""
    command = [sys.executable, str(root / "tests" / "run.py"), "--report", "test-run", str(folder)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("second", "failed", "passed"),
    [
        (PASSES, [], {2}),
        (FAILS, ["test_fails"], {1}),
        (CRASHES, ["test_crashes"], {0, 1}),
    ],  # a crash ends the run early
    ids=["passes", "fails", "dies"],
)
def test_what_ends_in_any_process_is_counted(
    second: str, failed: list[str], passed: set[int], tmp_path: Path, repository_root: Path
) -> None:
    (tmp_path / "test_one.py").write_text(PASSES)
    (tmp_path / "test_two.py").write_text(second)
    code, report = run(repository_root, tmp_path)
    assert (code, report["ok"]) == ((0, True) if not failed else (1, False))
    assert [name.split("::")[1].split()[0] for name in report["failed"]] == failed
    assert report["passed"] in passed
