"""`make chaos-sum`: adds the slices of one commit, each written by `make chaos SEED=s`.

A slice of this commit's name that tested something else, files that were changed or a commit that was checked out
meanwhile, is refused, and fails the sum; so does a slice that found a violation.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regather_cli.report import ROOT, commit, write_report

ADDED = (
    "faults_fired", "faults_idle", "faults_chosen_anew", "jobs", "shards", "lost", "duplicate_finals", "wrong",
    "unfinished", "dead_letters_missing", "versions_checked", "duplicates_folded", "violations_in_all",
)  # fmt: skip
WORST = ("executions_max", "executions_max_unfailed", "drain_s", "rss_slope_mb_h", "fd_slope_h", "tasks_slope_h")


def added(slices: Mapping[str, dict[str, Any]], commit_hash: str) -> dict[str, Any]:
    """One report of all slices by their files' names: sums, and of what cannot be summed the worst; each seed once."""
    refused = [f"{name}: {why}" for name, part in slices.items() if (why := why_refused(part, commit_hash))]
    by_seed = {part["seed"]: part for part in slices.values() if not why_refused(part, commit_hash)}
    taken = [by_seed[seed] for seed in sorted(by_seed)]
    kinds: Counter[str] = Counter()
    for part in taken:
        kinds.update(part["faults"])
    return {
        "ok": bool(taken) and not refused and all(part["ok"] for part in taken),
        "commit": commit_hash,
        "slices": len(taken),
        "seeds": sorted(by_seed),
        "failing_seeds": [part["seed"] for part in taken if not part["ok"]],
        "refused": refused,
        **{name: sum(part[name] for part in taken) for name in ADDED},
        **{name: max((part[name] for part in taken), default=0) for name in WORST},
        "faults": dict(sorted(kinds.items())),
        "violations": [f"seed {part['seed']}: {text}" for part in taken for text in part["violations"]],
    }


def why_refused(part: Mapping[str, Any], commit_hash: str) -> str:
    """Why a slice says nothing of this commit; empty if it does."""
    if part["commit"] != commit_hash:
        return f"it is of commit {part['commit']}"
    return "" if part.get("dirty") is False else "the files were not those of the commit"


def slices_of(folder: Path, commit_hash: str) -> dict[str, dict[str, Any]]:
    """The reports that are named after one commit in a folder, by their names."""
    found = sorted(folder.glob(f"chaos-{commit_hash}-*.json"))
    return {path.name: json.loads(path.read_text()) for path in found}


def main() -> int:
    """Print and write the sum; 1 if a slice failed, or there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default=commit(), help="short hash; the checked-out one by default")
    given = parser.parse_args()
    document = added(slices_of(ROOT / "benchmarks" / "results", given.commit), given.commit)
    print(json.dumps(write_report("chaos-sum", document, time.monotonic())), flush=True)
    return 0 if document["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
