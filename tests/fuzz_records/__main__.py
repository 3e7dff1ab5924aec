"""`make fuzz-records`: RECORDS=100000 odd records in every topic; prints one JSON object."""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main() -> int:
    """Run as told; 1 if a service ended, something hung, or a client's job was hurt."""
    _same_hashes()
    from fuzz_records.runner import RECORDS_OF_A_RUN, play, summed
    from regather_cli.report import ROOT, commit

    arguments = _parse()
    began_s = time.monotonic()
    runs = -(-arguments.records // RECORDS_OF_A_RUN)
    seeds = range(arguments.first, arguments.first + runs)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        found = dict(pool.imap(play, seeds))
    document = {"commit": commit(), **summed(found), "seconds": round(time.monotonic() - began_s, 1)}
    report = ROOT / "benchmarks" / "results" / "fuzz-records.json"
    Path(report.parent).mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))
    return 0 if document["ok"] else 1


def _same_hashes() -> None:
    """Texts have the same hashes in every process, or sets of them would have another order each time."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "fuzz_records", *sys.argv[1:]])


def _parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz_records", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="how many odd records to write")
    parser.add_argument("--first", type=int, default=0, help="the first seed; each has 2,000 records")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
