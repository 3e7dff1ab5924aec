"""`make chaos-sum`: adds the slices of one commit, each written by `make chaos SEED=s`."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regather_cli.report import ROOT, commit, write_report

ADDED = (
    "faults_fired", "faults_idle", "faults_chosen_anew", "jobs", "shards", "lost", "duplicate_finals", "wrong",
    "unfinished", "dead_letters_missing", "versions_checked", "duplicates_folded", "violations_in_all",
)  # fmt: skip
WORST = ("executions_max", "drain_s", "rss_slope_mb_h", "fd_slope_h", "tasks_slope_h")


def added(slices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report of all slices: sums, and of what cannot be summed the worst."""
    kinds: Counter[str] = Counter()
    for part in slices:
        kinds.update(part["faults"])
    return {
        "ok": bool(slices) and all(part["ok"] for part in slices),
        "slices": len(slices),
        "seeds": sorted(part["seed"] for part in slices),
        "failing_seeds": sorted(part["seed"] for part in slices if not part["ok"]),
        **{name: sum(part[name] for part in slices) for name in ADDED},
        **{name: max((part[name] for part in slices), default=0) for name in WORST},
        "faults": dict(sorted(kinds.items())),
        "violations": [f"seed {part['seed']}: {text}" for part in slices for text in part["violations"]],
    }


def slices_of(folder: Path, commit_hash: str) -> list[dict[str, Any]]:
    """The reports of one commit in a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"chaos-{commit_hash}-*.json"))]


def main() -> int:
    """Print and write the sum; 1 if a slice failed, or there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default=commit(), help="short hash; the checked-out one by default")
    given = parser.parse_args()
    document = added(slices_of(ROOT / "benchmarks" / "results", given.commit)) | {"commit": given.commit}
    print(json.dumps(write_report("chaos-sum", document, time.monotonic())), flush=True)
    return 0 if document["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
