"""The side table that a shard carries before its rows, and the relation that joins both."""

import contextlib
from collections.abc import Iterator

from regather.kinds.table.engine import Engine, quoted
from regather.kinds.table.joining import SIDE_ROW, Join
from regather.kinds.table.plan import TableMeta

_ARROW = "side_rows"


@contextlib.contextmanager
def joined(database: Engine, payload: bytes, meta: TableMeta, join: Join | None, rows: str) -> Iterator[str]:
    """Yield SQL, valid inside the block, for what a query reads: the rows, joined with the side table if there is one."""
    if join is None:
        yield rows
        return
    with side_relation(database, payload, meta) as side:
        yield join.over(rows, side)


@contextlib.contextmanager
def side_relation(database: Engine, payload: bytes, meta: TableMeta) -> Iterator[str]:
    """Yield SQL, valid inside the block, for the side table's typed columns and the number of each row."""
    import pyarrow as pa

    side = meta.plan.side
    with database.arrow(_ARROW, pa.ipc.open_stream(payload[: meta.span.header_bytes]).read_all()):
        found = dict(database.describe(f"SELECT * FROM {_ARROW}"))
        values = [_value(one.name, one.type, found[one.name]) for one in (side.columns if side else ())]
        yield f"(SELECT {', '.join([*values, f'row_number() OVER () - 1 AS {SIDE_ROW}'])} FROM {_ARROW})"


def _value(name: str, kind: str, found: str) -> str:
    return quoted(name) if found == kind else f"CAST({quoted(name)} AS {kind}) AS {quoted(name)}"
