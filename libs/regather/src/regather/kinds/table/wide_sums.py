"""Sums of doubles outside the window of `aggregates.py`: very large, very fine, infinite or NaN. Rare, exact, in Python.

The states of a group keep such doubles one by one, in lists. This module adds these and the three parts exactly. The
total becomes the only list of the group, in its first state, and `final` reads it from there, so the merge's SQL stays
the same.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from regather.kinds.table.engine import Engine

_PARTS = "parts"
_TOTALS = "wide_totals"
_UNIT_BITS = 62


def has_wide(engine: Engine, column: str) -> bool:
    """Whether any state of the table `parts` keeps doubles one by one in this column."""
    return bool(engine.run(f"SELECT count(*) FROM {_PARTS} WHERE {column} IS NOT NULL")[0][0])


def with_totals(engine: Engine, keys: Sequence[str], column: str) -> Any:
    """Return the states, a pyarrow Table, with one total for each group that keeps doubles in this column."""
    import pyarrow as pa

    stem = column.strip('"').rpartition("_")[0]
    sums = ", ".join(f'CAST(sum("{stem}_{number}") AS VARCHAR)' for number in (1, 2, 3))
    partition = f"PARTITION BY {', '.join(keys)} " if keys else ""
    numbered = f'SELECT *, min("$first") OVER ({partition}) AS "$group" FROM {_PARTS}'
    kept = f"flatten(list({column}) FILTER (WHERE {column} IS NOT NULL))"
    rows = engine.run(f'SELECT "$group", {sums}, {kept} FROM ({numbered}) GROUP BY "$group" HAVING count({column}) > 0')
    totals = [[_total([int(one or 0) for one in row[1:4]], row[4])] for row in rows]
    table = pa.table(
        {"$of": pa.array([row[0] for row in rows], pa.int64()), "$total": pa.array(totals, pa.list_(pa.float64()))}
    )
    first = f'row_number() OVER ({partition}ORDER BY "$first") = 1 AS "$one"'
    with engine.arrow(_TOTALS, table):
        return engine.table(
            f'SELECT n.* EXCLUDE ("$group", "$one") REPLACE (CASE WHEN "$one" THEN "$total" END AS {column}) '
            f'FROM (SELECT *, {first} FROM ({numbered})) AS n LEFT JOIN {_TOTALS} ON "$group" = "$of" ORDER BY "$first"'
        )


def _total(whole: Sequence[int], kept: Sequence[float]) -> float:
    """Return the exact sum, rounded once; with an infinity or a NaN, the sum that IEEE 754 defines."""
    odd = [one for one in kept if not math.isfinite(one)]
    if odd:
        return sum(odd)
    high, middle, low = whole
    units = (high << 2 * _UNIT_BITS) + (middle << _UNIT_BITS) + low
    try:
        return math.fsum([*kept, *_pieces(units)])
    except OverflowError:  # an intermediate sum overflows; the total may not
        total = Fraction(units, 1 << 2 * _UNIT_BITS) + sum(map(Fraction, kept))
        try:
            return float(total)
        except OverflowError:
            return math.inf if total > 0 else -math.inf


def _pieces(units: int) -> list[float]:
    """Return doubles that add up to exactly this many units of 2^-124."""
    pieces: list[float] = []
    while units:
        piece = float(units)
        pieces.append(math.ldexp(piece, -2 * _UNIT_BITS))
        units -= int(piece)
    return pieces
