"""Reading a shard's rows the quick way gives what the complete way gives, or fails and leaves it to that."""

import math

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regather.kinds.table.engine import Engine, engine
from regather.kinds.table.options import TableOptions
from regather.kinds.table.plan import Column, Plan, TableMeta
from regather.kinds.table.reading import shard_relation
from regather.processors.splitting.row_packer import RowSpan

PLAN = Plan("csv", (Column("v", "DOUBLE"), Column("w", "VARCHAR")))
TEXTS = st.one_of(
    st.text("0123456789.+-eE_ xinfaN", max_size=12),
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(
        ["1_0", "1e400", "-1e-400", "0x10", "1.", ".5", " 7", "7 ", "infinity", "-nan", "", "1,5", "\u0661"]
    ),
)


def read(database: Engine, payload: bytes, row0: int, *, quick: bool) -> list[tuple[float | None, int]]:
    meta = TableMeta(RowSpan(row0, payload.count(b"\n"), 0, "csv"), PLAN)
    with shard_relation(database, payload, meta, TableOptions(), frozenset({"v"}), quick=quick) as relation:
        return [(value, row) for value, row in database.run(f'SELECT v, "$row" FROM {relation}')]


def same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return (math.isnan(one) and math.isnan(other)) or (one, math.copysign(1, one)) == (other, math.copysign(1, other))


@given(TEXTS, st.integers(0, 2**40))
@example("1_0", 0)
@example("-0", 7)
@example("", 7)
def test_a_double_read_the_quick_way_is_the_one_read_the_complete_way(text: str, row0: int) -> None:
    database, payload = engine(), f'"{text}",x\n'.encode()
    try:
        quick = read(database, payload, row0, quick=True)
    except duckdb.Error:
        return
    ((value, row),) = read(database, payload, row0, quick=False)
    assert same(quick[0][0], value)
    assert quick[0][1] == row == row0


def test_an_underscore_is_no_part_of_a_double_in_either_way() -> None:
    for quick in (True, False):
        with pytest.raises(duckdb.Error, match="DOUBLE"):
            read(engine(), b"1_0,x\n", 0, quick=quick)


def test_the_same_memory_serves_shards_of_any_length_one_after_the_other() -> None:
    database = engine()
    for rows in (3, 40_000, 1, 0, 7):
        found = read(database, b"1.5,x\n" * rows, rows, quick=True)
        assert found == [(1.5, rows + index) for index in range(rows)]


def test_contents_that_are_read_at_once_do_not_meet() -> None:
    database = engine()
    with database.source(b"one\n") as outer, database.source(b"two\n") as inner:
        texts = [
            database.run(f"SELECT a FROM read_csv({source.path}, header = false, columns = {{'a': 'VARCHAR'}})")
            for source in (outer, inner)
        ]
    assert texts == [[("one",)], [("two",)]]
