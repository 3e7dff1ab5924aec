"""The oracles themselves, on tables small enough to be worked out by hand."""

import math
from decimal import Decimal
from pathlib import Path

import pytest

from accept_kinds.given import files_without_a_case
from accept_kinds.oracles import OracleRefused
from accept_kinds.oracles.table import TableOracle, exact_sum, mean, query, rejected_rows, split

BODY = b"g,x,n\nb,1.5,1\na,,2\nb,nan,9007199254740993\na,0.1,3\n"


def rows(body: bytes = BODY, **options: str) -> list[dict[str, object]]:
    return TableOracle(body, options, "csv").rows()


def test_groups_come_in_the_order_of_their_first_rows() -> None:
    found = rows(group_by="g", aggregate="n = count(); f = first(x); l = last(n); big = max(n)")
    assert found == [
        {"g": "b", "n": 2, "f": Decimal("1.5"), "l": 9007199254740993, "big": 9007199254740993},
        {"g": "a", "n": 2, "f": None, "l": 3, "big": 3},
    ]


def test_nan_is_a_text_and_sums_of_nothing_are_null() -> None:
    assert rows(group_by="g", aggregate="s = sum(x)") == [{"g": "b", "s": "NaN"}, {"g": "a", "s": Decimal("0.1")}]
    assert rows(filter="false", aggregate="s = sum(x); n = count()") == [{"s": None, "n": 0}]


def test_derived_columns_see_earlier_ones_and_replace_old_ones() -> None:
    found = rows(derive="n = n + 1; m = n * 2", select="n, m", limit="1")
    assert found == [{"n": 2, "m": 4}]


def test_what_duckdb_refuses_is_refused() -> None:
    with pytest.raises(OracleRefused, match="nope"):
        rows(filter="nope = 1")
    with pytest.raises(OracleRefused):
        rows(body=b"a,b\n1\n2,3\n")


def test_rejected_rows_are_counted_from_0_without_the_header() -> None:
    assert rejected_rows(b"x\n1\n2\noops\n4\n", {"cast": "x:int"}) == {2}


def test_sums_are_exact_and_follow_ieee() -> None:
    assert exact_sum([1e17, 0.1, -1e17]) == 0.1
    assert exact_sum([1e308, 1e308, -1e308]) == 1e308
    assert exact_sum([1e308, 1e308]) == math.inf
    assert math.isnan(exact_sum([math.inf, -math.inf]))
    assert exact_sum([-1e308, -1e308]) == -math.inf
    assert mean([1e17, 0.75, -1e17]) == 0.25


def test_lists_are_split_outside_of_quotes_and_brackets() -> None:
    assert split("a = f(x; y); b = ';'; c = 1", ";") == ["a = f(x; y)", "b = ';'", "c = 1"]


def test_sql_is_a_map_over_the_whole_and_a_reduce_over_its_rows() -> None:
    found = query("select sum(n)::bigint as n from parts", {"shard": (BODY, "csv")}, "select count(*) as n from shard")
    assert found == [{"n": 4}]


def test_a_given_file_without_a_case_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "A99_new.csv").touch()
    (tmp_path / "files" / "A10b_pandas_index.csv").touch()
    assert files_without_a_case(tmp_path) == ["A99_new.csv"]
