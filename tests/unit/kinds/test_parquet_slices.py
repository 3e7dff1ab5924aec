"""Parquet cut at its row groups: the answers of the decoded cut, of DuckDB on the whole file, and no larger output."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regather.core.errors import BadInput, PermanentError
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.parquet.compact import (
    BINARY,
    BYTE,
    DOUBLE,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Struct,
    decode,
    encode,
)
from regather.kinds.table.parquet.footer import Footer, NoSlices
from regather.kinds.table.parquet.slices import Slice, slices
from regather.kinds.table.plan import RowUse
from regather.processors.base import Piece, SplitRequest
from regather.processors.registry import parse_options
from regather.processors.splitting.row_packer import RowSpan
from regather.testing.run_kind import cut, run

pytestmark = pytest.mark.long

KIND = TableEtl()
GROUPS = {
    "derive": "total = price * qty",
    "filter": "qty > 1",
    "group_by": "region",
    "aggregate": "n = count(); s = sum(total); least = min(day); f = first(qty)",
}


def table(rows: int) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([f"row {index}" for index in range(rows)]),
            "tags": pa.array([["a", None, "é"][: index % 4] or None for index in range(rows)]),
            "region": pa.array([("EU", "US", None, "Asia, Pacific")[index % 4] for index in range(rows)]),
            "price": pa.array([index * 0.1 if index % 7 else None for index in range(rows)]),
            "qty": pa.array([index % 5 for index in range(rows)], pa.int16()),
            "day": pa.array([index * 86_400_000 for index in range(rows)], pa.timestamp("ms")),
        }
    )


def written(content: pa.Table, **how: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(content, sink, **how)
    return sink.getvalue()


def pieces(body: bytes, options: dict[str, str], request: SplitRequest | None = None) -> list[Piece]:
    request = request or SplitRequest(content_type="", head=body[:1024])
    return cut(KIND, body, parse_options(KIND, options), request)


def formats(found: list[Piece]) -> set[str]:
    return {RowSpan.decode(piece.meta.partition(b"\n")[0]).format for piece in found}


@pytest.mark.parametrize(
    ("version", "pages", "compression"),
    [
        ("1.0", "1.0", "none"),
        ("1.0", "1.0", "snappy"),
        ("2.4", "1.0", "gzip"),
        ("2.6", "2.0", "zstd"),
        ("2.6", "2.0", "lz4"),
    ],
)
@pytest.mark.parametrize("group_rows", [1, 300, 10_000])
def test_row_groups_as_they_lie_give_what_decoded_rows_give(
    version: str, pages: str, compression: str, group_rows: int
) -> None:
    rows = 40 if group_rows == 1 else 1000
    body = written(
        table(rows), version=version, data_page_version=pages, compression=compression, row_group_size=group_rows
    )
    assert formats(pieces(body, GROUPS)) == {"parquet"}
    assert run(KIND, body, GROUPS) == run(KIND, body, GROUPS, SplitRequest(10_000))


@pytest.mark.parametrize(
    "options", [GROUPS, {"aggregate": "n = count(qty); s = sum(price)"}], ids=["groups", "one group"]
)
def test_files_that_duckdb_writes_are_cut_too(options: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    content = table(30_000)
    duckdb.connect().execute(f"COPY (SELECT * FROM content) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 4096)")
    assert content.num_rows == 30_000
    body = path.read_bytes()
    assert formats(pieces(body, options)) == {"parquet"}
    assert run(KIND, body, options) == run(KIND, body, options, SplitRequest(100_000))


def test_statistics_that_leave_out_nan_leave_no_row_out() -> None:
    content = pa.table({"g": ["a", "a", "b", "b"], "x": [1.0, math.nan, 3.0, -0.0]})
    body = written(content)
    options = {"filter": "x > 2", "group_by": "g", "aggregate": "n = count(); s = sum(x); hi = max(x)"}
    assert formats(pieces(body, options)) == {"parquet"}
    assert json.loads(run(KIND, body, options))["groups"] == [
        {"g": "a", "n": 1, "s": "NaN", "hi": "NaN"},
        {"g": "b", "n": 1, "s": 3.0, "hi": 3.0},
    ]


def test_only_the_columns_that_the_job_reads_travel() -> None:
    content = table(1000).append_column("noise", pa.array([f"{index:0200d}" for index in range(1000)]))
    (piece,) = pieces(written(content, compression="none", use_dictionary=["region"]), GROUPS)
    assert len(piece.payload) < 40_000
    assert pq.read_table(io.BytesIO(piece.payload)).column_names == ["region", "price", "qty", "day"]


def test_a_slice_is_a_file_of_its_own_for_another_reader_too(tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    path.write_bytes(written(table(1000), row_group_size=100))
    with path.open("rb") as file:
        footer = Footer(file)
        content = footer.slice(file, footer.groups[3:5], footer.fields[1:4])
    assert pq.read_table(io.BytesIO(content)).equals(table(1000).select(["tags", "region", "price"]).slice(300, 200))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"filter": "qty > 1"}, "rows come out"),
        ({"group_by": "id", "aggregate": "n = count()"}, "each row may be a group"),
        ({"group_by": "region", "aggregate": "m = median(price)"}, "a state holds all values"),
        ({"group_by": "region", "aggregate": "m = max(id)"}, "a state holds a text"),
        ({"derive": "region = id", "group_by": "region", "aggregate": "n = count()"}, "the key is no column"),
        ({"group_by": "tags", "aggregate": "n = count()"}, "lists are not bounded by their values"),
        ({"aggregate": "n = count()"}, "no column is read"),
    ],
)
def test_what_may_come_out_in_any_size_is_decoded(options: dict[str, str], why: str) -> None:
    body = written(table(20_000), use_dictionary=["region", "tags"])
    assert formats(pieces(body, options)) == {"arrow"}, why
    if "tags" not in options.values():  # in the order of a list's values
        assert run(KIND, body, options) == run(KIND, body, options, SplitRequest(50_000))


def test_names_that_duckdb_has_to_change_are_decoded() -> None:
    columns = [pa.array([1, 2]), pa.array([3, 4])]
    body = written(pa.Table.from_arrays(columns, names=["a", "A"]))
    assert formats(pieces(body, {"aggregate": "s = sum(a); t = sum(A_1)"})) == {"arrow"}


@pytest.mark.parametrize("name", ["file_row_number", "File_Row_Number"])
def test_a_column_with_the_name_of_duckdbs_row_numbers_is_decoded(name: str) -> None:
    body = written(pa.table({name: [1, 2], "g": ["a", "a"]}))
    options = {"group_by": "g", "aggregate": f"s = sum({name})"}
    assert json.loads(run(KIND, body, options))["groups"] == [{"g": "a", "s": 3}]
    assert formats(pieces(body, {"group_by": "g", "aggregate": "n = count(g)"})) == {"parquet"}


def test_a_client_that_asks_for_a_size_or_a_number_gets_it() -> None:
    body = written(table(1000), row_group_size=100)
    for request in (SplitRequest(2000, head=body[:1024]), SplitRequest(None, 3, head=body[:1024])):
        assert formats(pieces(body, GROUPS, request)) == {"arrow"}


def test_a_bad_row_is_named_by_its_number_in_the_whole_file() -> None:
    texts = [str(index) for index in range(1000)]
    texts[777] = "x"
    content = pa.table({"v": texts, "g": ["a"] * 1000})
    body = written(content, row_group_size=250, use_dictionary=["g"])
    options = {"cast": "v:int", "group_by": "g", "aggregate": "s = sum(v)"}
    assert formats(pieces(body, options)) == {"parquet"}
    with pytest.raises(PermanentError, match=r'row 777: column "v" is \'x\''):
        run(KIND, body, options)


def test_a_damaged_row_group_is_an_error_and_never_an_answer() -> None:
    body = written(table(4000), row_group_size=1000, compression="snappy")
    right = json.loads(run(KIND, body, GROUPS))
    refused = 0
    for at in range(200, len(body) - 200, len(body) // 25):
        damaged = body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :]
        try:
            found = run(KIND, damaged, GROUPS)
        except (PermanentError, BadInput):
            refused += 1
            continue
        assert (
            json.loads(found).keys() == right.keys()
        )  # a flipped bit of a value is a value: Parquet need not have sums
    assert refused


def with_footer(body: bytes, change: Callable[[Struct], object]) -> bytes:
    size = int.from_bytes(body[-8:-4], "little")
    footer, _ = decode(body[-8 - size : -8])
    change(footer)
    encoded = encode(footer)
    return body[: -8 - size] + encoded + len(encoded).to_bytes(4, "little") + b"PAR1"


def chunk_of(footer: Struct, column: int) -> Struct:
    """The metadata of a column of the first row group."""
    chunks = footer[4][1][1][0][1][1][1]
    meta: Struct = chunks[column][3][1]
    return meta


@pytest.mark.parametrize("column", [2, 3, 4], ids=["texts", "doubles", "whole numbers"])
@pytest.mark.parametrize("bytes_more", [-100, -20, -1, 30])
def test_a_footer_with_wrong_sizes_of_columns_gives_the_answer_of_the_whole_file(column: int, bytes_more: int) -> None:
    body = written(table(3000), row_group_size=1000, compression="none", use_dictionary=["region"])
    assert formats(pieces(body, GROUPS)) == {"parquet"}

    def change(footer: Struct) -> None:
        meta = chunk_of(footer, column)
        meta[7] = I64, meta[7][1] + bytes_more

    lying = with_footer(body, change)
    assert formats(pieces(lying, GROUPS)) == {"arrow"}
    assert run(KIND, lying, GROUPS) == run(KIND, body, GROUPS)


def test_a_column_that_has_not_the_rows_of_its_group_is_refused_before_a_shard_is_made() -> None:
    body = written(table(3000), row_group_size=1000, use_dictionary=["region"])
    lying = with_footer(body, lambda footer: chunk_of(footer, 3).update({5: (I64, 999)}))
    assert formats(pieces(body, GROUPS)) == {"parquet"}
    with pytest.raises(BadInput, match="the Parquet file cannot be read"):
        pieces(lying, GROUPS)


@pytest.mark.parametrize(
    "change",
    [
        lambda footer: footer.update({3: (I32, 3000)}),
        lambda footer: footer[4][1][1][0].pop(2),
        lambda footer: footer[4][1][1][0].update({3: (I32, 1000)}),
        lambda footer: footer[4][1][1][0][1][1][1][3].pop(2),
        lambda footer: chunk_of(footer, 3).update({9: (I32, chunk_of(footer, 3)[9][1])}),
        lambda footer: chunk_of(footer, 0).pop(1),
        lambda footer: chunk_of(footer, 3).update({11: (I32, chunk_of(footer, 3)[11][1])}),
    ],
    ids=[
        "rows",
        "size of a group",
        "rows of a group",
        "offset of a column",
        "data page",
        "column that is not read",
        "dictionary",
    ],
)
def test_a_footer_that_duckdb_refuses_is_refused(change: Callable[[Struct], object], tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    path.write_bytes(with_footer(written(table(3000), row_group_size=1000), change))
    with pytest.raises(duckdb.Error):
        duckdb.execute(f"SELECT sum(price) FROM '{path}'").fetchall()
    with pytest.raises(BadInput, match="the Parquet file cannot be read"):
        run(KIND, path.read_bytes(), GROUPS)


def test_a_footer_with_orders_of_some_columns_alone_is_decoded() -> None:
    body = written(table(3000), row_group_size=1000)
    short = with_footer(body, lambda footer: footer.update({7: (LIST, (STRUCT, footer[7][1][1][:1]))}))
    assert formats(pieces(short, GROUPS)) == {"arrow"}
    assert run(KIND, short, GROUPS) == run(KIND, body, GROUPS)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_footer_are_refused(data: bytes) -> None:
    body = b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(NoSlices):
        Footer(io.BytesIO(body))


def test_a_column_that_is_described_by_a_flag_gives_no_slices() -> None:
    body = bytearray(written(table(60), row_group_size=20))
    struct = decode(bytes(body[-8 - int.from_bytes(body[-8:-4], "little") : -8]))[0]
    (_, (_, groups)) = struct[4]
    (_, (_, chunks)) = groups[0][1]
    chunks[0][3] = (TRUE, True)
    footer = encode(struct)
    with pytest.raises(NoSlices, match="the description of a column has the type 1"):
        Footer(io.BytesIO(b"PAR1" + bytes(2000) + footer + len(footer).to_bytes(4, "little") + b"PAR1"))


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_footer_gives_no_wrong_slices(data: st.DataObject) -> None:
    body = bytearray(written(table(60), row_group_size=20))
    size = int.from_bytes(body[-8:-4], "little")
    at = data.draw(st.integers(len(body) - 8 - size, len(body) - 9))
    body[at] = data.draw(st.integers(0, 255))
    try:
        footer = Footer(io.BytesIO(bytes(body)))
        content = footer.slice(io.BytesIO(bytes(body)), footer.groups[:1], footer.fields[2:5])
    except NoSlices:
        return
    assert content.startswith(b"PAR1")


def structs() -> st.SearchStrategy[Struct]:
    plain = st.one_of(
        st.tuples(st.sampled_from([I32, I64]), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just(BYTE), st.integers(0, 255)),
        st.tuples(st.just(DOUBLE), st.binary(min_size=8, max_size=8)),
        st.tuples(st.just(BINARY), st.binary(max_size=300)),
        st.tuples(st.just(TRUE), st.just(True)),
        st.tuples(st.just(LIST), st.tuples(st.just(I64), st.lists(st.integers(-5, 2**40), max_size=40))),
    )
    fields = st.dictionaries(st.integers(1, 40), plain, max_size=6)
    return st.recursive(
        fields,
        lambda inner: st.dictionaries(
            st.integers(1, 40),
            st.one_of(
                st.tuples(st.just(STRUCT), inner),
                st.tuples(st.just(LIST), st.tuples(st.just(STRUCT), st.lists(inner, max_size=17))),
            ),
            max_size=3,
        ),
        max_leaves=6,
    )


@given(structs(), st.binary(max_size=5))
def test_a_struct_is_read_as_it_was_written(struct: Struct, behind: bytes) -> None:
    encoded = encode(struct)
    assert decode(encoded + behind) == (struct, len(encoded))
    with pytest.raises(ValueError, match=r"cut off|longer than"):
        decode(encoded[:-1])


def test_row_groups_are_put_together_up_to_a_size_and_apart_again(tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    large = pa.table({"g": ["a", "b"] * 100_000, "v": [float(index) for index in range(200_000)]})
    path.write_bytes(written(large, row_group_size=10_000, use_dictionary=["g"], compression="none"))
    use = RowUse(frozenset({"g", "v"}), keys=frozenset({"g"}), group_bytes=50)
    found: list[Slice] = list(slices(path, ["g", "v"], use))
    assert sum(one.rows for one in found) == 200_000
    assert [one.rows for one in found] == [200_000]
    few = [one.rows for one in slices(path, ["g", "v"], use._replace(group_bytes=2_000_000))]
    assert len(few) == 20  # three groups of this size fit an output, not six
