"""What a child does for `table.sql`: it runs the client's queries unchanged, over views of the tables that they name.

A view keeps a query in one piece, with its own WITH and ORDER BY; the checks have ensured that it is one SELECT.
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
    """Return the column names of `map`; BadRequest if a query is not a SELECT of its tables or does not fit them."""
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
    """Raise BadRequest if a query reads a table that is not its own, or if no query reads the side table."""
    reads_side = reads_table(database, options.map, "map", _SIDE)
    if side is None and (reads_side or options.side != SideOptions()):
        raise no_side("map reads the table `side`" if reads_side else "the option side needs a side table")
    if side is not None and not reads_side:
        raise BadRequest(
            "the form has a side table, but map does not read it: from shard join side on ...", code="bad-option"
        )
    checks.query(database, options.map, "map", frozenset({_SHARD, _SIDE} if side else {_SHARD}))
    if not options.reduce.strip():
        return
    if reads_table(database, options.reduce, "reduce", _SIDE):
        raise BadRequest("reduce: only map can read the table `side`; reduce reads `parts`", code="bad-option")
    checks.query(database, options.reduce, "reduce", frozenset({_PARTS}))


def mapped(payload: bytes, meta: TableMeta, options: SqlOptions) -> bytes:
    """Return the rows of `map` for a shard: NDJSON, or an Arrow table if the merge needs them."""
    return on_rows(payload, meta, options, _run)


def reduced(outputs: Sequence[bytes], options: SqlOptions) -> bytes:
    """Return the result of `reduce` over all shards' rows; PermanentError if it fails."""
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
    """Make the view ANSWER_table, valid inside the block, of the query over the table; yield its columns."""
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
    """Make the view `side` of a relation, valid inside the block, if there is one."""
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
