"""Runs seeds of the simulation in a mutated tree until one violates what it is to violate; one JSON object as last line.

    python -m mutants.search --root TREE --level rules --wanted I1 --seeds 17 --budget 4000

Without `--wanted` all of `--seeds` are run: that is the tree without a mutation, which has to violate nothing.
"""

import argparse
import gc
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from simulation import runner, trace

_COLLECT_EVERY = {"rules": 200, "loops": 1}
_MOST_SHOWN = 3
_OURS = ("regather", "simulation", "mutants")


def main() -> None:
    """Search, and say what was found and whose code it was."""
    arguments = _parse()
    trace.silence()
    gc.disable()  # when it runs must not depend on what ran before
    known = [int(seed) for seed in arguments.seeds.split(",") if seed]
    seeds = itertools.chain(known, (seed for seed in range(arguments.budget) if seed not in known))
    document = search(arguments.level, seeds, arguments.wanted)
    print(json.dumps({"level": arguments.level, **document, **loaded_from(Path(arguments.root).resolve())}))


def search(level: str, seeds: Iterable[int], wanted: str | None) -> dict[str, Any]:
    """Run seeds until one violates `wanted`; what that one violates, and what all of them did."""
    every: Counter[str] = Counter()
    shown: list[str] = []
    tried = 0
    for seed in seeds:
        tally = runner.run_seed(level, seed)
        tried += 1
        every += tally.violated
        shown += [f"seed {seed}: {line}" for lines in tally.failing.values() for line in lines]
        if wanted is not None and tally.violated[wanted]:
            here = [f"seed {seed}: {line}" for line in tally.failing[seed] if line.startswith(f"{wanted} ")]
            return _found(seed, tally.violated, here or shown, tried)
        if tried % _COLLECT_EVERY[level] == 0:
            gc.collect()
    return _found(None, every, shown, tried)


def _found(seed: int | None, violated: Counter[str], shown: list[str], tried: int) -> dict[str, Any]:
    return {"seed": seed, "violated": dict(violated), "shown": shown[:_MOST_SHOWN], "tried": tried}


def loaded_from(root: Path) -> dict[str, list[str]]:
    """Which of our modules came from the tree under `root`, and which came from elsewhere."""
    files = sorted(_our_files())
    return {
        "loaded": [str(file.relative_to(root)) for file in files if file.is_relative_to(root)],
        "strangers": [str(file) for file in files if not file.is_relative_to(root)],
    }


def _our_files() -> Iterator[Path]:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.startswith(_OURS):
            yield Path(file).resolve()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutants.search", description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--level", required=True)
    parser.add_argument("--wanted")
    parser.add_argument("--seeds", default="", help="these first, with commas between")
    parser.add_argument("--budget", type=int, default=0, help="then those from 0 on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
