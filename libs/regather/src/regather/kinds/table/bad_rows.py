"""Runs a query on a shard's rows. If one of them is at fault, the error names it by its number in the whole body.

DuckDB's error does not say which row it is about, so first_bad_row() finds the row by bisection. For a key that DuckDB
would drop silently there is no error, so check_keys() looks for one.
"""

import json
from collections.abc import Callable
from typing import TypeVar

from regather.core.errors import PermanentError
from regather.kinds.table.engine import Engine, engine, forget_engine
from regather.kinds.table.failures import is_of_data, row_error, said
from regather.kinds.table.options import ReadingOptions
from regather.kinds.table.plan import TableMeta
from regather.kinds.table.reading import json_objects
from regather.kinds.table.shard_rows import rows_of
from regather.processors.base import Piece, ShardRows

OptionsT = TypeVar("OptionsT", bound=ReadingOptions)
Run = Callable[[Engine, bytes, TableMeta, OptionsT], bytes]


def on_rows(payload: bytes, meta: TableMeta, options: OptionsT, run: Run[OptionsT]) -> bytes:
    """Return `run`'s output for a shard; if the shard's data is at fault, PermanentError names the first bad row."""
    database = engine()
    try:
        return run(database, payload, meta, options)
    except Exception as error:
        if not is_of_data(error):
            forget_engine()
            raise
        raise _named(database, payload, meta, options, run, error) from error


def check_keys(database: Engine, content: bytes, meta: TableMeta) -> None:
    """Raise PermanentError for a row with a key that is not in the plan, because its value would be lost silently."""
    known = [column.name for column in meta.plan.columns]
    with database.source(content) as source:
        keys = f"SELECT row_number() OVER () AS n, unnest(json_keys(json)) AS k FROM {json_objects(source)}"
        found = database.run(f"SELECT n, k FROM ({keys}) WHERE NOT list_contains(?, k) ORDER BY n LIMIT 1", [known])
    if found:
        ((number, key),) = found
        way = "name it in cast, or list the wanted columns in select" if key else "SQL has no such name; rename it"
        raise PermanentError(
            f"row {meta.span.number(number - 1)}: the key {json.dumps(key)} is in none of the rows whose types were "
            f"sampled; {way}"
        )


def _named(
    database: Engine, payload: bytes, meta: TableMeta, options: OptionsT, run: Run[OptionsT], error: BaseException
) -> Exception:
    """Return the error with the number of the bad row."""

    def run_piece(piece: Piece) -> bytes:
        return run(database, piece.payload, TableMeta.decode(piece.meta), options)

    try:
        found = first_bad_row(rows_of(payload, meta, options), run_piece)
    except PermanentError as named:
        return named
    if found:
        index, of_row = found
        return row_error(meta.span.number(index), of_row)
    return PermanentError(f"rows from {meta.span.row0} on: {said(error)}")


def first_bad_row(rows: ShardRows, run: Callable[[Piece], object]) -> tuple[int, BaseException] | None:
    """Return the row's index in the shard, from 0, and its error; None if all rows together no longer fail.

    If a prefix fails, every longer one fails, too. So bisection finds the row in log2(rows) runs.
    """
    numbers = rows.numbers
    error = _error(rows, len(numbers), run)
    if error is None:
        return None
    good, bad = 0, len(numbers)
    while bad - good > 1:
        middle = (good + bad) // 2
        found = _error(rows, middle, run)
        if found is None:
            good = middle
        else:
            bad, error = middle, found
    return bad - 1, error


def _error(rows: ShardRows, count: int, run: Callable[[Piece], object]) -> BaseException | None:
    first = rows.numbers.start
    try:
        run(rows.pick([range(first, first + count)]))
    except Exception as error:
        if not is_of_data(error):
            raise
        return error
    return None
