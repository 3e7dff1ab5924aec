"""Sums of doubles outside the window of `aggregates.py`: very large, very fine, or both. Rare, exact, in Python.

The states of a group keep such doubles one by one. Their exact total with the three parts becomes the state that `final`
prefers (the sum of what is not finite), in the first row of the group, so that the merge's SQL stays as it is.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from regather.kinds.table.engine import Engine

_PARTS = "parts"
_CORRECTIONS = "wide_totals"
_UNIT_BITS = 62


def has_wide(engine: Engine, columns: Sequence[str]) -> bool:
    """Whether any state of the table `parts` keeps doubles one by one."""
    if not columns:
        return False
    some = " OR ".join(f"{column} IS NOT NULL" for column in columns)
    return bool(engine.run(f"SELECT count(*) FROM {_PARTS} WHERE {some}")[0][0])


def corrected(engine: Engine, parts: Any, keys: Sequence[str], column: str) -> Any:
    """Return the states with the total of one aggregate put right; `column` is its state of doubles kept one by one."""
    import pyarrow as pa

    stem = column.strip('"').rpartition("_")[0]
    whole = [f'"{stem}_{number}"' for number in (1, 2, 3)]
    other = f'"{stem}_4"'
    partition = f"PARTITION BY {', '.join(keys)} " if keys else ""
    numbered = f'SELECT *, min("$first") OVER ({partition}) AS "$group" FROM {_PARTS}'
    sums = ", ".join(f"CAST(sum({one}) AS VARCHAR)" for one in whole)
    rows = engine.run(
        f'SELECT "$group", {sums}, flatten(list({column}) FILTER (WHERE {column} IS NOT NULL)) FROM ({numbered}) '
        f'GROUP BY "$group" HAVING count({column}) > 0 AND count({other}) = 0'
    )
    totals = [_total([int(one or 0) for one in row[1:4]], row[4]) for row in rows]
    table = pa.table({"g": pa.array([row[0] for row in rows], pa.int64()), "t": pa.array(totals, pa.float64())})
    first = f'row_number() OVER ({partition}ORDER BY "$first") = 1'
    with engine.arrow(_CORRECTIONS, table):
        return engine.table(
            f'SELECT * EXCLUDE ("$group", "$total", "$one") REPLACE (coalesce({other}, "$total") AS {other}) FROM '
            f'(SELECT n.*, CASE WHEN "$one" THEN t END AS "$total" FROM '
            f'(SELECT *, {first} AS "$one" FROM ({numbered})) AS n LEFT JOIN {_CORRECTIONS} ON "$group" = g)'
        )


def _total(whole: Sequence[int], kept: Sequence[float]) -> float:
    """Return the exact sum, rounded once."""
    high, middle, low = whole
    units = (high << 2 * _UNIT_BITS) + (middle << _UNIT_BITS) + low
    try:
        return math.fsum([*kept, *_pieces(units)])
    except OverflowError:  # of a sum in between, which the whole may not have
        total = Fraction(units, 1 << 2 * _UNIT_BITS) + sum(map(Fraction, kept))
        try:
            return float(total)
        except OverflowError:
            return math.copysign(math.inf, total)


def _pieces(units: int) -> list[float]:
    """Doubles that add up to so many units of 2^-124 exactly."""
    pieces: list[float] = []
    while units:
        piece = float(units)
        pieces.append(math.ldexp(piece, -2 * _UNIT_BITS))
        units -= int(piece)
    return pieces
