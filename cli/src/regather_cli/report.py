"""Reports of demo, test and benchmark targets: one JSON object each, written to benchmarks/results/."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
"""The checkout that this package was installed from in editable mode."""


def write_report(name: str, document: dict[str, Any], started: float) -> dict[str, Any]:
    """Add the commit and the seconds since `started` (time.monotonic()), write `<name>.json`, return the document."""
    whole = {"commit": commit(), "seconds": round(time.monotonic() - started, 1), **document}
    results = ROOT / "benchmarks" / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
    return whole


def commit(checkout: Path = ROOT) -> str:
    """Return the short hash of the checked-out commit; empty outside a checkout."""
    return _git(checkout, "rev-parse", "--short", "HEAD")


def dirty(checkout: Path = ROOT) -> bool:
    """Whether the checkout has modified files, or untracked files that are not ignored."""
    return bool(_git(checkout, "status", "--porcelain"))


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
