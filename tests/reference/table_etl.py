"""Unsharded reference of `table.etl`, written apart from the project: it imports nothing of it.

    python table_etl.py FILE.csv

Computes over the sales table of the demo, with the whole file in memory and sums as exact fractions:
groups = revenue, orders, first and last id, least and greatest price of each region, of rows with a quantity;
rows = id, region and total of the rows whose total is above 500, as CSV.
Prints {"features": {"groups": [...], "rows_sha256": ...}, "seconds": ...} as one line of JSON.
"""

import argparse
import csv
import hashlib
import io
import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_table(text: str) -> list[Row]:
    """Return the rows of CSV with the columns id, region, price, qty; what is empty is None."""
    rows: list[Row] = []
    for row in csv.DictReader(io.StringIO(text, newline="")):
        price, quantity = row["price"], row["qty"]
        values = {"price": float(price) if price else None, "qty": int(quantity) if quantity else None}
        rows.append({**{name: text or None for name, text in row.items()}, **values})
    return rows


def revenue_by_region(rows: list[Row]) -> list[Row]:
    """Return one row for each region, in the order in which regions first occur."""
    kept: dict[str, list[Row]] = {}
    for row in rows:
        if row["qty"] is not None and row["qty"] > 0:
            kept.setdefault(row["region"], []).append(row)
    return [_group(region, members) for region, members in kept.items()]


def _group(region: str, members: list[Row]) -> Row:
    prices = [row["price"] for row in members if row["price"] is not None]
    totals = [row["price"] * row["qty"] for row in members if row["price"] is not None]
    return {
        "region": region,
        "revenue": float(sum(map(Fraction, totals))) if totals else None,
        "orders": len(members),
        "first_id": members[0]["id"],
        "last_id": members[-1]["id"],
        "least": min(prices, default=None),
        "greatest": max(prices, default=None),
        "mean_price": float(sum(map(Fraction, prices))) / len(prices) if prices else None,
    }


def exact_sum(values: list[float]) -> float:
    """Return the exact sum of finite numbers, rounded once; infinite where that is above the largest double."""
    total = sum(map(Fraction, values))
    try:
        return float(total)
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")


def large_orders(rows: list[Row]) -> str:
    """Return id, region and total of the orders above 500, in order, as CSV."""
    out = io.StringIO(newline="")
    out.write("id,region,total\r\n")
    for row in rows:
        if row["price"] is not None and row["qty"] is not None and row["price"] * row["qty"] > 500:
            csv.writer(out).writerow([row["id"], row["region"], row["price"] * row["qty"]])
    return out.getvalue()


def features(text: str) -> dict[str, Any]:
    """Return both answers."""
    rows = read_table(text)
    large = large_orders(rows)
    return {"groups": revenue_by_region(rows), "rows_sha256": hashlib.sha256(large.encode()).hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    begun_s = time.perf_counter()
    with arguments.file.open(encoding="utf-8", newline="") as file:
        found = features(file.read())
    print(json.dumps({"features": found, "seconds": round(time.perf_counter() - begun_s, 3)}))


if __name__ == "__main__":
    main()
