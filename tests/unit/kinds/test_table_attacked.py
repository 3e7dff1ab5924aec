"""Requests made to break tables: answers against DuckDB on the whole file at every cut, or a refusal that says why."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from regather.core.errors import BadRequest
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
