"""Tables joined with a side table: every format beside every other, every way to join, every type, and what is refused."""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from accept_kinds.case import Case, Equal, Want
from accept_kinds.expect import bad_join, joined_table
from accept_kinds.made import columns
from accept_kinds.made.operations import sales_table
from accept_kinds.oracles.table import query, written_csv

WRITERS: dict[str, Callable[[pa.Table], bytes]] = {
    "csv": columns.as_csv,
    "ndjson": columns.as_ndjson,
    "json": columns.as_json,
    "parquet": columns.as_parquet,
}
HOWS = ("left", "inner", "semi", "anti")
GROUPS = {"group_by": "label", "aggregate": "n = count(); s = sum(qty * factor); lo = min(id); f = first(id)"}
WORK: dict[str, dict[str, str]] = {
    "two-keys": {"join": "region = code and qty = level"},
    "range": {"join": "qty between level and level + 2", "join_how": "inner"},
    "key-and-range": {"join": "region = code and qty >= level"},
    "expression": {"join": "upper(region) = upper(code)", "join_how": "inner"},
    "derived": {
        "join": "region = code",
        "derive": "x = qty * factor; y = coalesce(label, 'none')",
        "select": "id, x, y",
    },
    "filtered": {"join": "region = code", "filter": "factor > 1 and qty > 1"},
    "replaced": {"join": "region = code", "derive": "label = upper(label)", "select": "id, label"},
    "ordered": {"join": "region = code", "order_by": "factor desc, id", "limit": "31", "select": "id, factor"},
    "distinct": {"join": "region = code", "select": "label, qty", "distinct": "true"},
    "groups-of-side": {"join": "region = code", **GROUPS},
    "groups-inner": {"join": "region = code", "join_how": "inner", **GROUPS},
    "groups-of-both": {
        "join": "region = code",
        "group_by": "region, label",
        "aggregate": "n = count(factor); m = median(factor); l = last(label)",
        "having": "n > 3",
    },
    "all-rows": {"join": "region = code", "aggregate": "n = count(); s = sum(factor)"},
    "anti-groups": {"join": "region = code", "join_how": "anti", "group_by": "qty", "aggregate": "n = count()"},
}


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    sales = sales_table(seed)
    regions = regions_table(seed)
    yield from _formats(sales, regions)
    body, side = columns.as_csv(sales), columns.as_csv(regions)
    for how in HOWS:
        yield joined_table(
            f"join/{how}", body, side, join="region = code", join_how=how, settings={"fast": how == "left"}
        )
    for name, options in WORK.items():
        yield joined_table(f"join/{name}", body, side, **options, settings={"fast": name == "groups-of-side"})
    for output in ("csv", "json", "parquet", "arrow"):
        yield joined_table(f"join/as-{output}", body, side, join="region = code", output=output)
    yield from _keys(seed)
    yield from _types(seed)
    yield from _readings(body, regions)
    yield from _refused(body, side)
    yield from _sql(sales, regions)


def regions_table(seed: int) -> pa.Table:
    """A few rows beside the sales: some regions twice, one that no sale has, one unknown."""
    draw = random.Random(f"regions {seed}")
    codes = ["EU", "US", "EU", "a\nb", None, "nowhere", "EU", "Asia, Pacific"]
    rows = [
        {"code": code, "label": draw.choice(["one", "two", 'says "x"', None]), "level": draw.choice([0, 1, 3, None]),
         "factor": number / 4 + 0.5}
        for number, code in enumerate(codes)
    ]  # fmt: skip
    return pa.Table.from_pylist(
        rows,
        pa.schema([("code", pa.string()), ("label", pa.string()), ("level", pa.int64()), ("factor", pa.float64())]),
    )


def _formats(sales: pa.Table, regions: pa.Table) -> Iterator[Case]:
    for first, write in WRITERS.items():
        for second, write_side in WRITERS.items():
            body, side = write(sales.drop_columns(["money", "day"])), write_side(regions)
            for how in HOWS if first == "csv" or second == "csv" else HOWS[:2]:
                name = f"join/{first}-{second}-{how}"
                fast = {"fast": (first, second, how) == ("parquet", "ndjson", "left")}
                yield joined_table(
                    name, body, side, formats=(first, second), join="region = code", join_how=how, settings=fast
                )


def _keys(seed: int) -> Iterator[Case]:
    made = columns.table_of(("text", "int"), 300, seed)
    beside = pa.table({"id": pa.array([5, 5, 7, None, 400], pa.int64()), "extra": ["a", "b", "c", "d", None]})
    body, side = columns.as_csv(made), columns.as_csv(beside)
    for how in HOWS:
        yield joined_table(f"join/using-{how}", body, side, join="id", join_how=how)
    odd = pa.table({"id": pa.array(range(300), pa.int64()), "Ünit price": pa.array([n % 3 for n in range(300)])})
    second = pa.table(
        {"id": pa.array(range(0, 300, 2), pa.int64()), "Ünit price": pa.array([n % 2 for n in range(150)])}
    )
    yield joined_table("join/using-two", columns.as_csv(odd), columns.as_csv(second), join='id, "Ünit price"')
    many = written_csv(["k", "x"], [[n % 3, n] for n in range(100)])
    yield joined_table("join/many-matches", written_csv(["a"], [[n % 4] for n in range(500)]), many, join="a = k")
    long = written_csv(["k", "text"], [[n, "y" * 2000] for n in range(40)])
    yield joined_table("join/long-values", written_csv(["a"], [[n % 50] for n in range(20_000)]), long, join="a = k")


def _types(seed: int) -> Iterator[Case]:
    """Values of every type survive the way in front of the rows."""
    body = written_csv(["id", "x"], [[n, n * 2] for n in range(150)])
    for name in (*columns.COLUMNS, *columns.PARQUET_ONLY):
        side = columns.as_parquet(columns.table_of((name,), 100, seed))
        yield joined_table(f"join/type-{name}", body, side, formats=("csv", "parquet"), join="id")
    for name in ("date", "decimal", "text", "timestamp", "bool", "hard_text"):
        made = columns.table_of((name,), 60, seed)
        first = made.rename_columns(["a", "k1"])
        second = made.rename_columns(["b", "k2"])
        parquet = ("parquet", "parquet")
        yield joined_table(
            f"join/key-{name}", columns.as_parquet(first), columns.as_parquet(second), formats=parquet, join="k1 = k2"
        )


def _readings(body: bytes, regions: pa.Table) -> Iterator[Case]:
    side = columns.as_csv(regions, delimiter=";")
    yield joined_table("join/side-delimiter", body, side, join="region = code", side=json.dumps({"delimiter": ";"}))
    cast = json.dumps({"cast": "factor:str, level:float"})
    yield joined_table("join/side-cast", body, columns.as_csv(regions), join="region = code", side=cast)
    packed = gzip.compress(columns.as_csv(regions))
    plain = joined_table("join/side-gzip", body, columns.as_csv(regions), join="region = code")
    yield Case(plain.name, plain.kind, plain.body, plain.want, plain.options, sizes=plain.sizes, side=lambda: packed)


def _refused(body: bytes, side: bytes) -> Iterator[Case]:
    claims: dict[str, tuple[bytes, dict[str, str], str]] = {
        "no-column": (side, {"join": "region = nope"}, "no column 'nope'"),
        "one-table-alone": (side, {"join": "region = note"}, "one of the side table"),
        "types": (side, {"join": "id = code"}, "cannot be compared"),
        "both-have-it": (b"code,note\nEU,x\n", {"join": "region = code"}, "rename"),
        "ambiguous": (b"region,x\nEU,x\n", {"join": "region = region"}, r"write shard\.region or side\.region"),
        "syntax": (side, {"join": "region ="}, "syntax"),
        "subquery": (side, {"join": "region in (select code from side)"}, "subquery"),
        "no-join": (side, {}, "join must say"),
        "bad-row": (b"code,x\nEU,1\nUS\n", {"join": "region = code"}, "the side table, row 1"),
        "bad-value": (
            b"code,x\nEU,1\nUS,y\n", {"join": "region = code", "side": '{"cast": "x:int"}'}, "the side table, row 1"
        ),
        "header-alone-damaged": (b'code,x\nEU,"', {"join": "region = code"}, "side table.*quote"),
        "empty": (b"", {"join": "region = code"}, "empty"),
        "image": (b"\x89PNG\r\n\x1a\n\0\0", {"join": "region = code"}, "PNG"),
        "gzip-cut": (gzip.compress(side)[:-9], {"join": "region = code"}, "side table.*cut off"),
        "bomb": (gzip.compress(b"code\n" + b"EU\n" * 3_000_000), {"join": "region = code"}, "to more than 8388608"),
        "parquet-cut": (columns.as_parquet(pa.table({"code": ["EU"]}))[:-9], {"join": "region = code"}, "Parquet"),
    }  # fmt: skip
    for name, (content, options, says) in claims.items():
        claim: dict[str, Any] = {"why": f"a side table or a join that is wrong: {name}", "says": says}
        yield bad_join(f"join/refused-{name}", body, content, claim, **options)


def _sql(sales: pa.Table, regions: pa.Table) -> Iterator[Case]:
    body, side = columns.as_parquet(sales, row_group_size=333), columns.as_parquet(regions)
    first = "select label, sum(qty * factor) as s, count(*) as n from shard join side on region = code group by label"
    second = "select label, sum(s) as s, sum(n)::bigint as n from parts group by label order by label nulls first"

    def want() -> Want:
        tables = {"shard": (body, "parquet"), "side": (side, "parquet")}
        return Equal("ndjson", (query(second, tables, first),), {"s": 1e-12})

    options = {"map": first, "reduce": second}
    yield Case(
        "sql/side", "table.sql", lambda: body, want, options, side=lambda: side, sizes=("1024", "65536"), fast=True
    )
