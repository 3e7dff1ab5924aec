"""`make accept-kinds`: every case through the real chain, each answer held against an independent program.

    make accept-kinds [ONLY=table,image] [SEED=1] [SIZES=1024,default,one] [FAST=1] [CASES=../shared/cases]

Prints progress, then each failure with the line that replays it, and one JSON object as the last line, which is also
written to benchmarks/results/accept-kinds.json:
{"cases", "files", "equal", "refused_rightly", "wrong", "silent", "retried_though_certain", "failures": [...]}.
Exit code 1 unless there are none of the last four, and no oracle disagrees with its case ("doubtful").
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from accept_kinds.case import Case
from accept_kinds.catalogue import all_cases, chosen, model_folder
from accept_kinds.chain import judged
from accept_kinds.given import files_without_a_case
from accept_kinds.run import FAST_SIZES, SIZES, Findings
from regather.kinds.model.onnx_model import find_model
from regather_cli.report import write_report
from regather_cli.stack import START_ERRORS

CASES_VARIABLE = "ACCEPT_KINDS_CASES"
DEFAULT_CASES = Path("../shared/cases")
EXPRESSIONS = {False: 240, True: 30}
"""How many are generated; in the short form."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="groups, names or beginnings of names of cases, comma-separated")
    parser.add_argument("--seed", type=int, default=1, help="of the made files")
    parser.add_argument("--sizes", default="", help=f"shard sizes: {','.join(SIZES)}")
    parser.add_argument("--fast", action="store_true", help="the short form, below 90 s")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--cases", type=Path, default=Path(os.environ.get(CASES_VARIABLE) or DEFAULT_CASES))
    return parser.parse_args()


async def expressions(seed: int, count: int) -> dict[str, Any]:
    """Try generated expressions in a process of its own, beside the run."""
    command = [sys.executable, "-m", "accept_kinds.expressions", "--seed", str(seed), "--count", str(count)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        return {"tried": 0, "failures": [{"file": "expressions", "got": f"exit code {process.returncode}"}]}
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


async def everything(asked: argparse.Namespace, cases: list[Case], sizes: tuple[str, ...], models: Path) -> Findings:
    """The cases over HTTP, and beside them the expressions."""
    count = EXPRESSIONS[asked.fast] if not asked.only or "expressions" in asked.only.split(",") else 0
    trying = asyncio.create_task(expressions(asked.seed, count)) if count else None
    findings = await judged(cases, sizes, models) if cases else Findings()
    if trying is not None:
        findings.expressions = await trying
    return findings


def main() -> int:
    started = time.monotonic()
    asked = arguments()
    if not (asked.cases / "files").is_dir():
        print(f"{asked.cases} is not there: the files of the issue are left out ({CASES_VARIABLE} names their folder)")
    with tempfile.TemporaryDirectory(prefix="accept-kinds-") as scratch:
        models = model_folder(Path(scratch), asked.cases)
        cases = chosen(
            all_cases(asked.seed, asked.cases, models, find_model("digits"), asked.only), asked.only, fast=asked.fast
        )
        if asked.list or not (cases or asked.only == "expressions"):
            print("\n".join(case.name for case in cases) or f"no case is called {asked.only!r}")
            return 0 if cases else 2
        sizes = tuple(asked.sizes.split(",")) if asked.sizes else FAST_SIZES if asked.fast else SIZES
        try:
            findings = asyncio.run(everything(asked, cases, sizes, models))
        except START_ERRORS as error:
            print(error, file=sys.stderr)
            return 2
    untold = [{"file": name, "error": "there is no case for it"} for name in files_without_a_case(asked.cases)]
    findings.doubtful += untold
    document = {"seed": asked.seed, "sizes": sizes, "only": asked.only, **findings.document()}
    for failure in [*document["doubtful"], *document["failures"]]:
        print(json.dumps(failure, ensure_ascii=False), flush=True)
    name = "accept-kinds-fast" if asked.fast else "accept-kinds"
    print(json.dumps(write_report(name, document, started), ensure_ascii=False), flush=True)
    return 0 if findings.ok else 1


if __name__ == "__main__":
    sys.exit(main())
