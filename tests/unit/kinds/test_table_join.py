"""Joins with a side table where the suite of acceptance does not look: no rows, sizes, encodings, names, bad rows."""

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regather.core.errors import BadInput, BadRequest, PermanentError, UserError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.side_room import SIDE_BYTES, SIDE_ROWS
from regather.kinds.table.sql import TableSql
from regather.processors.base import ShardView, Side, SplitRequest
from regather.processors.registry import options_from_json, options_json, parse_options
from regather.testing.run_kind import cut, processed, run

ETL, SQL = TableEtl(), TableSql()
ROWS = b"id,product,qty\n1,p1,5\n2,p2,7\n3,p1,9\n"
SIDE = b"code,label\np1,one\np1,uno\n"
JOIN = {"join": "product = code"}


def rows(body: bytes, side: bytes, options: dict[str, Any], size: int | None = None, side_type: str = "") -> list[Any]:
    given = Side(side, side_type or "application/octet-stream")
    return [json.loads(line) for line in run(ETL, body, options, SplitRequest(size, side=given)).splitlines()]


def parquet(table: pa.Table, **settings: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **settings)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "side", "expected"),
    [
        pytest.param(ROWS, b"code,label\n", 3, id="side table without a row"),
        pytest.param(b"id,product\n", SIDE, 0, id="table without a row"),
        pytest.param(ROWS, b"code,label\nnone,x\n", 3, id="no match"),
    ],
)
def test_tables_without_rows_or_matches(body: bytes, side: bytes, expected: int) -> None:
    found = rows(body, side, JOIN)
    assert len(found) == expected
    assert all(row["label"] is None for row in found)


def test_a_side_table_without_a_row_is_joined_to_numbers_too() -> None:
    found = rows(ROWS, b"id,label\n", {"join": "id"})
    assert found == [
        {"id": n, "product": product, "qty": qty, "label": None}
        for n, product, qty in ((1, "p1", 5), (2, "p2", 7), (3, "p1", 9))
    ]


def test_ndjson_without_a_row_has_whatever_columns_are_asked_for() -> None:
    assert (
        rows(b"\n", b"code,label\nx,y\n", {"format": "ndjson", "join": "k = code", "select": "k, other, label"}) == []
    )
    with pytest.raises(BadRequest, match="no column 'code' in the side table"):
        rows(b"\n", b"label\ny\n", {"format": "ndjson", "join": "code"})


@pytest.mark.parametrize(
    ("side", "options", "side_type"),
    [
        pytest.param(SIDE.decode().encode("utf-16"), {"encoding": "utf-16"}, "", id="utf-16"),
        pytest.param(b"\xef\xbb\xbf" + SIDE, {}, "", id="byte order mark"),
        pytest.param(SIDE.replace(b"\n", b"\r\n"), {}, "", id="CR LF"),
        pytest.param(SIDE.replace(b",", b"\t"), {}, "text/tab-separated-values", id="tabs by media type"),
        pytest.param(b"made by hand\n" + SIDE, {"skip_rows": "1"}, "", id="lines before the header"),
        pytest.param(gzip.compress(SIDE), {}, "", id="gzip"),
        pytest.param(SIDE.rstrip(), {}, "", id="no last line end"),
        pytest.param(b'[{"code": "p1", "label": "one"}, {"code": "p1", "label": "uno"}]', {}, "", id="JSON"),
        pytest.param(SIDE.partition(b"\n")[2], {"header": False, "rename": "c0:code, c1:label"}, "", id="no header"),
    ],
)
def test_a_side_table_is_read_as_its_own_options_say(side: bytes, options: dict[str, Any], side_type: str) -> None:
    found = rows(ROWS, side, JOIN | {"side": json.dumps(options), "select": "id, label"}, None, side_type)
    assert found == [
        {"id": 1, "label": "one"},
        {"id": 1, "label": "uno"},
        {"id": 2, "label": None},
        {"id": 3, "label": "one"},
        {"id": 3, "label": "uno"},
    ]


def test_options_of_a_join_survive_the_way_through_the_log() -> None:
    given = JOIN | {
        "side": '{"cast": "label:str", "delimiter": ",", "rename": {"label": "name"}}',
        "select": "id, name",
    }
    options = options_from_json(ETL, options_json(parse_options(ETL, given)))
    assert options == parse_options(ETL, given)
    assert options_json(options) == options_json(parse_options(ETL, given))


def test_first_and_last_follow_the_rows_of_both_tables_at_any_cut() -> None:
    body = b"id,product\n" + b"".join(b"%d,p%d\n" % (n, n % 3) for n in range(2000))
    side = b"code,label\n" + b"".join(b"p%d,l%d\n" % (n % 2, n) for n in range(7))
    options = JOIN | {"join_how": "inner", "group_by": "product", "aggregate": "f = first(label); l = last(label)"}
    for size in (1024, 5000, None):
        found = json.loads(run(ETL, body, options, SplitRequest(size, side=Side(side))))
        assert found == {"groups": [{"product": "p0", "f": "l0", "l": "l6"}, {"product": "p1", "f": "l1", "l": "l5"}]}


def test_a_column_that_is_not_read_is_not_looked_at_and_does_not_travel() -> None:
    side = b"code,label,other\np1,one,x\n"
    options = parse_options(ETL, JOIN | {"select": "id, label", "side": '{"cast": "other:int"}'})
    (piece,) = cut(ETL, ROWS, options, SplitRequest(side=Side(side)))
    assert pa.ipc.open_stream(piece.payload).read_all().column_names == ["code", "label"]


def test_a_shard_is_cut_again_where_matches_make_its_output_too_large() -> None:
    body = b"k\n" + b"7\n" * 30_000
    side = b"code,text\n" + b"".join(b"7,%s\n" % (b"%05d" % n * 12) for n in range(50))
    options = parse_options(ETL, {"join": "k = code"})
    pieces = cut(ETL, body, options, SplitRequest(side=Side(side)))
    outputs = processed(ETL, pieces, options)
    assert sum(output.count(b"\n") for output in outputs) == 30_000 * 50
    assert max(map(len, outputs)) < 10 * 1024 * 1024


def test_rows_and_side_table_share_a_record() -> None:
    side = b"code,label\n" + b"".join(b"p%d,%064x\n" % (n, (n + 1) * 7**90 % 2**256) for n in range(100_000))
    body = b"id,product,text\n" + b"".join(b"%d,p%d,%s\n" % (n, n, b"x" * 4000) for n in range(3000))
    pieces = cut(ETL, body, parse_options(ETL, JOIN), SplitRequest(MAX_SHARD_BYTES, side=Side(side)))
    assert len(pieces) > 1
    assert max(len(piece.payload) for piece in pieces) <= MAX_SHARD_BYTES
    assert len({piece.payload[:3_000_000] for piece in pieces}) == 1


def test_a_row_that_has_no_room_behind_the_side_table_is_refused_with_both_sizes() -> None:
    side = b"code,label\n" + b"".join(b"p%d,%064x\n" % (n, (n + 1) * 7**90 % 2**256) for n in range(60_000))
    body = b"id,product,text\n" + b"1,p1,x\n" * 9000 + b"2,p2," + b"x" * 9_500_000 + b"\n"
    with pytest.raises(
        BadInput, match=r"rows from \d+ on .* after a side table of \d+ bytes; both together may have at most 10485760"
    ):
        run(ETL, body, JOIN, SplitRequest(MAX_SHARD_BYTES, side=Side(side)))


def test_so_many_shards_of_a_parquet_file_that_copies_outweigh_it_are_refused(tmp_path: Any) -> None:
    side = b"code,label\n" + b"".join(b"%d,%064x\n" % (n, (n + 1) * 7**90 % 2**256) for n in range(50_000))
    body = parquet(pa.table({"id": range(2000)}))
    with pytest.raises(BadRequest, match="ask for at most"):
        run(ETL, body, {"join": "id = code"}, SplitRequest(shards=500, side=Side(side)))
    found = run(ETL, body, {"join": "id = code", "select": "id"}, SplitRequest(shards=3, side=Side(side)))
    assert [json.loads(line)["id"] for line in found.splitlines()] == list(range(2000))


@pytest.mark.parametrize(
    ("side", "says"),
    [
        pytest.param(b"x" * (SIDE_BYTES + 1), "has 8388609 bytes", id="too long"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"code,label\np1,one\np2\n", r"row 1: .*2 Found: 1", id="too few fields"),
        pytest.param(b"code,label\np1,one,x\n", r"row 0: .*2 Found: 3", id="every row with too many fields"),
        pytest.param(b'code,label\np1,"one\n', r"row 0.*a quote is opened", id="open quote"),
        pytest.param(b'{"code": "p1"}\n{"code": \n', r"row 1: ", id="no JSON"),
        pytest.param(
            parquet(pa.table({"code": pa.array(["p1"]).take(pa.array([0] * (SIDE_ROWS + 1)))})),
            "4194305 rows",
            id="rows",
        ),
        pytest.param(
            parquet(
                pa.table(
                    {
                        "code": ["p1"] * 1000,
                        "label": pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ["y" * 500_000]),
                    }
                ),
                compression="zstd",
            ),
            "unpacks to more than 67108864",
            id="a long text a thousand times",
        ),
    ],
)
def test_what_is_wrong_with_a_side_table_is_said_of_it(side: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=rf"^the side table.*{says}"):
        rows(ROWS, side, JOIN)


def test_a_bad_row_of_the_table_keeps_its_number_and_the_side_table() -> None:
    body = ROWS + b"4,p1,many\n5,p2,1\n"
    options = parse_options(ETL, JOIN | {"cast": "qty:int"})
    (piece,) = cut(ETL, body, options, SplitRequest(side=Side(SIDE)))
    shard = ShardView(piece.payload, piece.meta, 0, 0)
    with pytest.raises(PermanentError, match=r"row 3: .*'many'"):
        ETL.process(shard, options)
    picked = ETL.rows(shard, options).pick([range(3), range(4, 5)])
    found = ETL.process(ShardView(picked.payload, picked.meta, 0, 0), options)
    assert [json.loads(line)["label"] for line in found.splitlines()] == ["one", "uno", None, "one", "uno", None]


def test_picked_rows_of_parquet_keep_the_side_table() -> None:
    body = parquet(pa.table({"id": [1, 2, 3, 4], "product": ["p1", "p2", "p1", "p1"], "qty": ["5", "7", "many", "1"]}))
    options = parse_options(ETL, JOIN | {"cast": "qty:int"})
    (piece,) = cut(ETL, body, options, SplitRequest(side=Side(SIDE)))
    shard = ShardView(piece.payload, piece.meta, 0, 0)
    with pytest.raises(PermanentError, match=r"row 2: .*'many'"):
        ETL.process(shard, options)
    picked = ETL.rows(shard, options).pick([range(2), range(3, 4)])
    found = ETL.process(ShardView(picked.payload, picked.meta, 0, 0), options)
    assert [json.loads(line)["label"] for line in found.splitlines()] == ["one", "uno", None, "one", "uno"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"map": "select * from shard"}, "map does not read it"),
        ({"map": "select id from shard, side", "reduce": "select * from side"}, "only map can read the table `side`"),
        ({"map": "select id from shard join side on product = nope"}, "nope"),
        ({"map": "select id from shard, side, other"}, "no table 'other'"),
    ],
)
def test_a_query_that_does_not_fit_its_side_table_is_refused(options: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        run(SQL, ROWS, options, SplitRequest(side=Side(SIDE)))


def test_a_with_may_be_called_side_where_there_is_no_side_table() -> None:
    query = "with side as (select 1 as x) select id, x from shard, side order by id"
    assert run(SQL, ROWS, {"map": query}).count(b"\n") == 3
