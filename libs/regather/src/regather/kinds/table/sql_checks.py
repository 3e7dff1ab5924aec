"""Checks the queries of `table.sql` before the first shard is cut: on tables without rows, in the child that inspects."""

from regather.core.errors import BadRequest
from regather.kinds.table import checks
from regather.kinds.table.aggregates import check_own_names
from regather.kinds.table.engine import Engine, quoted
from regather.kinds.table.joining import empty_side, no_side, reads_table
from regather.kinds.table.options import SideOptions
from regather.kinds.table.plan import Plan, SidePlan
from regather.kinds.table.reading import empty_relation
from regather.kinds.table.sql import SqlOptions
from regather.kinds.table.sql_views import PARTS, SHARD, SIDE, query_view, side_view, without_row


def check_queries(database: Engine, options: SqlOptions, plan: Plan) -> tuple[str, ...]:
    """Return the column names of `map`; BadRequest if a query is not a SELECT of its tables or does not fit them."""
    _check_tables(database, options, plan.side)
    check_own_names((column.name for column in plan.columns), "map")
    for name in options.cast:
        if not plan.named([name.lower()]):
            raise BadRequest(f"cast: there is no column {name!r}", code="no-column")
    side = empty_side(plan.side) if plan.side else None
    with (
        side_view(database, side),
        query_view(database, "map", SHARD, without_row(empty_relation(plan)), options.map) as columns,
    ):
        if options.reduce.strip():
            nothing = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(name)}" for name, kind in columns)
            with query_view(database, "reduce", PARTS, f"(SELECT {nothing} WHERE false)", options.reduce):
                pass
        return tuple(name for name, _ in columns)


def _check_tables(database: Engine, options: SqlOptions, side: SidePlan | None) -> None:
    """Raise BadRequest if a query reads a table that is not its own, or if no query reads the side table."""
    reads_side = reads_table(database, options.map, "map", SIDE)
    if side is None and (reads_side or options.side != SideOptions()):
        raise no_side("map reads the table `side`" if reads_side else "the option side needs a side table")
    if side is not None and not reads_side:
        raise BadRequest(
            "the form has a side table, but map does not read it: from shard join side on ...", code="bad-option"
        )
    checks.query(database, options.map, "map", frozenset({SHARD, SIDE} if side else {SHARD}))
    if not options.reduce.strip():
        return
    if reads_table(database, options.reduce, "reduce", SIDE):
        raise BadRequest("reduce: only map can read the table `side`; reduce reads `parts`", code="bad-option")
    checks.query(database, options.reduce, "reduce", frozenset({PARTS}))
