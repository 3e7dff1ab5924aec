"""What a child does for `table.sql`: the client's queries run as they are, over views of the tables that they name.

A view keeps a query in one piece, with its own WITH and ORDER BY; the checks have made sure that it is one SELECT.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from regather.core.errors import BadRequest, PermanentError
from regather.kinds.table import checks
from regather.kinds.table.aggregates import ROW, check_own_names
from regather.kinds.table.carried import side_relation
from regather.kinds.table.engine import Engine, engine, quoted
from regather.kinds.table.failures import binding_error, is_of_data, said
from regather.kinds.table.joining import SIDE_ROW, empty_side, no_side, reads_table
from regather.kinds.table.merging import packed, unpacked
from regather.kinds.table.options import SideOptions
from regather.kinds.table.plan import Plan, SidePlan, TableMeta
from regather.kinds.table.reading import empty_relation, shard_relation
from regather.kinds.table.results import ndjson, written
from regather.kinds.table.shards import check_keys, on_rows
from regather.kinds.table.sql import SqlOptions

_SHARD, _SIDE, _PARTS, _ANSWER = "shard", "side", "parts", "answer"


def check_queries(database: Engine, options: SqlOptions, plan: Plan) -> tuple[str, ...]:
    """BadRequest where a query is no SELECT of its tables, or does not fit the columns; else names of what `map` gives."""
    _check_tables(database, options, plan.side)
    check_own_names((column.name for column in plan.columns), "map")
    for name in options.cast:
        if not plan.named([name.lower()]):
            raise BadRequest(f"cast: there is no column {name!r}", code="no-column")
    side = empty_side(plan.side) if plan.side else None
    with (
        _beside(database, side),
        _query(database, "map", _SHARD, _without_row(empty_relation(plan)), options.map) as columns,
    ):
        if options.reduce.strip():
            nothing = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(name)}" for name, kind in columns)
            with _query(database, "reduce", _PARTS, f"(SELECT {nothing} WHERE false)", options.reduce):
                pass
        return tuple(name for name, _ in columns)


def _check_tables(database: Engine, options: SqlOptions, side: SidePlan | None) -> None:
    """BadRequest for a query that reads another table than its own, or a side table that nobody reads."""
    reads_side = reads_table(database, options.map, "map", _SIDE)
    if side is None and (reads_side or options.side != SideOptions()):
        raise no_side("map reads the table `side`" if reads_side else "side says how a side table is read")
    if side is not None and not reads_side:
        raise BadRequest(
            "there is a side table, and map does not read it: from shard join side on ...", code="bad-option"
        )
    checks.query(database, options.map, "map", frozenset({_SHARD, _SIDE} if side else {_SHARD}))
    if not options.reduce.strip():
        return
    if reads_table(database, options.reduce, "reduce", _SIDE):
        raise BadRequest("reduce: the table `side` is there for map alone; reduce reads `parts`", code="bad-option")
    checks.query(database, options.reduce, "reduce", frozenset({_PARTS}))


def mapped(payload: bytes, meta: TableMeta, options: SqlOptions) -> bytes:
    """Return the rows that `map` gives for a shard: NDJSON, or an Arrow table if something is made of them."""
    return on_rows(payload, meta, options, _run)


def reduced(outputs: Sequence[bytes], options: SqlOptions) -> bytes:
    """Return what `reduce` gives for all shards' rows; PermanentError where it fails for them."""
    if not outputs:
        return b""
    database = engine()
    try:
        with database.arrow("all_parts", unpacked(outputs)):
            if not options.reduce.strip():
                columns = database.describe("SELECT * FROM all_parts")
                return written(database, "SELECT * FROM all_parts", columns, options.output)
            with _query(database, "reduce", _PARTS, "all_parts", options.reduce) as columns:
                return written(database, f"SELECT * FROM {_ANSWER}_{_PARTS}", columns, options.output)
    except Exception as error:
        if not is_of_data(error):
            raise
        raise PermanentError(f"reduce: {said(error)}") from error


def _run(database: Engine, payload: bytes, meta: TableMeta, options: SqlOptions) -> bytes:
    names = frozenset(column.name.lower() for column in meta.plan.columns)
    with shard_relation(database, payload, meta, options, names) as relation:
        if meta.plan.format == "ndjson" and checks.takes_whole_rows(database, options.map):
            check_keys(database, payload[meta.span.header_bytes :], meta)
        with (
            side_relation(database, payload, meta) if meta.plan.side else nullcontext() as side,
            _beside(database, side),
            _query(database, "map", _SHARD, _without_row(relation), options.map) as columns,
        ):
            answer = f"SELECT * FROM {_ANSWER}_{_SHARD}"
            return ndjson(database, answer, columns) if options.joined else packed(database.table(answer))


@contextlib.contextmanager
def _query(database: Engine, what: str, table: str, relation: str, sql: str) -> Iterator[list[tuple[str, str]]]:
    """Inside the block the view ANSWER_table gives what the query gives for the table; yields its columns."""
    database.run(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT * FROM {relation}")
    try:
        try:
            database.run(f"CREATE OR REPLACE TEMP VIEW {_ANSWER}_{table} AS\n{sql}\n")
            columns = database.describe(f"SELECT * FROM {_ANSWER}_{table}")
        except Exception as error:
            raise binding_error(error, what) from error
        yield columns
    finally:
        database.run(f"DROP VIEW IF EXISTS {_ANSWER}_{table}")
        database.run(f"DROP VIEW IF EXISTS {table}")


@contextlib.contextmanager
def _beside(database: Engine, relation: str | None) -> Iterator[None]:
    """Inside the block the view `side` gives a relation, if there is one."""
    if relation is None:
        yield
        return
    database.run(f"CREATE OR REPLACE TEMP VIEW {_SIDE} AS SELECT * EXCLUDE ({SIDE_ROW}) FROM {relation}")
    try:
        yield
    finally:
        database.run(f"DROP VIEW IF EXISTS {_SIDE}")


def _without_row(relation: str) -> str:
    return f"(SELECT * EXCLUDE ({ROW}) FROM {relation})"
