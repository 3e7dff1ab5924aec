"""Rows that do not fit their table: each is refused by its number, at every cut; none is bent until it fits."""

import json
from typing import Any

import duckdb
import pytest

from regather.core.errors import PermanentError
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.sql import TableSql
from regather.processors.base import SplitRequest
from regather.testing.run_kind import run

SIZES = [1024, None]


def rows(body: bytes, options: dict[str, Any] | None = None, size_bytes: int | None = None) -> list[dict[str, Any]]:
    found = run(TableEtl(), body, options or {}, SplitRequest(size_bytes))
    return [json.loads(line) for line in found.splitlines()]


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("options", [{}, {"select": "a"}, {"aggregate": "n = count()"}, {"nulls": "NA"}])
@pytest.mark.parametrize("extra", [",", ",,", ',""', ", ", ",NA", ",9"])
def test_a_field_too_many_is_a_bad_row_whatever_it_holds(
    extra: str, options: dict[str, str], size_bytes: int | None
) -> None:
    body = b"a,b\n" + b"1,2\n" * 601 + f"3,4{extra}\n5,6\n".encode()
    with pytest.raises(PermanentError, match=r"row 601: Expected Number of Columns: 2 Found: [34]"):
        run(TableEtl(), body, options, SplitRequest(size_bytes))
    with pytest.raises(PermanentError, match="row 601: "):
        run(TableSql(), body, {"map": "select a from shard"}, SplitRequest(size_bytes))


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize(
    ("header", "options"), [("a,b,", {}), ("a,b", {}), ("a,b", {"nulls": "NA"}), ("a", {}), ("a,b,c,", {})]
)
def test_a_delimiter_behind_every_row_does_no_harm(
    header: str, options: dict[str, str], size_bytes: int | None, tmp_path: Any
) -> None:
    width = len(header.rstrip(",").split(","))
    body = "".join(f"{','.join(str(row + column) for column in range(width))},\n" for row in range(800))
    (tmp_path / "t.csv").write_text(f"{header}\n{body}")
    names = ", ".join("abc"[:width])
    whole = duckdb.sql(f"SELECT {names} FROM read_csv('{tmp_path / 't.csv'}', delim=',', header=true)")
    expected = [dict(zip(whole.columns, row, strict=True)) for row in whole.fetchall()]
    assert rows(f"{header}\n{body}".encode(), {"select": names, **options}, size_bytes) == expected


def test_a_row_is_no_longer_than_a_header_that_ends_in_a_delimiter() -> None:
    with pytest.raises(PermanentError, match="row 1: Expected Number of Columns: 3 Found: 4"):
        rows(b"a,b,\n1,2,\n3,4,,\n")
    with pytest.raises(PermanentError, match="row 1: Expected Number of Columns: 3 Found: 2"):
        rows(b"a,b,\n1,2,\n3,4\n")


@pytest.mark.parametrize("text", ["", '""', "NA", '"NA"', " NA", "na", "''"])
@pytest.mark.parametrize("nulls", ["", "NA", "NA, ''"])
def test_texts_are_null_where_duckdb_has_them_null(text: str, nulls: str, tmp_path: Any) -> None:
    body = f"a,b\nx,1\n{text},2\n"
    (tmp_path / "t.csv").write_text(body)
    named = {"": ["''"], "NA": ["'NA'"], "NA, ''": ["'NA'", "''"]}[nulls]
    sql = f"SELECT a FROM read_csv('{tmp_path / 't.csv'}', delim=',', header=true, quote='\"', nullstr=[{','.join(named)}])"
    expected = [value for (value,) in duckdb.sql(sql).fetchall()]
    options = {"nulls": nulls, "select": "a"} if nulls else {"select": "a"}
    assert [row["a"] for row in rows(body.encode(), options)] == expected
