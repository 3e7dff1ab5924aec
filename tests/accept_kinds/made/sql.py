"""Kind `table.sql`: `map` over each shard, `reduce` over what all maps gave; equal to both over the whole file."""

from collections.abc import Callable, Iterator

from accept_kinds.case import Case, Equal, Refusal, Want
from accept_kinds.expect import Body, bytes_of
from accept_kinds.made import columns
from accept_kinds.made.operations import sales_table
from accept_kinds.oracles.table import query

FEW = ("1024", "65536", "one")
WORK: dict[str, tuple[str, str]] = {
    "sums": (
        "select region, sum(qty) as s, count(*) as n from shard group by region",
        "select region, sum(s)::bigint as s, sum(n)::bigint as n from parts group by region order by region nulls first",
    ),
    "count": ("select count(*) as n from shard", "select sum(n)::bigint as n from parts"),
    "extremes": (
        "select min(price) as lo, max(price) as hi from shard",
        "select min(lo) as lo, max(hi) as hi from parts",
    ),
    "rows": ("select id, qty * 2 as twice from shard where qty > 3", ""),
    "cte": ("with big as (select * from shard where qty > 2) select id, note from big", ""),
    "order": (
        "select id, money from shard order by money desc, id limit 5",
        "select * from parts order by money desc, id limit 5",
    ),
    "case": ("select id, case when qty is null then 'none' else region end as what from shard", ""),
}
REFUSED = {
    "unknown-column": "select nope from shard",
    "unknown-table": "select * from somewhere",
    "type-error": "select region + qty as x from shard",
    "two-statements": "select id from shard; select 1",
    "no-select": "drop table shard",
    "insert": "insert into shard values (1)",
    "copy": "copy shard to 'x.csv'",
    "attach": "attach 'x.db'",
    "pragma": "pragma database_list",
    "set": "set threads = 8",
    "install": "install httpfs",
    "read-text": "select content from read_text('/etc/passwd')",
    "read-file-as-table": "select * from '/etc/passwd'",
    "network": "select * from read_csv('https://example.com/x.csv')",
    "glob": "select * from glob('/*')",
    "syntax": "selekt id from shard",
    "empty": " ",
}


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    body = columns.as_parquet(sales_table(seed), row_group_size=333)
    for name, (first, second) in WORK.items():
        yield _case(f"sql/{name}", body, first, second, fast=name == "sums")
    for name, statement in REFUSED.items():
        refusal = Refusal(f"such a statement is refused before anything runs: {name}")
        options = {"map": statement}
        yield Case(f"sql/refused-{name}", "table.sql", lambda: body, _wanted(refusal), options, sizes=("65536",))
    mended = Refusal("the second statement names a column that the first does not give")
    options = {"map": "select id from shard", "reduce": "select nope from parts"}
    yield Case(
        "sql/refused-reduce-column", "table.sql", lambda: body, lambda: mended, options, sizes=("65536",), fast=True
    )


def _wanted(refusal: Refusal) -> Callable[[], Want]:
    return lambda: refusal


def _case(name: str, body: Body, first: str, second: str, *, fast: bool) -> Case:
    def want() -> Want:
        whole = {"shard": (bytes_of(body), "parquet")}
        return Equal("ndjson", (query(second or "select * from parts", whole, first),), {"s": 1e-12})

    options = {"map": first} | ({"reduce": second} if second else {})
    return Case(name, "table.sql", lambda: bytes_of(body), want, options, sizes=FEW, fast=fast)
