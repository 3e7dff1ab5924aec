"""Rows that do not fit their table: each is refused by its number, at every cut; none is bent until it fits."""

import json
from typing import Any

import duckdb
import pytest

from regather.core.errors import BadInput, PermanentError
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.sql import TableSql
from regather.processors.base import SplitRequest
from regather.testing.run_kind import run

pytestmark = pytest.mark.long

SIZES = [1024, None]


def rows(body: bytes, options: dict[str, Any] | None = None, size_bytes: int | None = None) -> list[dict[str, Any]]:
    found = run(TableEtl(), body, options or {}, SplitRequest(size_bytes))
    return [json.loads(line) for line in found.splitlines()]


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("options", [{}, {"aggregate": "n = count()"}, {"nulls": "NA"}])
@pytest.mark.parametrize("extra", [",", ",,", ',""', ", ", ",NA"])
def test_a_field_too_many_is_a_bad_row_whatever_it_holds(
    extra: str, options: dict[str, str], size_bytes: int | None
) -> None:
    body = b"a,b\n" + b"1,2\n" * 301 + f"3,4{extra}\n5,6\n".encode()
    with pytest.raises(PermanentError, match=r"row 301: Expected Number of Columns: 2 Found: [34]"):
        run(TableEtl(), body, options, SplitRequest(size_bytes))
    with pytest.raises(PermanentError, match="row 301: "):
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
    assert whole is not None
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
    expected = [value for (value,) in duckdb.execute(sql).fetchall()]
    options = {"nulls": nulls, "select": "a"} if nulls else {"select": "a"}
    assert [row["a"] for row in rows(body.encode(), options)] == expected


WITHOUT_A_GOOD_ROW = [
    (b"a,b\n1\n2\n", "row 0: Expected Number of Columns: 2 Found: 1;"),
    (b"a,b\n1,2,3\n4,5,6\n", "row 0: Expected Number of Columns: 2 Found: 3;"),
    (b"a,b\n1;2\n3;4\n", "row 0: Expected .* are delimiter and quote right"),
    (b'a,b\n"1"x,2\n"3"y,4\n', "row 0: Value with unterminated quote found;"),
    (b"{1}\n{2}\n", "row 0: Malformed JSON unexpected character;"),
    (b'{"a":1} {"a":2}\n{"a"}\n', "row 0: Malformed JSON unexpected content after document;"),
    (b'{}\n{"a":\n', "row 1: Malformed JSON unexpected end of data;"),
    (b"{}\n5\n", "row 1: the row is not a JSON object: 5;"),
    (b"5\n{}\n", "row 0: the row is not a JSON object: 5;"),
    (b"{}\n{}\n", "none of the first rows is a JSON object with a key"),
    (b'{"a":1}\n{"a":' + b"[" * 5000 + b"]" * 5000 + b"}\n", "row 1: .*depth"),
    (b'[1,"a"]', "row 0 is not a JSON object"),
]


@pytest.mark.parametrize(("body", "why"), WITHOUT_A_GOOD_ROW, ids=[repr(body)[:30] for body, _ in WITHOUT_A_GOOD_ROW])
@pytest.mark.parametrize("options", [{}, {"cast": "a:int"}, {"aggregate": "s = sum(b)"}])
def test_of_rows_that_are_all_bad_the_first_one_is_named(body: bytes, why: str, options: dict[str, str]) -> None:
    given = options if body[:1] in b"{[5" else {"format": "csv", **options}
    with pytest.raises(BadInput, match=why):
        run(TableEtl(), body, {"format": "ndjson", **given} if body[:1] == b"5" else given)


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("other", ["null", '"x"', '[{"a":1}]', " 5"])
@pytest.mark.parametrize("options", [{}, {"cast": "a:json"}, {"aggregate": "n = count()"}])
@pytest.mark.parametrize("row", ['{"a":"y"}', ' {"a":"y","b":1}'])
def test_a_json_value_that_is_no_object_is_a_bad_row_and_changes_no_other(
    row: str, options: dict[str, str], other: str, size_bytes: int | None
) -> None:
    """Of one such row DuckDB's reader took all objects beside it for values of the one column."""
    lines = [row] * 300 + [other] + [row] * 3
    bodies = ["\n".join(lines).encode(), f"[{','.join(lines)}]".encode()]
    for body in bodies:
        with pytest.raises(PermanentError, match="row 300: the row is not a JSON object: "):
            run(TableEtl(), body, options, SplitRequest(size_bytes))
        with pytest.raises(PermanentError, match="row 300: "):
            run(TableSql(), body, {"map": "select count(*) as n from shard"}, SplitRequest(size_bytes))


def test_a_value_that_does_not_fit_is_named_before_a_later_row_that_is_no_object() -> None:
    with pytest.raises(PermanentError, match="row 1: column"):
        rows(b'{"a":1}\n{"a":"x"}\nnull\n', {"cast": "a:int"})


def test_carriage_returns_inside_of_objects_are_white_space_to_the_sample_too() -> None:
    assert rows(b'{"a":1,\r"b":2}\n{"a":1,\r"b":2}\n') == [{"a": 1, "b": 2}] * 2


@pytest.mark.parametrize("size_bytes", [None, 1024])
@pytest.mark.parametrize("options", [{}, {"cast": "x:int"}, {"quote": ""}, {"nulls": "NA,"}], ids=str)
def test_an_empty_line_is_a_row_in_a_table_of_one_column(options: dict[str, Any], size_bytes: int | None) -> None:
    values = [None, 1, None, None, 2, None] * 300
    body = b"x\n" + b"".join(b"\n" if value is None else b"%d\n" % value for value in values)
    assert rows(body, options, size_bytes) == [{"x": value} for value in values]


@pytest.mark.parametrize("rest", [b"2,\n", b'2,,\n"3,\n"\n', b"2,3\n"])
def test_a_field_too_many_behind_an_empty_line_is_a_bad_row(rest: bytes) -> None:
    with pytest.raises(PermanentError, match="row 2: "):
        run(TableEtl(), b"x\n1\n\n" + rest, {"format": "csv"})


def test_rows_behind_an_empty_line_keep_their_numbers() -> None:
    with pytest.raises(PermanentError, match=r"row 3: .*'x'.* not BIGINT"):
        run(TableEtl(), b"x\n1\n\n\nx\n5\n", {"format": "csv", "cast": "x:int"})
