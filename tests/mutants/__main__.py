"""`make mutants`: each broken build of the protocol has to be caught by the simulation, and the sound one by nothing."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mutants import page, rows, tree
from mutants.patches import LEVELS, HeaderError, Mutant, parse, with_seed
from mutants.rows import Row
from regather_cli.report import commit, write_report

BUDGET = {"rules": 4_000, "loops": 400}
_LIMIT_S = 300
_PROCESSES = 2
"""A machine of two cores has others to serve as well."""


class SearchFailed(Exception):
    """A search ended without an answer."""


def main() -> int:
    """Run all mutants, or some; 1 where one survives, does not apply, or the sound tree violates something."""
    arguments = _parse()
    started_s = time.monotonic()
    try:
        mutants = _load(arguments.only)
    except HeaderError as error:
        print(error, file=sys.stderr)
        return 1
    with ThreadPoolExecutor(_PROCESSES) as pool:
        known = [(mutant.level, mutant.seed) for mutant in mutants if mutant.level and mutant.seed is not None]
        before = _control(pool, known)
        found = list(pool.map(lambda mutant: _try_out(mutant, arguments), mutants))
        caught = [(row.caught_by, row.seed) for row in found if row.caught_by and row.seed is not None]
        control = _sum(before, _control(pool, [at for at in caught if at not in known]))
    if arguments.write_seeds:
        page.PAGE.write_text(page.with_rows(page.PAGE.read_text(), page.rows()))
    document = rows.document(found, control, time.monotonic() - started_s)
    whole = {"commit": commit(), **document} if arguments.only else write_report("mutants", document, started_s)
    print(json.dumps(whole))
    return 0 if document["ok"] else 1


def _load(only: Sequence[str]) -> list[Mutant]:
    paths = sorted(tree.PATCHES.glob("*.patch"))
    return [parse(path.stem, path.read_text()) for path in paths if not only or path.stem in only]


def _try_out(mutant: Mutant, arguments: argparse.Namespace) -> Row:
    """Break a copy, and search for a seed that shows it."""
    started_s = time.monotonic()
    try:
        searches = _searches(mutant, {level: getattr(arguments, level) for level in LEVELS})
        row = rows.decide(mutant, searches, time.monotonic() - started_s)
    except (tree.DoesNotApply, SearchFailed) as error:
        row = rows.broken(mutant, str(error), time.monotonic() - started_s)
    told = f"{row.caught_by} {row.seed}: {', '.join(row.violated)}" if row.caught_by else f"NOT CAUGHT: {row.why}"
    print(f"{row.name} ({row.invariant}, {row.seconds:.1f} s): {told}", flush=True)
    if arguments.write_seeds:
        _write_seed(row)
    return row


def _searches(mutant: Mutant, budget: Mapping[str, int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="regather-mutant-") as folder:
        copy = Path(folder) / "tree"
        tree.copy_to(copy)
        tree.apply(tree.PATCHES / f"{mutant.name}.patch", copy)
        for level in mutant.levels:
            known = [mutant.seed] if mutant.seed is not None else []
            found.append(_search(copy, level, known, "--wanted", mutant.invariant, "--budget", str(budget[level])))
            if found[-1]["seed"] is not None:
                break
    return found


def _control(pool: ThreadPoolExecutor, seeds: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Run these seeds in an unmutated copy."""
    with tempfile.TemporaryDirectory(prefix="regather-control-") as folder:
        copy = Path(folder) / "tree"
        tree.copy_to(copy)
        by_level = {level: sorted({seed for at, seed in seeds if at == level}) for level in LEVELS}
        asked = [(level, found) for level, found in by_level.items() if found]
        return _sum(*pool.map(lambda each: _search(copy, *each), asked))


def _sum(*searches: Mapping[str, Any]) -> dict[str, Any]:
    violated: dict[str, int] = {}
    for search in searches:
        for name, count in search["violated"].items():
            violated[name] = violated.get(name, 0) + count
    return {
        "tried": sum(search["tried"] for search in searches),
        "violated": violated,
        "shown": [line for search in searches for line in search["shown"]],
        "strangers": [file for search in searches for file in search["strangers"]],
    }


def _search(copy: Path, level: str, seeds: Sequence[int], *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "mutants.search", "--root", str(copy), "--level", level]
    command += ["--seeds", ",".join(map(str, seeds)), *more]
    try:
        result = subprocess.run(
            command, cwd=copy, env=tree.environment(copy), capture_output=True, text=True, check=False, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise SearchFailed(f"the search among the {level} did not end within {_LIMIT_S} s") from error
    if result.returncode != 0:
        raise SearchFailed(f"the search among the {level} failed: {result.stderr.strip()[-1500:]}")
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


def _write_seed(row: Row) -> None:
    if row.caught_by is not None and row.seed is not None:
        path = tree.PATCHES / f"{row.name}.patch"
        path.write_text(with_seed(path.read_text(), row.caught_by, row.seed))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these; nothing is written then")
    parser.add_argument("--write-seeds", action="store_true", help="put what caught each one into header and docs")
    for level, seeds in BUDGET.items():
        text = f"how many seeds of the {level} to search when the one in the header shows nothing"
        parser.add_argument(f"--{level}", type=int, default=seeds, metavar="SEEDS", help=text)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
