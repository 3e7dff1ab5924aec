"""`make bench-kinds`: what the built-in kinds cost, beside DuckDB, Polars and pandas on the same files in the same run.

CPU is that of all children of the three services (kinds_bench/children.py); DuckDB runs with one thread in a fresh
process. Rounds are interleaved, figures are medians and ratios of one round. Each answer is checked against DuckDB's.
{"goals": [{"name", "value", "goal", "met"}], "figures": {part: {...}}}
"""

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kinds_bench import data
from kinds_bench.children import child_seconds, own_seconds

from regather_cli.client import Client, JobDocument, Submission, has_ended
from regather_cli.report import write_report
from regather_cli.stack import Role, Stack, StackSettings

KIB, MIB = 1024, 1024 * 1024
SHARD_BYTES: tuple[int | None, ...] = (256 * KIB, MIB, 4 * MIB)
SIDE = 10_240
CSV_ROWS, PARQUET_ROWS, LARGE_ROWS = 1_000_000, 10_000_000, 10_000_000
GROUPS = {
    "cast": "price:float, qty:int",
    "derive": "total = price * qty",
    "filter": "qty > 2",
    "group_by": "region, product",
    "aggregate": "n = count(); s = sum(total)",
}
PEERS = Path(__file__).parent / "kinds_bench" / "peers.py"
JOB_LIMIT_S = 600.0
Figures = dict[str, Any]


class Product:
    """Regather under measurement: one stack, one client."""

    def __init__(self, stack: Stack, client: Client) -> None:
        self._client = client
        self._pids = [service.pid for role in Role for service in stack.of(role)]
        self._aggregators = [service.pid for service in stack.of(Role.AGGREGATOR)]

    async def run(self, submission: Submission, path: Path) -> tuple[Figures, bytes]:
        """Submit a file and read the result: wall seconds, CPU of children and of services, seconds of the merge."""
        before = child_seconds(self._pids), own_seconds(self._pids)
        begun_s = time.perf_counter()
        document = await self._client.submit(submission, path)
        document, merge_s = await self._ended(document)
        result = await self._client.result(document["job_id"])
        wall_s = time.perf_counter() - begun_s
        cpu_s, services_s = child_seconds(self._pids) - before[0], own_seconds(self._pids) - before[1]
        return {"wall_s": wall_s, "cpu_s": cpu_s, "services_cpu_s": services_s, "merge_s": merge_s}, result

    async def _ended(self, document: JobDocument) -> tuple[JobDocument, float]:
        """Follow a job to its end; the seconds from the last shard's end on are its merge's."""
        limit_s = time.perf_counter() + JOB_LIMIT_S
        settled_s: float | None = None
        while not has_ended(document):
            if time.perf_counter() > limit_s:
                raise RuntimeError(f"the job has not ended in {JOB_LIMIT_S:g} s: {document['state']}")
            await asyncio.sleep(0.02)
            document = await self._client.status(document["job_id"])
            if settled_s is None and document["progress"] == 1:
                settled_s = time.perf_counter()
        if document["state"] != "succeeded":
            raise RuntimeError(f"{document['state']}: {document['error']}")
        return document, 0.0 if settled_s is None else time.perf_counter() - settled_s


async def peer(name: str, form: str, path: Path) -> Figures:
    """Run one program of kinds_bench/peers.py."""
    command = [sys.executable, str(PEERS), name, form, str(path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{name} ended with exit code {process.returncode}")
    found: Figures = json.loads(out)
    return found


def check(result: bytes, right: Figures) -> None:
    """The answer's groups add up to what DuckDB found."""
    groups = json.loads(result)["groups"]
    kept, total = sum(group["n"] for group in groups), math.fsum(group["s"] for group in groups)
    if (
        len(groups) != right["groups"]
        or kept != right["check"][0]
        or not math.isclose(total, right["check"][1], rel_tol=1e-9)
    ):
        raise RuntimeError(f"a wrong answer: {len(groups)} groups, {kept} rows, sum {total}; DuckDB has {right}")


def medians(rounds: list[Figures]) -> Figures:
    """The median of each figure."""
    return {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}


async def _groups(
    product: Product, form: str, path: Path, rounds: int, sizes: tuple[int | None, ...], peers: tuple[str, ...]
) -> Figures:
    """One file: the product at each shard size and every other program, in turn."""
    found: dict[str, list[Figures]] = defaultdict(list)
    ratios: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        one = {name: await peer(name, form, path) for name in peers}
        for size in sizes:
            figures, result = await product.run(Submission("table.etl", GROUPS, shard_size_bytes=size), path)
            check(result, one["duckdb"])
            cut = "default" if size is None else f"{size // KIB}_KiB"
            found[f"regather_{cut}"].append(figures)
            ratios[f"cpu_of_duckdb_{cut}"].append(figures["cpu_s"] / one["duckdb"]["cpu_s"])
            for name in peers:
                ratios[f"wall_of_{name}_{cut}"].append(figures["wall_s"] / one[name]["wall_s"])
        for name in peers:
            found[name].append({part: one[name][part] for part in ("wall_s", "cpu_s")})
    figures = {name: medians(runs) for name, runs in found.items()}
    return {**figures, **{name: round(statistics.median(values), 2) for name, values in ratios.items()}}


async def csv(product: Product, folder: Path, rounds: int) -> Figures:
    """1,000,000 rows of CSV, 25 MB."""
    path = data.csv_file(folder / "sales.csv", CSV_ROWS)
    return await _groups(product, "csv", path, rounds, SHARD_BYTES, ("duckdb", "polars", "pandas"))


async def parquet(product: Product, folder: Path, rounds: int) -> Figures:
    """10,000,000 rows of Parquet."""
    path = data.parquet_file(folder / "sales.parquet", PARQUET_ROWS)
    return await _groups(product, "parquet", path, rounds, (None, MIB), ("duckdb", "polars", "pandas"))


async def large(product: Product, folder: Path, rounds: int) -> Figures:
    """CSV of 250 MB: wall time."""
    path = data.csv_file(folder / "large.csv", LARGE_ROWS)
    return await _groups(product, "csv", path, rounds, (MIB, None), ("duckdb", "polars", "pandas"))


async def dicom(product: Product, folder: Path, rounds: int) -> Figures:
    """200 MB of DICOM through image.features, and the same pixels as TIFF and NPY in turns with it."""
    path = data.dicom_file(folder / "image.dcm", SIDE, SIDE)
    files = {
        "regather": path,
        "tiff": data.tiff_file(folder / "image.tif", SIDE, SIDE, path),
        "npy": data.npy_file(folder / "image.npy", SIDE, SIDE, path),
    }
    found: dict[str, list[Figures]] = defaultdict(list)
    answers = set()
    for _ in range(rounds):
        for name, file in files.items():
            figures, result = await product.run(Submission("image.features", {}), file)
            found[name].append(figures)
            answers.add(result)
    if len(answers) != 1 or json.loads(answers.pop())["rows"] != SIDE:
        raise RuntimeError(f"a wrong answer: there are {SIDE} rows, and three files of the same pixels")
    return {name: medians(runs) for name, runs in found.items()}


async def groups(product: Product, folder: Path, rounds: int) -> Figures:
    """1,000,000 groups."""
    path = data.csv_file(folder / "sales.csv", CSV_ROWS)
    options = {"cast": "price:float", "group_by": "id", "aggregate": "s = sum(price); n = count()"}
    runs = []
    for _ in range(rounds):
        figures, result = await product.run(Submission("table.etl", options), path)
        if len(json.loads(result)["groups"]) != CSV_ROWS:
            raise RuntimeError("a wrong answer: there are 1,000,000 groups")
        runs.append(figures)
    return {"regather": medians(runs)}


PARTS: dict[str, Callable[[Product, Path, int], Awaitable[Figures]]] = {
    "csv": csv, "parquet": parquet, "large": large, "dicom": dicom, "groups": groups,
}  # fmt: skip
GOALS: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    ("CPU of children, 1,000,000 rows of CSV, 256 KiB, of DuckDB", "csv", ("cpu_of_duckdb_256_KiB",), 2.0),
    ("CPU of children, 1,000,000 rows of CSV, 1 MiB, of DuckDB", "csv", ("cpu_of_duckdb_1024_KiB",), 2.0),
    ("CPU of children, 1,000,000 rows of CSV, 4 MiB, of DuckDB", "csv", ("cpu_of_duckdb_4096_KiB",), 2.0),
    ("CPU of children, 10,000,000 rows of Parquet, of DuckDB", "parquet", ("cpu_of_duckdb_default",), 2.0),
    ("wall time, 250 MB of CSV over HTTP, of DuckDB", "large", ("wall_of_duckdb_default",), 2.0),
    ("wall time, 250 MB of CSV over HTTP, of pandas", "large", ("wall_of_pandas_default",), 1.0),
    ("wall seconds, 200 MB of DICOM over HTTP", "dicom", ("regather", "wall_s"), 5.0),
    ("merge seconds, 1,000,000 groups", "groups", ("regather", "merge_s"), 20.0),
)
"""Name, part, where the figure stands, and what it has to be at most."""


def goals(figures: dict[str, Figures]) -> list[Figures]:
    """Which goals were met; None where a part failed or was left out."""
    found = []
    for name, part, path, goal in GOALS:
        if part not in figures:
            continue
        value: Any = figures[part]
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        found.append({"name": name, "value": value, "goal": goal, "met": value is not None and value <= goal})
    return found


async def measure(names: list[str], rounds: int, folder: Path) -> dict[str, Figures]:
    """Run the parts, each after a warm-up; one that fails says why and the others go on."""
    found: dict[str, Figures] = {}
    settings = StackSettings(
        worker_slots=2, environment={"REGATHER_PROGRESS_S": "0.05", "REGATHER_LOG_LEVEL": "warning"}
    )
    async with Stack(settings) as stack, Client(stack.gateway_url) as client:
        product = Product(stack, client)
        small = data.csv_file(folder / "small.csv", 20_000)
        for _ in range(3):
            await product.run(Submission("table.etl", GROUPS, shard_size_bytes=64 * KIB), small)
        for name in names:
            try:
                found[name] = await PARTS[name](product, folder, rounds)
            except Exception as error:  # a part that the product cannot do is a figure, too
                found[name] = {"failed": f"{type(error).__name__}: {error}"[:400]}
            print(name, json.dumps(found[name]), flush=True)
    return found


def main() -> int:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help=f"parts: {', '.join(PARTS)}")
    parser.add_argument("--data", type=Path, help="folder in which the files are kept for the next run")
    asked = parser.parse_args()
    names = [name.strip() for name in asked.only.split(",") if name.strip()] or list(PARTS)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="bench-kinds-") as scratch:
        folder = asked.data or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures = asyncio.run(measure(names, asked.rounds, folder))
    reached = goals(figures)
    document = {
        "ok": all(goal["met"] for goal in reached),
        "rounds": asked.rounds,
        "goals": reached,
        "figures": figures,
    }
    print(json.dumps(write_report("bench-kinds", document, started)), flush=True)
    return 0 if document["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
