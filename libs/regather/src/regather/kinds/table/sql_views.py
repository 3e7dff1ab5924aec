"""Views for `table.sql`: the client's query stays in one piece, unchanged, over views of the tables that it names.

So a query keeps its own WITH and ORDER BY. The checks have ensured that it is one SELECT.
"""

import contextlib
from collections.abc import Iterator

from regather.kinds.table.aggregates import ROW
from regather.kinds.table.engine import Engine
from regather.kinds.table.failures import binding_error
from regather.kinds.table.joining import SIDE_ROW

SHARD, SIDE, PARTS = "shard", "side", "parts"
"""Names of the tables that queries read."""

_ANSWER = "answer"


@contextlib.contextmanager
def query_view(database: Engine, what: str, table: str, relation: str, sql: str) -> Iterator[list[tuple[str, str]]]:
    """Make the view that answer() reads, valid inside the block, of the query over the table; yield its columns.

    BadRequest, which names `what`, if the query does not fit the table.
    """
    database.run(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT * FROM {relation}")
    try:
        try:
            database.run(f"CREATE OR REPLACE TEMP VIEW {_ANSWER}_{table} AS\n{sql}\n")
            columns = database.describe(answer(table))
        except Exception as error:
            raise binding_error(error, what) from error
        yield columns
    finally:
        database.run(f"DROP VIEW IF EXISTS {_ANSWER}_{table}")
        database.run(f"DROP VIEW IF EXISTS {table}")


@contextlib.contextmanager
def side_view(database: Engine, relation: str | None) -> Iterator[None]:
    """Make the view `side` of a relation, valid inside the block, if there is one."""
    if relation is None:
        yield
        return
    database.run(f"CREATE OR REPLACE TEMP VIEW {SIDE} AS SELECT * EXCLUDE ({SIDE_ROW}) FROM {relation}")
    try:
        yield
    finally:
        database.run(f"DROP VIEW IF EXISTS {SIDE}")


def without_row(relation: str) -> str:
    """Return SQL for the relation without the number of each row, which no query sees."""
    return f"(SELECT * EXCLUDE ({ROW}) FROM {relation})"


def answer(table: str) -> str:
    """Return SQL for the rows of the query over `table`, inside the block of its query_view()."""
    return f"SELECT * FROM {_ANSWER}_{table}"
