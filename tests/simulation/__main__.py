"""`make simulate`: SEEDS=n runs many seeds and prints one JSON object; SEED=s tells one of them as a trace."""

import argparse
import json
import os
import sys
from pathlib import Path


def main() -> int:
    """Run as told; 1 where an invariant was violated."""
    _same_hashes()
    from regather_cli.report import ROOT, commit
    from simulation import runner

    arguments = _parse()
    if arguments.seed is not None:
        lines = list(runner.replay(arguments.level, arguments.seed))
        print("\n".join(lines))
        return int(any(line.startswith("VIOLATED") for line in lines))
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    tally, seconds = runner.run_many(arguments.level, seeds, arguments.processes, until_failure=arguments.until_failure)
    document = {"commit": commit(), "first": arguments.first, **runner.document(arguments.level, tally, seconds)}
    report = Path(arguments.report or ROOT / "benchmarks" / "results" / f"simulate-{arguments.level}.json")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))
    return 0 if document["ok"] else 1


def _same_hashes() -> None:
    """Texts have the same hashes in every process, or sets of them would have another order each time."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "simulation", *sys.argv[1:]])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--level", choices=("rules", "loops"), default="rules")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay this seed and print what happened")
    parser.add_argument("--until-failure", action="store_true", help="stop after the first seeds that fail")
    parser.add_argument("--report", help="where to write the document; benchmarks/results/ if nothing is said")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
