"""Aggregates in two steps: states of a shard's rows, and one value out of the states of all shards.

Theory of operation
-------------------
A shard's child groups its rows and keeps for each group what the whole needs: counts, sums, the least value, all values
of a median. The merging child groups these states by the same keys. Both steps are SQL of the same engine, so a type has
one meaning; what follows is which SQL.

Whole numbers and decimals add up exactly in any order. Floating-point numbers do not, so their sums are kept exactly, as
three whole numbers in units of 1, 2^-62 and 2^-124: a double below 2^62 in size that is no finer than 2^-124 is the sum
of three such parts, each below 2^62, and whole numbers of 128 bits hold 2^64 of them. Doubles outside this window (above
4.6e18, or below 2.1e-22 and not 0), infinities and NaN are kept one by one. `exact_total` of the engine puts the three
together; `wide_sums.py` adds what is kept one by one. This replaces a running sum, whose error
depends on the cut, and compensated sums, which still lose everything where large terms cancel out.

Most doubles need less: one below 2^43 in size that is a multiple of 2^-72, as every double above 9.6e-7 is, is the sum of
two whole numbers of 64 bits, in units of 2^-20 and 2^-72. The quick query adds up these two, and puts each group's sums
into the three parts. Any other double ends it, and the shard runs the complete query.

Variances are merged by the update of Chan, Golub and LeVeque (1979). A median, a quantile and a count of distinct values
need the values themselves: their states are lists, which the merge unnests.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from regather.core.errors import BadRequest
from regather.kinds.table.checks import AggregateCall
from regather.kinds.table.engine import quoted
from regather.kinds.table.fitting import UNKNOWN

_HOLE = re.compile(r"\{(\d+)\}")
_PART = re.compile(r"\{(x|high|rest|middle|coarse|fine)\}")
ROW = '"$row"'
"""The row's number in the whole body."""

_OWN_NAME = re.compile(
    r"\$(rows?|first|group|one|value|none|total|of|(s\d+_|x|high|rest|middle|coarse|fine|o)\d+|(v|text) .*)",
    re.IGNORECASE,
)

_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_FLOATS = ("FLOAT", "DOUBLE")
_EXACT_DOUBLE = 2**53  # up to here a double holds every whole number
_SPREADS = {
    "stddev": "samp", "stddev_samp": "samp", "stddev_pop": "pop",
    "variance": "samp", "var_samp": "samp", "var_pop": "pop",
}  # fmt: skip
_ROW_OF_STATE = "struct_extract({0}, 'r')"
_HOLISTIC = ("median", "quantile", "quantile_cont", "quantile_disc")
_NAMES = ("count", "sum", "mean", "avg", "min", "max", "first", "last", *_SPREADS, *_HOLISTIC)


@dataclass(frozen=True, slots=True)
class State:
    """One column of a shard's states: SQL over its rows, and SQL that merges the column `{0}` of all shards."""

    partial: str
    merged: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One figure. `final` is SQL over the merged states {0}, {1}, ...

    Where `values` is set, the state is a list of values and `final` is an aggregate over the values `{0}`, unnested.
    `wide` says that the last state holds doubles that `final` has not counted in; then `summed` is SQL of the doubles,
    and {x}, {high}, {rest}, {middle} in the states stand for columns that parts_of() makes of it.
    """

    states: tuple[State, ...]
    final: str
    values: bool = False
    approximate: str = ""
    wide: bool = False
    summed: str = ""


def aggregate_of(call: AggregateCall, types: Sequence[str], what: str) -> Aggregate:
    """Return how a checked call is computed; `types` are those of its arguments. BadRequest for what cannot be."""
    name = call.function
    if name == "count_star" or (name == "count" and not call.arguments):
        return _counted("count(*)", call)
    if name not in _NAMES:
        raise BadRequest(f"{what}: there is no aggregate {name}(); there are {', '.join(_NAMES)}", code="bad-option")
    _check_shape(call, what)
    if call.distinct:
        return _distinct(call)
    return _MAKERS[name](call, types[0], what)


def _check_shape(call: AggregateCall, what: str) -> None:
    wanted = 2 if call.function.startswith("quantile") else 1
    if len(call.arguments) != wanted:
        raise BadRequest(f"{what}: {call.function}() takes {wanted} argument{'s' * (wanted > 1)}", code="bad-option")
    if wanted == 2 and call.arguments[1].names:
        raise BadRequest(f"{what}: the share of {call.function}() must be a number such as 0.9", code="bad-option")
    if call.distinct and call.function != "count":
        raise BadRequest(f"{what}: distinct is for count(distinct x) alone", code="bad-option")
    if call.order and call.function not in ("first", "last"):
        raise BadRequest(f"{what}: order by is for first() and last() alone", code="bad-option")


def _condition(call: AggregateCall, more: str = "") -> str:
    conditions = [one for one in (call.condition.sql if call.condition else "", more) if one]
    return f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""


def _counted(sql: str, call: AggregateCall) -> Aggregate:
    return Aggregate((State(sql + _condition(call), "sum({0})"),), "CAST(coalesce({0}, 0) AS BIGINT)")


def _count(call: AggregateCall, kind: str, what: str) -> Aggregate:
    return _counted(f"count({call.arguments[0].sql})", call)


def _sum(call: AggregateCall, kind: str, what: str) -> Aggregate:
    if kind in (*_FLOATS, UNKNOWN):
        return _exact(call, "{sum}")
    if kind not in (*_WHOLE, "BOOLEAN", "INTERVAL") and not kind.startswith("DECIMAL"):
        raise _no_number(call, kind, what)
    return Aggregate((State(f"sum({call.arguments[0].sql}){_condition(call)}", "sum({0})"),), "{0}")


def _mean(call: AggregateCall, kind: str, what: str) -> Aggregate:
    if kind in (*_FLOATS, UNKNOWN):
        return _exact(call, "{sum} / {0}")
    if kind not in _WHOLE and not kind.startswith("DECIMAL"):
        raise _no_number(call, kind, what)
    x, condition = call.arguments[0].sql, _condition(call)
    states = (State(f"count({x}){condition}", "sum({0})"), State(f"sum({x}){condition}", "sum({0})"))
    mean = "CAST({1} AS DOUBLE) / {0}"
    if kind in _WHOLE:  # a sum that no double holds would be rounded twice: before the division, and by it
        parts = "CAST({1} // {0} AS DOUBLE) + CAST({1} % {0} AS DOUBLE) / {0}"
        mean = (
            f"CASE WHEN {{1}} BETWEEN -{_EXACT_DOUBLE} AND {_EXACT_DOUBLE} THEN {mean} WHEN {{0}} > 0 THEN {parts} END"
        )
    return Aggregate(states, mean)


def _exact(call: AggregateCall, final: str) -> Aggregate:
    """Sum of doubles; see the top. States: count, three parts, a list of what is outside the window.

    Where there are such lists, `wide_sums.py` puts the total into one of a group's and null into the others.
    """
    parts = ("{high}", "{middle}", "CAST(next_part({middle}, {rest}) AS BIGINT)")
    states = [State("count({x})", "sum({0})")]
    states += [State(f"sum({part})", "sum({0})") for part in parts]
    states.append(State("list({x}) FILTER (WHERE {high} IS NULL AND {x} IS NOT NULL)", "any_value({0})"))
    total = "CASE WHEN {0} = 0 THEN NULL ELSE coalesce({4}[1], exact_total({1}, {2}, {3})) END"
    summed = f"CAST({call.arguments[0].sql} AS DOUBLE)"
    if call.condition:  # here, and not in the states, because a client's text may look like one of their holes
        summed = f"CASE WHEN {call.condition.sql} THEN {summed} END"
    return Aggregate(tuple(states), final.replace("{sum}", total), wide=True, summed=summed)


def _least(call: AggregateCall, kind: str, what: str) -> Aggregate:
    name = call.function
    return Aggregate((State(f"{name}({call.arguments[0].sql}){_condition(call)}", name + "({0})"),), "{0}")


def _placed(call: AggregateCall, kind: str, what: str) -> Aggregate:
    """The first or the last value, nulls included, of the rows in their order or in the one that is asked for."""
    x, name = call.arguments[0].sql, call.function
    keys = "".join(f", o{index} := {one.sql}" for index, (one, _) in enumerate(call.order))
    order = [*(f"{one.sql} {way}" for one, way in call.order), ROW]
    again = [*(f"struct_extract({{0}}, 'o{index}') {way}" for index, (_, way) in enumerate(call.order)), _ROW_OF_STATE]
    partial = f"{name}(struct_pack(v := {x}, r := {ROW}{keys}) ORDER BY {', '.join(order)}){_condition(call)}"
    merged = f"{name}({{0}} ORDER BY {', '.join(again)}) FILTER (WHERE {{0}} IS NOT NULL)"
    return Aggregate((State(partial, merged),), "struct_extract({0}, 'v')")


def _spread(call: AggregateCall, kind: str, what: str) -> Aggregate:
    if kind not in (*_WHOLE, *_FLOATS, UNKNOWN) and not kind.startswith("DECIMAL"):
        raise _no_number(call, kind, what)
    x, condition = f"CAST({call.arguments[0].sql} AS DOUBLE)", _condition(call)
    n, mean, spread = (f"{one}({x}){condition}" for one in ("count", "avg", "var_pop"))
    entry = f"struct_pack(n := {n}, m := {mean}, v := {spread} * {n})"
    merged = (
        "list_reduce(list({0}) FILTER (WHERE struct_extract({0}, 'n') > 0), lambda a, b: struct_pack("
        "n := a.n + b.n, m := a.m + (b.m - a.m) * b.n / (a.n + b.n), "
        "v := a.v + b.v + (b.m - a.m) * (b.m - a.m) * a.n / (a.n + b.n) * b.n))"
    )
    n, v = "struct_extract({0}, 'n')", "struct_extract({0}, 'v')"
    final = f"CASE WHEN {n} > 1 THEN {v} / ({n} - 1) END" if _SPREADS[call.function] == "samp" else f"{v} / {n}"
    return Aggregate((State(entry, merged),), f"sqrt({final})" if call.function.startswith("stddev") else final)


def _distinct(call: AggregateCall) -> Aggregate:
    x = call.arguments[0].sql
    state = State(f"list(DISTINCT {x}){_condition(call, f'{x} IS NOT NULL')}", "")
    return Aggregate((state,), "count(DISTINCT {0})", values=True)


def _holistic(call: AggregateCall, kind: str, what: str) -> Aggregate:
    x, name = call.arguments[0].sql, call.function
    state = State(f"list({x}){_condition(call, f'{x} IS NOT NULL')}", "")
    if name == "median":
        return Aggregate((state,), "median({0})", values=True, approximate="approx_quantile({0}, 0.5)")
    share = call.arguments[1].sql
    return Aggregate((state,), f"{name}({{0}}, {share})", values=True, approximate=f"approx_quantile({{0}}, {share})")


_THREE_PARTS = (
    ("{high}", "inside({x})"),
    ("{rest}", "next_part({high}, {x})"),
    ("{middle}", "CAST(trunc({rest}) AS BIGINT)"),
)
_TWO_PARTS = (
    ("{coarse}", "coarse({x})"),
    ("{rest}", "rest_of({coarse}, {x})"),
    ("{fine}", "fine({x}, {rest})"),
)
"""Columns that are made of {x}, one out of those before it."""

_QUICK_STATES = (
    "count({x})",
    "high_of(sum({coarse}))",
    "middle_of(sum({coarse}), sum({fine}))",
    "low_of(sum({fine}))",
    "CAST(NULL AS DOUBLE[])",
)
"""The states of _exact() where no double has to be kept."""

_Maker = Callable[[AggregateCall, str, str], Aggregate]
_MAKERS: dict[str, _Maker] = {
    "count": _count, "sum": _sum, "mean": _mean, "avg": _mean, "min": _least, "max": _least, "first": _placed,
    "last": _placed, **dict.fromkeys(_SPREADS, _spread), **dict.fromkeys(_HOLISTIC, _holistic),
}  # fmt: skip


def _no_number(call: AggregateCall, kind: str, what: str) -> BadRequest:
    argument = call.arguments[0].sql.strip("()\n ")
    text = " (so is a column of which no sampled row has a value)" if kind in ("VARCHAR", "JSON") else ""
    return BadRequest(
        f"{what}: {call.function}() needs numbers, and {argument} is {kind}{text}; give the type in cast, such as "
        f"{argument}:float",
        code="bad-option",
    )


def state_names(index: int, aggregate: Aggregate) -> list[str]:
    """Return the names of an aggregate's state columns, quoted."""
    return [quoted(f"$s{index}_{number}") for number in range(len(aggregate.states))]


def with_parts(rows: str, index: int, aggregate: Aggregate) -> tuple[str, list[str]]:
    """Return rows that have the parts of an aggregate's doubles, too, and its states as SQL over them."""
    return _with_columns(rows, index, aggregate, _THREE_PARTS, [state.partial for state in aggregate.states])


def with_two_parts(rows: str, index: int, aggregate: Aggregate) -> tuple[str, list[str]]:
    """As with_parts(), for the quick query."""
    return _with_columns(rows, index, aggregate, _TWO_PARTS, _QUICK_STATES)


def _with_columns(
    rows: str, index: int, aggregate: Aggregate, parts: Sequence[tuple[str, str]], states: Sequence[str]
) -> tuple[str, list[str]]:
    """Each part is computed once, in a select of its own: an expression that stands in many places costs as often."""
    if not aggregate.summed:
        return rows, [state.partial for state in aggregate.states]

    def filled_in(sql: str) -> str:
        return _PART.sub(lambda found: quoted(f"${found[1]}{index}"), sql)

    rows = f"(SELECT *, {aggregate.summed} AS {filled_in('{x}')} FROM {rows})"
    for name, value in parts:
        rows = f"(SELECT *, {filled_in(value)} AS {filled_in(name)} FROM {rows})"
    return rows, [filled_in(state) for state in states]


def check_own_names(names: Iterable[str], what: str) -> None:
    """BadRequest for a name that a column of the queries made here has, too."""
    own = sorted(name for name in names if _OWN_NAME.fullmatch(name))
    if own:
        raise BadRequest(
            f"{what}: {', '.join(own)} is a name that these queries use themselves; rename the column",
            code="bad-option",
        )


def filled(template: str, names: Sequence[str]) -> str:
    """Return SQL with {0}, {1}, ... replaced by names."""
    return _HOLE.sub(lambda found: names[int(found[1])], template)
