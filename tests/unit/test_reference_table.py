"""`table.etl` sharded equals a program of its own that reads the whole table at once."""

import csv
import gzip
import io
import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import table_etl

from regather.core.errors import BadInput
from regather.kinds.table.etl import TableEtl
from regather.kinds.table.options import TableOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, Piece, ShardView, SplitRequest
from regather.processors.splitting.row_packer import RowSpan

KIND = TableEtl()
GROUPS = TableOptions.model_validate(
    {
        "cast": "price:float, qty:int",
        "derive": "total = price * qty",
        "filter": "qty > 0",
        "group_by": "region",
        "aggregate": "revenue = sum(total); orders = count(); first_id = first(id); last_id = last(id); "
        "least = min(price); greatest = max(price); mean_price = mean(price)",
    }
)
ROWS = TableOptions.model_validate(
    {
        "cast": "price:float, qty:int",
        "derive": "total = price * qty",
        "filter": "total > 500",
        "select": "id, region, total",
        "output": "csv",
    }
)


def sharded(body: bytes, options: TableOptions, request: SplitRequest) -> bytes:
    request = SplitRequest(
        request.shard_size_bytes, request.shards, request.size_bytes, request.content_type, body[:HEAD_BYTES]
    )
    splitter = KIND.splitter(options, request)
    assert not isinstance(splitter, FileSplitter)
    return merged([*splitter.feed(body), *splitter.finish()], options)


def merged(pieces: list[Piece], options: TableOptions) -> bytes:
    outputs = [KIND.process(ShardView(piece.payload, piece.meta, seq, 0), options) for seq, piece in enumerate(pieces)]
    return KIND.merge(outputs, options) if KIND.merges_outputs(options) else b"".join(outputs)


def sales(rows: int, seed: int) -> bytes:
    draw = random.Random(seed)
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["id", "region", "price", "qty", "note"])
    for number in range(rows):
        region = draw.choice(["EU", "US", "Asia, Pacific", "a\nb", ""])
        price = draw.choice([repr(draw.random() * 1e3), repr(draw.random() * 1e-9), "1e17", "-1e17", ""])
        quantity = draw.choice(["0", "1", "7", ""])
        writer.writerow([number, region, price, quantity, draw.choice(["", 'says "hi"', "é\r\n"])])
    return out.getvalue().encode()


@pytest.mark.parametrize("seed", range(20))
def test_groups_and_rows_equal_the_reference_at_random_shard_sizes(seed: int) -> None:
    body = sales(1000, seed)
    request = SplitRequest(random.Random(seed).randrange(1024, 20_000))
    rows = table_etl.read_table(body.decode())
    groups = json.loads(sharded(body, GROUPS, request))["groups"]
    assert groups == table_etl.revenue_by_region(rows)
    assert sharded(body, ROWS, request).decode() == table_etl.large_orders(rows)
    assert sharded(gzip.compress(body), ROWS, request) == sharded(body, ROWS, request)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=300), st.data())
def test_sums_of_floats_do_not_depend_on_the_cut(values: list[float], data: st.DataObject) -> None:
    options = TableOptions.model_validate({"aggregate": "total = sum(v)"})
    body = "".join(f'{{"v": {value!r}, "pad": "{"x" * 90}"}}\n' for value in values).encode()
    request = SplitRequest(data.draw(st.integers(1024, 4096)))
    assert sharded(body, options, request) == sharded(body, options, SplitRequest(10_485_760))


def test_rows_of_json_come_out_in_order_whatever_they_came_in() -> None:
    rows = [{"a": index, "b": [index]} for index in range(500)]
    options = TableOptions.model_validate({"filter": "a % 3 == 0", "derive": "twice = a * 2"})
    expected = [{**row, "twice": row["a"] * 2} for row in rows if row["a"] % 3 == 0]
    array = json.dumps(rows, indent=1).encode()
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    for body in (array, lines):
        assert [json.loads(line) for line in sharded(body, options, SplitRequest(1024)).splitlines()] == expected


def test_shards_merged_out_of_order_turn_the_comparison_red() -> None:
    body = sales(1000, 1)
    rows = table_etl.read_table(body.decode())
    splitter = KIND.splitter(ROWS, SplitRequest(4096))
    assert not isinstance(splitter, FileSplitter)
    pieces = [*splitter.feed(body), *splitter.finish()]
    outputs = [KIND.process(ShardView(p.payload, p.meta, 0, 0), ROWS) for p in pieces]
    assert KIND.merge(outputs, ROWS).decode() == table_etl.large_orders(rows)
    outputs[1], outputs[2] = outputs[2], outputs[1]
    assert KIND.merge(outputs, ROWS).decode() != table_etl.large_orders(rows)


def parquet(rows: list[dict[str, object]], folder: Path, **options: object) -> Path:
    path = folder / "table.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def cut_parquet(path: Path, options: TableOptions, request: SplitRequest) -> list[Piece]:
    head = path.read_bytes()[:HEAD_BYTES]
    splitter = KIND.splitter(options, SplitRequest(request.shard_size_bytes, request.shards, None, head=head))
    assert isinstance(splitter, FileSplitter)
    return list(splitter.cut(path))


@pytest.mark.parametrize("seed", range(20))
def test_parquet_gives_what_csv_of_the_same_rows_gives(seed: int, tmp_path: Path) -> None:
    body = sales(800, seed)
    draw = random.Random(seed)
    rows = table_etl.read_table(body.decode())
    path = parquet(rows, tmp_path, row_group_size=draw.randrange(20, 900))
    request = SplitRequest(draw.randrange(1024, 20_000)) if seed % 2 else SplitRequest(shards=draw.randrange(1, 60))
    pieces = cut_parquet(path, GROUPS, request)
    assert json.loads(merged(pieces, GROUPS))["groups"] == table_etl.revenue_by_region(rows)
    assert merged(cut_parquet(path, ROWS, request), ROWS).decode() == table_etl.large_orders(rows)
    sizes = [RowSpan.decode(piece.meta).rows for piece in pieces]
    assert max(sizes) - min(sizes) <= 1
    assert request.shards in (None, len(sizes))


def test_values_that_json_has_not_got_become_texts(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    rows: list[dict[str, object]] = [{"at": moment, "price": Decimal("1.10"), "raw": b"\x01\xff", "tags": ["a", None]}]
    (piece,) = cut_parquet(parquet(rows, tmp_path), TableOptions(), SplitRequest())
    (line,) = merged([piece], TableOptions()).splitlines()
    assert json.loads(line) == {"at": "2026-01-02T03:04:05+00:00", "price": "1.10", "raw": "01ff", "tags": ["a", None]}


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        (lambda body: body[:-20], {}, "cannot be read"),
        (lambda body: body[:4] + bytes(40) + body[44:], {}, "cannot be read"),
        (lambda body: b"PAR1", {}, "cannot be read"),
        (lambda body: body, {"select": "nope"}, "no column 'nope'"),
    ],
)
def test_what_is_no_sound_parquet_is_refused(change: Any, options: dict[str, str], why: str, tmp_path: Path) -> None:
    path = parquet([{"a": index, "b": "x" * index} for index in range(100)], tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BadInput, match=why):
        merged(cut_parquet(path, TableOptions.model_validate(options), SplitRequest()), TableOptions())


def test_parquet_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    with pytest.raises(BadInput, match="no rows"):
        cut_parquet(path, TableOptions(), SplitRequest())
