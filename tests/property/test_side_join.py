"""A join at any shard size is DuckDB's own on the whole tables; a side file survives any cut of its form."""

import csv
import io
import json
from itertools import pairwise
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regather.core.errors import BadInput
from regather.kinds.table.etl import TableEtl
from regather.processors.base import Side, SplitRequest
from regather.testing.run_kind import run
from regather_gateway.bodies.multipart_body import MultipartBody

pytestmark = pytest.mark.long

KIND = TableEtl()
Row = dict[str, Any]
KEYS = st.sampled_from(["a", "b", "c", "A", "ä, b", 'say "a"', None])
NUMBERS = st.sampled_from([0, 1, 2, 7, None])
TABLE = st.lists(st.fixed_dictionaries({"k": KEYS, "n": NUMBERS, "note": st.text("xy \n", max_size=30)}), max_size=150)
BESIDE = st.lists(st.fixed_dictionaries({"code": KEYS, "low": NUMBERS, "name": st.sampled_from(["one", "two", None])}))
TYPES = {"k": "str", "n": "int", "note": "str", "code": "str", "low": "int", "name": "str"}
ARROW = {"str": pa.string(), "int": pa.int64()}
CONDITIONS = [
    "k = code",
    "k = code and n = low",
    "k = code and n > low",
    "n between low and low + 1",
    "lower(k) = code",
]
JOINS = {"left": "left join", "inner": "join", "semi": "semi join", "anti": "anti join"}


def arrow(names: list[str], rows: list[Row]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], ARROW[TYPES[name]]) for name in names})


def as_csv(names: list[str], rows: list[Row]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(["NULL" if row[name] is None else row[name] for name in names])
    return out.getvalue().encode()


def as_ndjson(names: list[str], rows: list[Row]) -> bytes:
    return "".join(json.dumps({name: row[name] for name in names}) + "\n" for row in rows).encode()


def as_parquet(names: list[str], rows: list[Row]) -> bytes:
    out = io.BytesIO()
    pq.write_table(arrow(names, rows), out)
    return out.getvalue()


WRITERS = {"csv": as_csv, "ndjson": as_ndjson, "parquet": as_parquet}


def whole(table: pa.Table, beside: pa.Table, how: str, condition: str, select: str, after: str) -> list[Row]:
    """DuckDB's answer, by the numbers of the rows of both tables."""
    database = duckdb.connect(config={"threads": 1})
    numbers = [pa.array(range(len(one)), pa.int64()) for one in (table, beside)]
    database.register("t", table.append_column("t_row", numbers[0]))
    database.register("s", beside.append_column("s_row", numbers[1]))
    second = "" if how in ("semi", "anti") else ", s_row"
    order = after or f" order by t_row{second}"
    found = database.sql(f"select {select} from t {JOINS[how]} s on ({condition}){order}").to_arrow_table()
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def reading(table_format: str, names: list[str]) -> dict[str, Any]:
    casts = {"cast": {name: TYPES[name] for name in names}}
    return {"csv": {"nulls": ["NULL"], **casts}, "ndjson": {"format": "ndjson", **casts}, "parquet": {}}[table_format]


@settings(max_examples=60, deadline=None)
@given(
    rows=TABLE,
    beside=BESIDE,
    how=st.sampled_from(list(JOINS)),
    condition=st.sampled_from(CONDITIONS),
    formats=st.tuples(st.sampled_from(list(WRITERS)), st.sampled_from(list(WRITERS))),
    size=st.sampled_from([1024, 2000, None]),
    groups=st.booleans(),
)
def test_a_join_at_any_size_is_duckdbs_on_the_whole_tables(
    rows: list[Row],
    beside: list[Row],
    how: str,
    condition: str,
    formats: tuple[str, str],
    size: int | None,
    groups: bool,
) -> None:
    names, side_names = ["k", "n", "note"], ["code", "low", "name"]
    body, side = WRITERS[formats[0]](names, rows), WRITERS[formats[1]](side_names, beside)
    if not side or not body:
        return
    options = {
        **reading(formats[0], names),
        "side": reading(formats[1], side_names),
        "join": condition,
        "join_how": how,
    }
    both = how in ("left", "inner")
    if groups:
        figures = {"rows": "count()", "s": "sum(n)"} | ({"named": "count(name)", "lo": "min(low)"} if both else {})
        options |= {"group_by": "k", "aggregate": figures}
        shown = ", ".join(f"{call} as {name}" for name, call in figures.items()).replace("count()", "count(*)")
        expected = whole(
            arrow(names, rows),
            arrow(side_names, beside),
            how,
            condition,
            f"k, {shown}",
            " group by k order by min(t_row)",
        )
    else:
        shown = "k, n, note" + (", code, low, name" if both else "")
        expected = whole(arrow(names, rows), arrow(side_names, beside), how, condition, shown, "")
    result = run(KIND, body, options, SplitRequest(size, side=Side(side)))
    found = json.loads(result)["groups"] if groups else [json.loads(line) for line in result.splitlines()]
    assert found == expected


@settings(max_examples=60, deadline=None)
@given(side=st.binary(min_size=1, max_size=300), body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 900)))
def test_a_side_file_and_its_body_survive_any_cut(side: bytes, body: bytes, cuts: list[int]) -> None:
    heads = [
        f'--b0und\r\ncontent-disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode()
        for name in ("side", "f")
    ]
    form = heads[0] + side + b"\r\n" + heads[1] + body + b"\r\n--b0und--\r\n"
    reader = MultipartBody("multipart/form-data; boundary=b0und", side_bytes=300)
    edges = sorted({0, len(form), *(cut for cut in cuts if cut < len(form))})
    found, taken = b"", None
    for begin, end in pairwise(edges):
        before = bool(found)
        found += reader.feed(form[begin:end])
        if found and not before:  # as the gateway does: with the body's first byte the side file is whole
            taken = reader.pop_side()
    found += reader.finish()
    taken = taken or reader.pop_side()
    assert taken is not None
    assert (taken.content, found) == (side, body)


def test_a_side_file_that_is_too_long_by_a_byte_is_refused() -> None:
    head = b'--b0und\r\ncontent-disposition: form-data; name="side"; filename="f"\r\n\r\n'
    reader = MultipartBody("multipart/form-data; boundary=b0und", side_bytes=4)
    with pytest.raises(BadInput, match="longer than 4 bytes"):
        reader.feed(head + b"12345\r\n--b0und")
