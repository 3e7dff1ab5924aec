"""Requests made to break tables: answers against DuckDB on the whole file at every cut, or a refusal that says why."""

import io
import json
import random
from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.sql import TableSql
from regather.processors.base import SplitRequest
from regather.processors.registry import parse_options
from regather.testing.run_kind import run

BODY = b"k,x,s\n" + b"a,1.5,{x}\nb,2.5,A\na,3.5,a\nc,1,B\n" * 100


def groups(body: bytes, options: Mapping[str, object], size_bytes: int | None = 1024) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(TableEtl(), body, options, SplitRequest(size_bytes)))["groups"]
    return found


@pytest.mark.parametrize("size_bytes", [1024, None])
@pytest.mark.parametrize("hole", ["{x}", "{high}", "{middle}", "{0}"])
def test_a_text_that_looks_like_a_hole_of_the_queries_stays_a_text(hole: str, size_bytes: int | None) -> None:
    body = BODY.replace(b"{x}", hole.encode())
    asked = f"total = sum(x) filter (where s = '{hole}'); mean = avg(case when s = '{hole}' then x end)"
    assert groups(body, {"aggregate": asked}, size_bytes) == [{"total": 150.0, "mean": 1.5}]


@pytest.mark.parametrize("option", ["derive", "aggregate", "filter"])
def test_a_union_is_no_expression(option: str) -> None:
    text = {
        "derive": "y = x union select 2",
        "aggregate": "y = sum(x) union select 2",
        "filter": "x > 1 union select 2",
    }
    with pytest.raises(BadRequest, match="more than one expression"):
        run(TableEtl(), BODY, {option: text[option]})


@pytest.mark.parametrize("text", ["a = (" + "''" * 500, "a = ((" + '"' * 1001, "a = f(" + "('')" * 500])
def test_quotes_that_are_not_closed_cost_no_time(text: str) -> None:
    """Each quote once doubled the time: 80 of them were a year of the gateway's."""
    for option in ("derive", "aggregate", "cast"):
        with pytest.raises(BadRequest):
            run(TableEtl(), BODY, {option: text})


@pytest.mark.parametrize(
    "options",
    [
        {"derive": "t = s collate nocase", "group_by": "t", "aggregate": "n = count()"},
        {"order_by": "s collate nocase"},
        {"aggregate": "n = max(s collate nocase)"},
    ],
)
def test_a_collation_is_refused_because_a_merge_would_not_have_it(options: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="collation"):
        run(TableEtl(), BODY, options)


@pytest.mark.parametrize(
    "options",
    [
        {"group_by": "k", "aggregate": "K = count()"},
        {"group_by": "k", "aggregate": "n = count(); N = sum(x)"},
        {"group_by": "k, K", "aggregate": "n = count()"},
        {"select": "k, K"},
    ],
)
def test_two_columns_of_one_name_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="given twice"):
        parse_options(TableEtl(), options)


@pytest.mark.parametrize("name", ["g", "t", "n"])
def test_names_of_keys_do_not_meet_those_of_large_sums(name: str) -> None:
    body = f"{name},x\n".encode() + b"1,1.5\n2,inf\n1,1e300\n" * 2
    assert groups(body, {"group_by": name, "aggregate": "v = sum(x)"}) == [
        {name: 1, "v": 2e300},
        {name: 2, "v": "Infinity"},
    ]


@pytest.mark.parametrize("name", ["$row", "$x0", "$first", "$s0_0", "$group", "$v p"])
def test_a_column_with_a_name_of_the_queries_own_is_refused_where_it_is_read(name: str) -> None:
    body = f"{name},x\n".encode() + b"1,1.5\n"
    with pytest.raises(BadRequest, match="rename"):
        run(TableEtl(), body, {"group_by": name, "aggregate": "v = sum(x)"})
    with pytest.raises(BadRequest, match="rename"):
        run(TableSql(), body, {"map": "select * from shard"})
    assert groups(body, {"aggregate": "v = sum(x)"}) == [{"v": 1.5}]


def test_nothing_is_sorted_by_a_constant() -> None:
    for order in ("1", "2 desc", "k, 3"):
        with pytest.raises(BadRequest, match="constant"):
            run(TableEtl(), BODY, {"order_by": order})


def test_a_limit_that_no_engine_can_count_to_is_refused_before_the_cut() -> None:
    with pytest.raises(BadRequest, match="limit"):
        parse_options(TableEtl(), {"limit": 10**30})


@pytest.mark.parametrize("map_sql", ["from shard", "table shard", "select s from shard s", "select shard from shard"])
def test_a_late_key_is_not_lost_in_a_map_that_takes_whole_rows(map_sql: str) -> None:
    late = b'{"k":"a","x":1}\n' * 80_000 + b'{"k":"b","x":2,"z":9}\n'
    with pytest.raises(PermanentError, match=r'row 80000: the key "z"'):
        run(TableSql(), late, {"map": map_sql, "reduce": "select count(*) as n from parts"})


def test_a_late_key_does_no_harm_where_rows_are_counted_alone() -> None:
    late = b'{"k":"a","x":1}\n' * 80_000 + b'{"k":"b","x":2,"z":9}\n'
    asked = {"map": "select count(*) as n from shard", "reduce": "select sum(n) as n from parts"}
    assert json.loads(run(TableSql(), late, asked)) == {"n": 80_001}


@pytest.mark.parametrize("size_bytes", [1024, None])
@pytest.mark.parametrize(
    "number", ["12345678901234567.50", "-1234567890.1234567e3", "0.12345678901234567", "1.10", "1E-2"]
)
def test_a_json_number_is_the_decimal_and_the_text_that_is_written(number: str, size_bytes: int | None) -> None:
    body = f'{{"b": [1.5, {{"a": 7.25}}], "a": 0.1}}\n{{"a": {number}, "c": 1.10}}\n'.encode() * 40
    for rows in (body, b"[" + b",".join(body.splitlines()) + b"]"):
        texts = run(TableEtl(), rows, {"cast": "a:str", "select": "a, c"}, SplitRequest(size_bytes)).splitlines()
        assert [json.loads(line)["a"] for line in texts] == ["0.1", number] * 40
        assert json.loads(texts[1])["c"] == 1.1
        digits = {"cast": "a:decimal(38,17)", "derive": "t = a::varchar", "select": "t"}
        decimals = run(TableEtl(), rows, digits, SplitRequest(size_bytes)).splitlines()
        with localcontext(prec=50):
            assert Decimal(json.loads(decimals[1])["t"]) == Decimal(number)


def test_a_whole_number_with_a_fraction_of_zero_keeps_all_of_its_digits() -> None:
    body = b'{"a": 9007199254740993.0, "B": "x"}\n{"a": 1e3}\n{"a": 7}\n{"a": "8.0"}\n'
    rows = run(TableEtl(), body, {"cast": "A:int, b:str", "select": "a"}).splitlines()
    assert [json.loads(line)["a"] for line in rows] == [9007199254740993, 1000, 7, 8]


def test_what_only_one_of_two_readers_of_json_takes_is_a_bad_row() -> None:
    for line in (
        b'{"a": 1.5,}',
        b'{"a": 1.5} {}',
        b'{"a": 1.5, "b": "\\ud835"}',
    ):
        with pytest.raises(PermanentError, match="row 1: "):
            run(TableEtl(), b'{"a": 0.5}\n' + line + b"\n", {"cast": "a:str"})


def test_json_numbers_of_few_digits_and_texts_are_exact_decimals() -> None:
    values = [
        "0.1",
        "-1e-7",
        "123456789012.345",
        "-100000000000000000000000001",
        "0",
        '"12345678901234567890.123456789"',
    ]
    body = "".join(f'{{"a": {value}}}\n' for value in values).encode()
    rows = run(TableEtl(), body, {"cast": "a:decimal(38,9)", "output": "csv"}).decode().split()
    places = Decimal("1e-9")
    with localcontext(prec=50):
        assert [Decimal(row) for row in rows[1:]] == [Decimal(one.strip('"')).quantize(places) for one in values]


@pytest.mark.parametrize("options", [{}, {"select": "b"}, {"aggregate": "n = count()"}, {"cast": "b:int"}])
@pytest.mark.parametrize("body", [b'{"":1}\n', b'{"":1,"b":2}\n', b'{"b":2}\n{"b":3,"":1}\n', b'[{"b":2,"":1}]'])
def test_an_empty_key_is_refused_by_its_cause(body: bytes, options: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="a key of the first rows is empty") as refused:
        run(TableEtl(), body, options)
    assert refused.value.code == "bad-header"
    with pytest.raises(BadInput, match="rename the key"):
        run(TableSql(), body, {"map": "select * from shard"})


def test_a_late_empty_key_is_a_bad_row_where_it_would_be_lost() -> None:
    body = b'{"b":1}\n' * 140_000 + b'{"b":2,"":1}\n'
    with pytest.raises(PermanentError, match=r'row 140000: the key "" .*rename it'):
        run(TableEtl(), body)
    assert json.loads(run(TableEtl(), body, {"aggregate": "s = sum(b)"})) == {"groups": [{"s": 140_002}]}


def test_a_share_out_of_range_is_said_of_the_aggregate() -> None:
    with pytest.raises(BadRequest, match=r"^aggregate: "):
        run(TableEtl(), BODY, {"aggregate": "q = quantile(x, 2)"})


@pytest.mark.parametrize("size_bytes", [1024, None])
@pytest.mark.parametrize("first", ["0", "-0"])
def test_of_two_zeros_the_first_one_stays(first: str, size_bytes: int | None) -> None:
    body = b"x,pad\n" + f"{first},a\n0,a\n-0,a\n".encode() * 200
    rows = run(TableEtl(), body, {"cast": "x:float", "distinct": True}, SplitRequest(size_bytes))
    assert rows.decode() == f'{{"x":{float(first)},"pad":"a"}}\n'
    (group,) = groups(body, {"cast": "x:float", "group_by": "x", "aggregate": "n = count(); d = count(distinct x)"})
    assert (str(group["x"]), group["n"], group["d"]) == (str(float(first)), 600, 1)


def test_whole_numbers_of_128_bits_without_a_sign_keep_their_digits_in_parquet() -> None:
    options = {"derive": "y = 12345678901234567890123::uhugeint", "select": "y", "output": "parquet", "limit": 1}
    table = pq.read_table(io.BytesIO(run(TableEtl(), BODY, options)))
    assert table.column("y").to_pylist() == [Decimal(12345678901234567890123)]


@pytest.mark.parametrize("seed", range(4))
def test_means_of_large_whole_numbers_are_duckdbs(seed: int) -> None:
    draw = random.Random(seed)
    values = [draw.choice([draw.randrange(-(2**62), 2**62), draw.randrange(9), 2**63 - 1]) for _ in range(201)]
    body = "k,x\n" + "".join(f"{index % 20},{value}\n" for index, value in enumerate(values))
    found = groups(body.encode(), {"group_by": "k", "aggregate": "m = avg(x)"})
    rows = ", ".join(f"({index % 20}, {value}::bigint)" for index, value in enumerate(values))
    wanted = duckdb.execute(f"SELECT k, avg(x) FROM (VALUES {rows}) t(k, x) GROUP BY k ORDER BY k").fetchall()
    assert [(group["k"], group["m"]) for group in found] == wanted
