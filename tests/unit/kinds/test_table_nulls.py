"""Columns without a value: null as a number, as a text, and as anything else that is asked for."""

import io
import json

import pyarrow.parquet as pq
import pytest

from regather.core.errors import BadRequest, PermanentError
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.sql import TableSql
from regather.processors.base import SplitRequest
from regather.testing.run_kind import run

BODIES = {
    "csv": b"a,b\n" + b"1,\n2,\n" * 400,
    "ndjson": b'{"a":1,"b":null}\n{"a":2}\n' * 400,
    "json": b"[" + b",".join([b'{"a":1,"b":null}', b'{"a":2}'] * 400) + b"]",
}


@pytest.mark.parametrize("size_bytes", [1024, None])
@pytest.mark.parametrize("name", BODIES)
def test_what_is_made_of_a_column_without_a_value_is_null(name: str, size_bytes: int | None) -> None:
    body, request = BODIES[name], SplitRequest(size_bytes)
    figures = "s = sum(b); m = mean(b); v = stddev(b); x = max(b); q = median(b); p = sum(a * b); n = count(b)"
    nothing = dict.fromkeys("smvxqp") | {"n": 0}
    assert json.loads(run(TableEtl(), body, {"aggregate": figures}, request)) == {"groups": [nothing]}
    rows = run(TableEtl(), body, {"derive": "c = b + 1; d = upper(b); e = b > date '2024-01-01'", "limit": 1}, request)
    assert json.loads(rows) == {"a": 1, "b": None, "c": None, "d": None, "e": None}
    for condition in ("b > 3", "b = 'x'", "b is not null"):
        assert run(TableEtl(), body, {"filter": condition}, request) == b""
    queries = {"map": "select sum(b) as s, min(upper(b)) as t from shard", "reduce": "select sum(s) as s from parts"}
    assert json.loads(run(TableSql(), body, queries, request)) == {"s": None}
    table = pq.read_table(io.BytesIO(run(TableEtl(), body, {"output": "parquet"}, request)))
    assert (str(table.schema.field("b").type), table.column("b").null_count) == ("string", 800)


def test_figures_of_a_table_with_a_header_alone_are_null() -> None:
    assert json.loads(run(TableEtl(), b"a,b\n", {"aggregate": "s = sum(a * b); n = count()"})) == {
        "groups": [{"s": None, "n": 0}]
    }


def test_a_column_that_may_have_a_value_later_is_refused_with_the_reason() -> None:
    body = b"a,b\n" + b"1,\n" * 400_000 + b"2,7.5\n"
    with pytest.raises(BadRequest, match="every column without a value in the sample"):
        run(TableEtl(), body, {"aggregate": "s = sum(b)"})
    assert json.loads(run(TableEtl(), body, {"aggregate": "s = sum(b)", "cast": "b:float"})) == {"groups": [{"s": 7.5}]}


def test_a_bad_row_does_not_make_its_column_one_without_a_value() -> None:
    with pytest.raises(PermanentError, match="row 1: Expected Number of Columns: 2 Found: 3"):
        run(TableEtl(), b"a,b\n1,\n2,7,8\n", {"aggregate": "s = sum(b)"})
