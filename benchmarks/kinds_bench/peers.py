"""One program on the whole file, in a process of its own: DuckDB with one thread, Polars, pandas.

    python peers.py duckdb|polars|pandas csv|parquet FILE

Filter, derived column, groups of two columns. Prints {"wall_s", "cpu_s", "groups", "check"} as one line of JSON; imports
are not measured. `check` is the number of rows that were kept and the sum over all of them.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

SQL = (
    "select region, product, count(*) as n, sum(price * qty) as s from {source} where qty > 2 group by region, product"
)


def duckdb_groups(form: str, path: str) -> Any:
    import duckdb

    yield
    db = duckdb.connect(config={"threads": 1})
    source = f"read_csv('{path}')" if form == "csv" else f"read_parquet('{path}')"
    rows = db.sql(SQL.format(source=source)).fetchall()
    yield len(rows), sum(row[2] for row in rows), sum(row[3] for row in rows)


def polars_groups(form: str, path: str) -> Any:
    import polars as pl

    yield
    table = pl.scan_csv(path) if form == "csv" else pl.scan_parquet(path)
    kept = table.filter(pl.col("qty") > 2).with_columns(total=pl.col("price") * pl.col("qty"))
    groups = kept.group_by("region", "product").agg(n=pl.len(), s=pl.col("total").sum()).collect()
    yield len(groups), int(groups["n"].sum()), float(groups["s"].sum())


def pandas_groups(form: str, path: str) -> Any:
    import pandas as pd

    yield
    table = pd.read_csv(path) if form == "csv" else pd.read_parquet(path)
    kept = table[table.qty > 2]
    kept = kept.assign(total=kept.price * kept.qty)
    groups = kept.groupby(["region", "product"]).total.agg(["count", "sum"])
    yield len(groups), int(groups["count"].sum()), float(groups["sum"].sum())


PEERS = {"duckdb": duckdb_groups, "polars": polars_groups, "pandas": pandas_groups}


def main() -> None:
    peer, form, path = sys.argv[1:]
    steps = PEERS[peer](form, str(Path(path)))
    next(steps)
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    groups, kept, total = next(steps)
    wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "groups": groups, "check": [kept, total]}))


if __name__ == "__main__":
    main()
