"""Finds the first bad row of a shard: the last row of the shortest prefix of its rows that fails."""

from collections.abc import Callable

from regather.kinds.table.failures import is_of_data
from regather.processors.base import Piece, ShardRows


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
