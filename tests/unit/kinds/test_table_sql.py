"""`table.sql`, and what no client's SQL can do: by the checks, and by the lock of the engine behind them."""

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.table.engine import Engine
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.sql import TableSql
from regather.processors.base import SplitRequest
from regather.processors.registry import parse_options
from regather.testing.run_kind import cut, processed, run

ORDERS = b"id,region,amount,qty\n" + b"".join(
    b"%d,%s,%d.5,%d\n" % (n, (b"EU", b"US", b"APAC")[n % 3], n % 70, n % 9) for n in range(400)
)


def answer(options: dict[str, Any], size_bytes: int | None = None, body: bytes = ORDERS) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(TableSql(), body, options, SplitRequest(size_bytes)).splitlines()]


@pytest.mark.parametrize("size_bytes", [1024, 4096, None])
def test_reduce_adds_up_what_the_maps_gave(size_bytes: int | None) -> None:
    options = {
        "map": "SELECT region, count(*) AS n, sum(qty) AS q FROM shard WHERE amount > 20 GROUP BY region",
        "reduce": "WITH a AS (FROM parts) SELECT region, sum(n) AS n, sum(q) AS q FROM a GROUP BY 1 ORDER BY region",
    }
    kept = [n for n in range(400) if n % 70 + 0.5 > 20]
    assert answer(options, size_bytes) == [
        {"region": region, "n": len(rows), "q": sum(n % 9 for n in rows)}
        for region, rows in (
            (name, [n for n in kept if n % 3 == at]) for at, name in ((2, "APAC"), (0, "EU"), (1, "US"))
        )
    ]


def test_rows_of_the_maps_come_out_in_order() -> None:
    rows = answer({"map": "SELECT id, amount * qty AS total FROM shard WHERE qty = 8 -- the best"}, 1024)
    assert rows == [{"id": n, "total": (n % 70 + 0.5) * 8} for n in range(400) if n % 9 == 8]


REFUSED = [
    ("SELECT nope FROM shard", "nope"),
    ("SELECT region + 1 FROM shard", "region \\+ 1|types"),
    ("SELECT 1; SELECT 2", "more than one statement"),
    ("SELECT * FROM parts", "no table 'parts'"),
    ("SELECT * FROM read_csv('/etc/passwd')", "not allowed as a table"),
    ("SELECT * FROM '/etc/passwd'", "no table '/etc/passwd'"),
    ("SELECT * FROM glob('/*')", "not allowed as a table"),
    ("SELECT * FROM duckdb_settings()", "not allowed as a table"),
    ("SELECT content FROM read_text('/etc/passwd')", "not allowed as a table"),
    ("SELECT getenv('HOME')", "no function getenv"),
    ("SELECT random() FROM shard", "not allowed"),
    ("SELECT now() FROM shard", "not allowed"),
    ("SELECT current_date FROM shard", "not allowed"),
    ("SELECT * FROM shard USING SAMPLE 3", "random"),
    ("COPY shard TO '/tmp/out'", "only one SELECT"),
    ("ATTACH '/tmp/x.db'", "only one SELECT"),
    ("INSTALL httpfs", "only one SELECT"),
    ("SET threads = 8", "only one SELECT"),
    ("CREATE TABLE t AS SELECT 1", "only one SELECT"),
    ("DELETE FROM shard", "only one SELECT"),
    ("SHOW TABLES", "only one SELECT"),
    ("SELECT ?", "parameter"),
    ("", "syntax|statement"),
]


@pytest.mark.parametrize(("sql", "why"), REFUSED, ids=[sql[:40] for sql, _ in REFUSED])
def test_what_is_no_select_over_its_table_is_refused_before_anything_is_cut(sql: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why) as refused:
        answer({"map": sql})
    assert "map" in str(refused.value)


def test_a_reduce_is_checked_against_what_map_gives() -> None:
    with pytest.raises(BadRequest, match=r"reduce.*region"):
        answer({"map": "SELECT qty FROM shard", "reduce": "SELECT region FROM parts"})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
        "SELECT * FROM read_text('/proc/self/environ')",
        "COPY (SELECT 1) TO '/tmp/regather-must-not-be-there.csv'",
        "ATTACH '/tmp/regather-must-not-be-there.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET threads = 8",
        "SET memory_limit = '100GB'",
        "SET lock_configuration = false",
        "RESET timezone",
        "CREATE SECRET s (TYPE s3)",
        "EXPORT DATABASE '/tmp/regather-must-not-be-there'",
    ],
)
def test_the_locked_engine_refuses_what_passes_the_checks_by_mistake(sql: str) -> None:
    engine = Engine(256 * 1024**2)
    with pytest.raises(duckdb.Error):
        engine.run(sql)
    assert not list(Path("/tmp").glob("regather-must-not-*"))


def test_a_byte_order_mark_inside_a_table_stays_where_it_is_at_any_cut() -> None:
    body = b"a,b\n" + "\ufeffx,1\n".encode() * 400
    for size_bytes in (1024, 3000, None):
        rows = run(TableEtl(), body, {"distinct": "true"}, SplitRequest(size_bytes)).splitlines()
        assert [json.loads(row) for row in rows] == [{"a": "\ufeffx", "b": 1}]


def test_the_engine_has_one_thread_utc_and_the_memory_it_was_given() -> None:
    engine = Engine(256 * 1024**2)
    names = ("threads", "TimeZone", "memory_limit", "temp_directory", "python_enable_replacements")
    found = [engine.run(f"SELECT current_setting('{name}')")[0][0] for name in names]
    assert found == [1, "UTC", "256.0 MiB", "", False]
    shard = [1, 2, 3]
    with pytest.raises(duckdb.Error):
        engine.run("SELECT * FROM shard")
    assert shard
    with pytest.raises(duckdb.OutOfMemoryException):
        engine.run(
            "SELECT count(*) FROM (SELECT DISTINCT hash(range) AS h, range::VARCHAR || 'x' FROM range(60000000))"
        )


EXPRESSIONS = [
    ("filter", 'region == "EU"', "no column 'eu'"),
    ("filter", "qty", "must be true or false"),
    ("filter", "qty > 3 if region else 1", "case when"),
    ("filter", "sum(qty) > 3", "takes many rows"),
    ("filter", "qty > (select max(qty) from shard)", "subquery"),
    ("filter", "row_number() over () > 3", "window"),
    ("filter", "random() > 0.5", "not allowed"),
    ("filter", "qty > 3) or (1 = 1", "more than one|syntax"),
    ("filter", "startswith(region, 'E')", "starts_with"),
    ("derive", "x = region + 1", "derive x"),
    ("derive", "x = it's", "quote"),
    ("derive", f"x = {'+'.join('1' * 450)}", "nested too deeply"),
    ("derive", "x = y; y = 1", "no column 'y'"),
    ("select", "nope", "no column 'nope'"),
    ("cast", "nope:int", "no column 'nope'"),
    ("cast", "qty:integr", "is not a type"),
    ("group_by", "nope", "no column 'nope'|needs aggregate"),
    ("aggregate", "s = sum(region)", "set its type with cast"),
    ("aggregate", "s = sum(qty) + 1", "not a call of an aggregate"),
    ("aggregate", "s = string_agg(region)", "no aggregate"),
    ("aggregate", "s = quantile(qty, amount)", "must be a number"),
    ("aggregate", "s = sum(distinct qty)", "distinct"),
    ("order_by", "nope", "no column 'nope'"),
    ("order_by", "qty limit 3", "sort by"),
]


@pytest.mark.parametrize(("option", "text", "why"), EXPRESSIONS, ids=[text[:40] for _, text, _ in EXPRESSIONS])
def test_an_option_that_is_wrong_is_refused_by_name(option: str, text: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why) as refused:
        run(TableEtl(), ORDERS, {option: text})
    assert option in str(refused.value)


BAD_ROWS = [
    (b"a,b\n1,x\n2,y\n3\n4,z\n", {}, "row 2: Expected Number of Columns: 2 Found: 1"),
    (b"a,b\n1,x\n2,y\nx,z\n", {"cast": "a:int"}, "row 2: column \"a\" is 'x', which is not BIGINT, the type that cast"),
    (b"a,b\n" + b"1,x\n" * 300_000 + b"1.5,x\n", {"aggregate": "s = sum(a)"}, "row 300000: .*'1.5', which is not BIGINT"),
    (b"a\n2024-01-01\n" * 1 + b"2024-01-02 10:00:00\n", {"cast": "a:date"}, "row 1: .*not DATE"),
    (b'a,b\n1,"x\ny"\n2,"z\n', {}, "quote"),
    (b"a,b\n0,1\n2,0\n", {"derive": "c = a // b"}, "row 1: Division by zero"),
    (b'{"a":1}\n{"a":"x"}\n', {"cast": "a:int"}, "row 1: .*'x'"),
    (b'{"a":1}\n\n{"a":2\n', {}, "row 1: "),
    (b'{"a":1}\n[1]\n', {}, "row 1: "),
    (b'{"a":1}\n' * 200_000 + b'{"a":1,"new":2}\n', {}, 'row 200000: the key "new"'),
    (b'{"t":"ok"}\n{"t":"bad \\ud835 half"}\n', {}, "row 1: "),
    (b'[{"a":1},5]', {}, "row 1: "),
]  # fmt: skip


@pytest.mark.parametrize(("body", "options", "why"), BAD_ROWS, ids=[why[:40] for _, _, why in BAD_ROWS])
@pytest.mark.parametrize("size_bytes", [1024, None])
def test_a_row_that_does_not_fit_is_named(
    body: bytes, options: dict[str, str], why: str, size_bytes: int | None
) -> None:
    if size_bytes and len(body) > 1_000_000:
        size_bytes = 100_000
    with pytest.raises((PermanentError, BadInput), match=why) as refused:
        run(TableEtl(), body, options, SplitRequest(size_bytes))
    assert "SET" not in str(refused.value)


@pytest.mark.parametrize("body", [b"[]", b"[ ]\n"])
def test_a_table_without_a_row_gives_an_empty_result(body: bytes) -> None:
    assert run(TableEtl(), body) == b""
    assert run(TableEtl(), body, {"filter": "x > 3", "select": "x", "order_by": "x", "limit": "3"}) == b""
    assert run(TableEtl(), body, {"output": "csv"}) == b""
    assert run(TableEtl(), body, {"output": "json"}) == b"[]"
    groups = {"group_by": "k", "aggregate": "n = count(); s = sum(x); m = avg(y); q = median(z)"}
    assert json.loads(run(TableEtl(), body, groups)) == {"groups": []}
    one = json.loads(run(TableEtl(), body, {"aggregate": groups["aggregate"]}))
    assert one == {"groups": [{"n": 0, "s": None, "m": None, "q": None}]}


def test_a_bad_row_among_the_first_ones_does_not_hide_the_types_of_the_others() -> None:
    body = b'a,b\n1,x\n2,"y"z\n3,w\n'
    with pytest.raises(PermanentError, match="row 1: "):
        run(TableEtl(), body, {"aggregate": "s = sum(a)"})


@pytest.mark.parametrize(
    ("header", "sql"),
    [
        (b"a", f"select a as {'long' * 15} from shard"),
        (b"name" * 15, "select * from shard"),
        (b"a", "select a, a + 1 as b, a + 2 as c, a + 3 as d, a + 4 as e from shard"),
    ],
)
def test_an_output_fits_whatever_its_columns_are_called(header: bytes, sql: str) -> None:
    body = header + b"\n" + b"1\n" * 250_000
    options = parse_options(TableSql(), {"map": sql})
    pieces = cut(TableSql(), body, options, SplitRequest())
    outputs = processed(TableSql(), pieces, options)
    assert max(map(len, outputs)) < 10 * 1024 * 1024
    assert sum(output.count(b"\n") for output in outputs) == 250_000
    asked = cut(TableSql(), body, options, SplitRequest(shards=2))
    assert len(asked) == 2


@pytest.mark.parametrize("options", [{"derive": "%s = a" % ("long" * 20)}, {"derive": "x = a", "select": "x"}])
def test_rows_of_parquet_fit_whatever_they_are_called(options: dict[str, str], tmp_path: Path) -> None:
    duckdb.sql(f"COPY (SELECT 1 AS a FROM range(150_000)) TO '{tmp_path / 'ones.parquet'}'")
    body = (tmp_path / "ones.parquet").read_bytes()
    queries = {"map": f"select a as {'long' * 20} from shard"}
    for kind, asked in ((TableEtl(), options), (TableSql(), queries)):
        parsed = parse_options(kind, asked)
        outputs = processed(kind, cut(kind, body, parsed, SplitRequest()), parsed)
        assert max(map(len, outputs)) < 10 * 1024 * 1024
        assert sum(output.count(b"\n") for output in outputs) == 150_000


@pytest.mark.parametrize(
    "sql",
    [
        "select * from (with z as (select 2 as b) select * from z) s, z",
        "with x as (select * from z), z as (select 1 as a) select * from x",
        "select (with z as (select 1 as b) select b from z) as c from shard where a in (select b from z)",
        "with x as materialized (with z as (from shard) from z) from x, z",
        "with recursive x as (select 1 as a union all select a + 1 from z), z as (select 2 as a) select * from x",
        "(with z as (select 1 as a) select a from z) union all select a from z",
    ],
)
@pytest.mark.parametrize("name", ["z", "sqlite_master", "duckdb_settings"])
def test_a_name_of_with_is_known_where_sql_knows_it_alone(sql: str, name: str) -> None:
    """A table of DuckDB's own could be read under the name of a WITH elsewhere in the query."""
    with pytest.raises(BadRequest, match=f"there is no table '{name}' here; the query can read shard"):
        run(TableSql(), b"a\n1\n2\n", {"map": re.sub(r"\bz\b", name, sql)})


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("with x as (select 1 as a), y as (select * from X) select * from y", [1]),
        ("with shard as (select a + 1 as a from shard) select * from shard", [2, 3]),
        ("with recursive x as (select 1 as a union all select a + 1 from x where a < 3) select * from x", [1, 2, 3]),
        ("select * from (with z as (from shard) select * from (select * from z) t) s", [1, 2]),
        ("with x as (from shard) select a from x where a = (select max(a) from x)", [2]),
        ("with z as (select 7 as a) (select a from shard) union all select a from z", [1, 2, 7]),
    ],
)
def test_names_of_with_can_be_used(sql: str, values: list[int]) -> None:
    assert [row["a"] for row in answer({"map": sql}, body=b"a\n1\n2\n")] == values
