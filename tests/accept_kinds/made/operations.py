"""What tables are asked: every option and every aggregate over one table of sales, in four formats and five outputs."""

import random
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from accept_kinds.case import Case
from accept_kinds.expect import bad_table, table
from accept_kinds.made import columns

ROWS = 2000
AGGREGATES = (
    "count()", "count(price)", "count(distinct region)", "sum(price)", "sum(qty)", "sum(money)", "sum(price * qty)",
    "mean(price)", "avg(qty)", "mean(money)", "min(price)", "max(price)", "min(region)", "max(day)", "min(money)",
    "first(id)", "last(id)", "first(price)", "last(note)", "first(note order by price, id)",
    "last(id order by qty, id)", "stddev(price)", "stddev_pop(qty)", "stddev_samp(qty)", "variance(price)",
    "var_pop(price)", "var_samp(qty)", "median(price)", "median(qty)", "quantile(price, 0.9)", "quantile(qty, 0.25)",
    "sum(case when region = 'EU' then qty else 0 end)", "max(length(note))",
)  # fmt: skip
ROW_WORK: dict[str, dict[str, Any]] = {
    "filter": {"filter": "qty > 3 and region = 'EU'"},
    "double-equals": {"filter": "region == 'EU'"},
    "text-quotes": {"filter": "note = 'it''s' or note like '%\"%'"},
    "in": {"filter": "region in ('EU', 'Asia, Pacific')"},
    "derive-chain": {"derive": "total = price * qty; tax = total * 0.2; gross = total + tax", "select": "id, total, tax"},
    "derive-over": {"derive": "qty = qty + 1", "select": "id, qty"},
    "casts": {"derive": "a = qty::varchar; b = cast(qty as int); c = id::double / 3", "select": "a, b, c"},
    "case": {"derive": "size = case when qty > 5 then 'large' when qty > 2 then 'medium' else 'small' end"},
    "dates": {"derive": "y = year(day); m = date_trunc('month', day); w = dayname(day); d = day - date '2024-01-01'"},
    "texts": {"derive": "u = upper(note); n = length(note); s = substr(note, 2, 3); r = replace(region, 'E', 'é')"},
    "regex": {"derive": "p = regexp_matches(note, '^[a-z]+$'); q = regexp_replace(note, '[aeiou]', '*', 'g')"},
    "math": {"derive": "a = round(price, 2); b = floor(price); c = sqrt(abs(price)); d = qty % 3; e = qty // 2"},
    "lists": {"derive": "parts = string_split(region, ','); n = len(parts); first_part = parts[1]"},
    "select-order": {"select": "note, id"},
    "order": {"order_by": "price desc nulls last, id", "select": "id, price"},
    "order-limit": {"order_by": "qty, id desc", "limit": "17", "select": "id, qty"},
    "limit": {"limit": "5"},
    "limit-large": {"limit": "1999", "select": "id"},
    "distinct": {"select": "region, qty", "distinct": "true"},
    "distinct-order": {"select": "region", "distinct": "true", "order_by": "region"},
    "nothing-left": {"filter": "qty > 1000"},
    "all": {"filter": "true"},
    "null-filter": {"filter": "null"},
}  # fmt: skip
GROUP_WORK: dict[str, dict[str, Any]] = {
    "two-keys": {"group_by": "region, qty", "aggregate": "n = count(); s = sum(price)"},
    "null-key": {"group_by": "qty", "aggregate": "n = count(); s = sum(money)"},
    "date-key": {"group_by": "day", "aggregate": "n = count()"},
    "double-key": {"group_by": "price", "aggregate": "n = count()"},
    "derived-key": {"derive": "big = price > 500", "group_by": "big", "aggregate": "n = count(); m = max(price)"},
    "having": {"group_by": "qty", "aggregate": "n = count()", "having": "n > 200"},
    "ordered": {"group_by": "region", "aggregate": "n = count(); lo = min(id)", "order_by": "lo desc"},
    "ordered-limit": {"group_by": "region, qty", "aggregate": "lo = min(id)", "order_by": "lo desc", "limit": "3"},
    "filter-none": {"filter": "false", "group_by": "region", "aggregate": "n = count()"},
    "global-none": {
        "filter": "false",
        "aggregate": "n = count(); s = sum(price); m = min(note); c = count(distinct qty)",
    },
    "many": {"group_by": "id", "aggregate": "s = sum(price)"},
}
REFUSED: dict[str, dict[str, Any]] = {
    "unknown-column": {"filter": "nope > 3"},
    "unknown-function": {"derive": "x = nope(qty)"},
    "unknown-select": {"select": "id, nope"},
    "unknown-group": {"group_by": "nope", "aggregate": "n = count()"},
    "type-error": {"filter": "region > 3 + date '2024-01-01'"},
    "text-plus-number": {"derive": "x = region + qty"},
    "sum-of-text": {"aggregate": "s = sum(region)"},
    "syntax": {"filter": "qty >"},
    "two-statements": {"filter": "true; drop table shard"},
    "filter-of-text": {"filter": "note || region || 'x'"},
}
HOSTILE: dict[str, dict[str, Any]] = {
    "read-file": {"derive": "x = (select content from read_text('/etc/passwd'))"},
    "read-csv": {"derive": "x = (select count(*) from read_csv('/etc/passwd'))"},
    "glob": {"derive": "x = (select count(*) from glob('/*'))"},
    "settings": {"derive": "x = current_setting('temp_directory')"},
    "random": {"derive": "x = random()"},
    "now": {"derive": "x = now()"},
    "getenv": {"derive": "x = getenv('PATH')"},
    "subquery": {"filter": "id in (select id from shard)"},
    "window": {"derive": "x = row_number() over ()"},
}


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    sales = sales_table(seed)
    body = columns.as_csv(sales)
    parquet = columns.as_parquet(sales, row_group_size=333)
    few = {"sizes": ("1024", "65536", "one")}
    for number, call in enumerate(AGGREGATES):
        option: dict[str, Any] = {"group_by": "region", "aggregate": f"x = {call}"}
        fast = {"fast": call in ("sum(price)", "median(price)", "last(note)")}
        if number % 2:
            yield table(f"work/aggregate-{call}", body, **_CASTS, **option, settings={**few, **fast})
        else:
            yield table(f"work/aggregate-{call}", parquet, table_format="parquet", **option, settings={**few, **fast})
    for name, options in ROW_WORK.items():
        yield table(f"work/{name}", body, **options, settings={**few, "fast": name in ("case", "order-limit")})
    for name, options in GROUP_WORK.items():
        yield table(
            f"work/group-{name}", body, **options, settings={**few, "fast": name in ("two-keys", "global-none")}
        )
    for output in ("csv", "json", "parquet", "arrow"):
        yield table(f"work/rows-as-{output}", body, output=output, filter="qty > 1", settings=few)
        yield table(
            f"work/groups-as-{output}",
            parquet,
            table_format="parquet",
            output=output,
            **GROUP_WORK["two-keys"],
            settings=few,
        )
    yield table("work/groups-as-ndjson", body, output="ndjson", **GROUP_WORK["two-keys"], settings=few)
    for name, options in REFUSED.items():
        yield bad_table(
            f"work/refused-{name}", body, **options, settings={"sizes": ("4096",), "fast": name == "unknown-column"}
        )
    claim = {"why": "an expression must neither leave the table nor change from run to run"}
    for name, options in HOSTILE.items():
        yield bad_table(
            f"work/hostile-{name}", body, **options, claim=claim, oracle=_forbidden, settings={"sizes": ("4096",)}
        )


_CASTS: dict[str, Any] = {"cast": "money:decimal(18,2)"}


def _forbidden() -> object:
    """The suite's own rule, not DuckDB's: such an expression is refused whatever it gives."""
    from accept_kinds.oracles import OracleRefused

    raise OracleRefused("forbidden by rule")


def sales_table(seed: int) -> pa.Table:
    """Sales with nulls, texts that need quotes, doubles of very different size, decimals and days."""
    draw = random.Random(f"sales {seed}")
    notes = ["it's", 'says "hi"', "é\r\n", None, "word", "Längeres Wort", "word"]
    rows = [
        {
            "id": number,
            "region": draw.choice(["EU", "US", "Asia, Pacific", "a\nb", None]),
            "price": draw.choice([draw.random() * 1e3, draw.random() * 1e-9, 1e17, -1e17, None]),
            "qty": draw.choice([0, 1, 3, 7, None]),
            "money": Decimal(draw.randrange(10**6)).scaleb(-2),
            "day": columns.EPOCH.date() + timedelta(days=draw.randrange(60)),
            "note": draw.choice(notes),
        }
        for number in range(ROWS)
    ]
    kinds = [pa.int64(), pa.string(), pa.float64(), pa.int64(), pa.decimal128(18, 2), pa.date32(), pa.string()]
    return pa.Table.from_pylist(rows, pa.schema(list(zip(rows[0], kinds, strict=True))))
