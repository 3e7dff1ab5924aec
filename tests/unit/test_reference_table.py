"""`table.etl` sharded equals a program of its own that reads the whole table at once."""

import csv
import gzip
import io
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import table_etl

from regather.processors.base import HEAD_BYTES, ShardView, SplitRequest
from regather.processors.builtin.table.options import TableOptions
from regather.processors.builtin.table_etl import TableEtl

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
    pieces = [*splitter.feed(body), *splitter.finish()]
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
    pieces = [*splitter.feed(body), *splitter.finish()]
    outputs = [KIND.process(ShardView(p.payload, p.meta, 0, 0), ROWS) for p in pieces]
    assert KIND.merge(outputs, ROWS).decode() == table_etl.large_orders(rows)
    outputs[1], outputs[2] = outputs[2], outputs[1]
    assert KIND.merge(outputs, ROWS).decode() != table_etl.large_orders(rows)
