"""`table.etl` sharded equals programs of their own that read the whole table at once."""

import csv
import gzip
import io
import json
import math
import random
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import table_etl

from regather.core.errors import BadInput, BadRequest
from regather.kinds.table.etl import TableEtl
from regather.processors.base import SplitRequest
from regather.processors.registry import parse_options
from regather.processors.splitting.row_packer import RowSpan
from regather.testing.run_kind import cut, merged, processed, run

pytestmark = pytest.mark.long

KIND = TableEtl()
TYPES = "id:str, price:float, qty:int"
GROUPS = {
    "cast": TYPES,
    "derive": "total = price * qty",
    "filter": "qty > 0",
    "group_by": "region",
    "aggregate": "revenue = sum(total); orders = count(); first_id = first(id); last_id = last(id); "
    "least = min(price); greatest = max(price); mean_price = mean(price)",
}
ROWS = {
    "cast": TYPES,
    "derive": "total = price * qty",
    "filter": "total > 500",
    "select": "id, region, total",
    "output": "csv",
}


def sales(rows: int, seed: int) -> bytes:
    draw = random.Random(seed)
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["id", "region", "price", "qty", "note"])
    for number in range(rows):
        region = draw.choice(["EU", "US", "Asia, Pacific", "a\nb", ""])
        price = draw.choice([repr(draw.random() * 1e3), repr(draw.random() * 1e-9), "1e17", "-1e17", ""])
        quantity = draw.choice(["0", "1", "7", ""])
        writer.writerow([number, region, price, quantity, draw.choice(["", 'says "hi"', "é\r\n"])])
    return out.getvalue().encode()


@pytest.mark.parametrize("seed", range(6))
def test_groups_and_rows_equal_the_reference_at_random_shard_sizes(seed: int) -> None:
    body = sales(1000, seed)
    request = SplitRequest(random.Random(seed).randrange(1024, 20_000))
    rows = table_etl.read_table(body.decode())
    assert json.loads(run(KIND, body, GROUPS, request))["groups"] == table_etl.revenue_by_region(rows)
    assert run(KIND, body, ROWS, request).decode() == table_etl.large_orders(rows)
    assert run(KIND, gzip.compress(body), ROWS, request) == run(KIND, body, ROWS, request)


FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-5e9, 5e9),
    st.floats(-9e12, 9e12),
    st.floats(0.01, 100),
    st.sampled_from(
        [
            2.0**43,
            math.nextafter(2.0**43, 0),
            -(2.0**43),
            2.0**42 + 0.5,
            -(2.0**-72),
            2.0**-73,
            2.0**-20,
            1e-6,
            9.5e-7,
            -0.1,
        ]
    ),
)


@settings(max_examples=80)  # each runs an engine some times
@given(st.one_of(st.lists(FLOATS, min_size=1, max_size=60), st.lists(st.floats(-5e9, 5e9), min_size=1)), st.data())
@example([0.1] * 10 + [-0.3] * 7, None)
def test_sums_of_floats_are_exact_at_every_cut(values: list[float], data: st.DataObject | None) -> None:
    body = "".join(f'{{"v": {value!r}, "pad": "{"x" * 90}"}}\n' for value in values).encode()
    request = SplitRequest(data.draw(st.integers(1024, 4096)) if data else 1024)
    (group,) = json.loads(run(KIND, body, {"cast": "v:float", "aggregate": "s = sum(v)"}, request))["groups"]
    wanted = table_etl.exact_sum(values)
    large = abs(wanted) == float("inf")
    assert group["s"] == (("Infinity" if wanted > 0 else "-Infinity") if large else wanted)


def test_rows_of_json_come_out_in_order_whatever_they_came_in() -> None:
    rows: list[dict[str, Any]] = [{"a": index, "b": [index]} for index in range(500)]
    options = {"filter": "a % 3 == 0", "derive": "twice = a * 2"}
    expected = [{**row, "twice": row["a"] * 2} for row in rows if row["a"] % 3 == 0]
    array = json.dumps(rows, indent=1).encode()
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    for body in (array, lines):
        assert [json.loads(line) for line in run(KIND, body, options, SplitRequest(1024)).splitlines()] == expected


def test_shards_merged_out_of_order_keep_the_order_of_the_rows() -> None:
    body = sales(1000, 1)
    options = parse_options(KIND, ROWS)
    outputs = processed(KIND, cut(KIND, body, options, SplitRequest(4096)), options)
    assert len(outputs) > 5
    assert merged(KIND, outputs, options) == merged(KIND, outputs[::-1], options)


def parquet(rows: list[dict[str, object]], **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("seed", range(6))
def test_parquet_gives_what_csv_of_the_same_rows_gives(seed: int) -> None:
    draw = random.Random(seed)
    rows = table_etl.read_table(sales(800, seed).decode())
    body = parquet(rows, row_group_size=draw.randrange(20, 900))
    request = SplitRequest(draw.randrange(1024, 20_000)) if seed % 2 else SplitRequest(shards=draw.randrange(1, 60))
    assert json.loads(run(KIND, body, GROUPS, request))["groups"] == table_etl.revenue_by_region(rows)
    assert run(KIND, body, ROWS, request).decode() == table_etl.large_orders(rows)
    pieces = cut(KIND, body, parse_options(KIND, GROUPS), request)
    if request.shards is not None:
        sizes = [RowSpan.decode(piece.meta.partition(b"\n")[0]).rows for piece in pieces]
        assert len(sizes) == request.shards
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        (lambda body: body[:-20], {}, "cannot be read"),
        (lambda body: body[:4] + bytes(40) + body[44:], {}, "cannot be read"),
        (lambda body: b"PAR1", {}, "cannot be read"),
        (lambda body: body, {"select": "nope"}, "no column 'nope'"),
    ],
)
def test_what_is_no_sound_parquet_is_refused(change: Any, options: dict[str, str], why: str) -> None:
    body = change(parquet([{"a": index, "b": "x" * index} for index in range(100)]))
    with pytest.raises((BadInput, BadRequest), match=why) as refused:
        run(KIND, body, options)
    assert "/tmp" not in str(refused.value)


def test_parquet_without_rows_gives_an_empty_result(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    assert run(KIND, path.read_bytes()) == b""
    counted = run(KIND, path.read_bytes(), {"aggregate": "n = count(); s = sum(a)"})
    assert json.loads(counted) == {"groups": [{"n": 0, "s": None}]}


QUERIES = [
    {"filter": "x > 3 or y > 3"},
    {"filter": "r != 'EU'"},
    {"filter": "not (x > 3)"},
    {"filter": "r in ('EU', null)"},
    {"derive": "z = coalesce(x * y, 0)"},
    {"derive": "z = case when x > y then 'more' when r like 'U%' then lower(r) end"},
    {"derive": "z = x / y; w = z + 1; x = x + 100", "select": "w, x, z"},
    {"distinct": True, "select": "r, x"},
    {"order_by": "r nulls first, x desc, id", "limit": 7},
    {"select": "id", "order_by": "y desc nulls last, id desc"},
    {"limit": 3},
]
GROUPED = [
    ("r", "n = count(); c = count(x); s = sum(x); a = avg(y); lo = min(x); hi = max(y)"),
    ("r", "d = count(distinct x); m = median(y); q = quantile_cont(y, 0.3); qd = quantile(x, 0.5)"),
    ("r", "f = first(id order by y desc, id); l = last(id order by x, id); s = stddev(x); v = var_pop(y)"),
    ("r, x", "n = count(*); t = sum(y) filter (where id % 2 = 0)"),
    ("", "n = count(); s = sum(x * y); d = count(distinct r)"),
]


def nulls(rows: int) -> bytes:
    draw = random.Random(7)
    return b"".join(
        json.dumps({"id": n, "x": draw.choice([1, 5, None, 9]), "y": draw.choice([2, 10, None]),
                    "r": draw.choice(["EU", "US", None, ""])}).encode() + b"\n"
        for n in range(rows)
    )  # fmt: skip


def whole(body: bytes, sql: str, tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "body.ndjson"
    path.write_bytes(body)
    relation = duckdb.connect().sql(sql.replace("TABLE", f"read_json('{path}', sample_size = -1)"))
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def sql_of(options: dict[str, Any]) -> str:
    source = "TABLE"
    for part in filter(str.strip, options.get("derive", "").split(";")):
        name, _, value = part.strip().partition(" = ")
        replaced = f"* REPLACE ({value} AS {name})" if name == "x" else f"*, {value} AS {name}"
        source = f"(SELECT {replaced} FROM {source})"
    sql = f"SELECT {'DISTINCT ON (r, x)' if options.get('distinct') else ''} {options.get('select', '*')} FROM {source}"
    sql += f" WHERE {options['filter']}" if "filter" in options else ""
    sql += " ORDER BY id" if options.get("distinct") else ""
    sql += f" ORDER BY {options['order_by']}" if "order_by" in options else ""
    return sql + (f" LIMIT {options['limit']}" if "limit" in options else "")


@pytest.mark.parametrize("options", QUERIES, ids=str)
@pytest.mark.parametrize("size_bytes", [1024, None])
def test_rows_equal_those_of_duckdb_on_the_whole_file(
    options: dict[str, Any], size_bytes: int | None, tmp_path: Path
) -> None:
    body = nulls(300)
    wanted = whole(body, sql_of(options), tmp_path)
    if options.get("distinct"):
        wanted = [
            dict(row) for row in {tuple(row.items()): None for row in whole(body, "SELECT r, x FROM TABLE", tmp_path)}
        ]
    found = [json.loads(line) for line in run(KIND, body, options, SplitRequest(size_bytes)).splitlines()]
    assert found == wanted


@pytest.mark.parametrize(("keys", "aggregates"), GROUPED, ids=str)
@pytest.mark.parametrize("size_bytes", [1024, 5000, None])
def test_groups_equal_those_of_duckdb_on_the_whole_file(
    keys: str, aggregates: str, size_bytes: int | None, tmp_path: Path
) -> None:
    body = nulls(300)
    figures = ", ".join(
        f"{value} AS {name}" for name, _, value in (part.strip().partition(" = ") for part in aggregates.split(";"))
    )
    group = f"GROUP BY {keys} ORDER BY min(id)" if keys else ""
    wanted = whole(body, f"SELECT {keys + ', ' if keys else ''}{figures} FROM TABLE {group}", tmp_path)
    options = {"aggregate": aggregates} | ({"group_by": keys} if keys else {})
    found = json.loads(run(KIND, body, options, SplitRequest(size_bytes)))["groups"]
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == {
            name: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
            for name, value in theirs.items()
        }
