"""Aggregates in two steps: states for each shard's rows, and one value from the states of all shards.

Theory of operation ------------------- A shard's child groups its rows and keeps, for each group, the states that the
whole result needs: counts, sums, the minimum, or all values for a median. The merging child groups these states by the
same keys. Both steps are SQL for the same engine, so a type means the same in both. The rest of this text describes
that SQL.

Integers and decimals add up exactly in any order. Floating-point numbers do not, so their sums are kept exactly, as
three integers in units of 1, 2^-62 and 2^-124. A double whose magnitude is below 2^62 and that is a multiple of 2^-124
is the sum of three such parts, each below 2^62, and 128-bit integers can hold 2^64 of them. Doubles outside this window
(above 4.6e18, or below 2.1e-22 and not 0), infinities and NaN are kept one by one. The engine's `exact_total` combines
the three parts; `wide_sums.py` adds what is kept one by one. The alternatives were a running sum, whose error depends
on the cut, and compensated sums, which still lose everything where large terms cancel out.

Most doubles need less: one whose magnitude is below 2^43 and that is a multiple of 2^-72, as every double above 9.6e-7
is, is the sum of two 64-bit integers in units of 2^-20 and 2^-72. The quick query adds up these two, and converts each
group's sums to the three parts. It fails for any other double, and then the shard runs the complete query.

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
_EXACT_DOUBLE = 2**53  # a double can hold every whole number up to here
_SPREADS = {
    "stddev": "samp", "stddev_samp": "samp", "stddev_pop": "pop",
    "variance": "samp", "var_samp": "samp", "var_pop": "pop",
}  # fmt: skip
_ROW_OF_STATE = "struct_extract({0}, 'r')"
_HOLISTIC = ("median", "quantile", "quantile_cont", "quantile_disc")
_NAMES = ("count", "sum", "mean", "avg", "min", "max", "first", "last", *_SPREADS, *_HOLISTIC)


@dataclass(frozen=True, slots=True)
class State:
    """One column of a shard's states: SQL over the shard's rows, and SQL that merges the column `{0}` of all shards."""

    partial: str
    merged: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """How to compute one figure. `final` is SQL over the merged states {0}, {1}, ...

    If `values` is set, the state is a list of values, and `final` is an aggregate over the unnested values `{0}`.
    `approximate` is an aggregate over the same values that estimates the figure. `wide`: the last state holds doubles
    that `final` does not add up; then `summed` is SQL for the doubles to sum, and {x}, {high}, {rest}, {middle} in the
    states are columns that with_parts() makes of it.
    """

    states: tuple[State, ...]
    final: str
    values: bool = False
    approximate: str = ""
    wide: bool = False
    summed: str = ""


def aggregate_of(call: AggregateCall, types: Sequence[str], what: str) -> Aggregate:
    """Return how to compute a checked call; `types` are its arguments' types. BadRequest for an unsupported call."""
    name = call.function
    if name == "count_star" or (name == "count" and not call.arguments):
        return _counted("count(*)", call)
    if name not in _NAMES:
        raise BadRequest(
            f"{what}: there is no aggregate {name}(); supported are {', '.join(_NAMES)}", code="bad-option"
        )
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
        raise BadRequest(f"{what}: distinct works only in count(distinct x)", code="bad-option")
    if call.order and call.function not in ("first", "last"):
        raise BadRequest(f"{what}: order by works only in first() and last()", code="bad-option")


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
    if kind in _WHOLE:  # a sum that no double can hold would be rounded twice: before the division, and by it
        parts = "CAST({1} // {0} AS DOUBLE) + CAST({1} % {0} AS DOUBLE) / {0}"
        mean = (
            f"CASE WHEN {{1}} BETWEEN -{_EXACT_DOUBLE} AND {_EXACT_DOUBLE} THEN {mean} WHEN {{0}} > 0 THEN {parts} END"
        )
    return Aggregate(states, mean)


def _exact(call: AggregateCall, final: str) -> Aggregate:
    """Return an exact sum of doubles. States: count, three parts, a list of the doubles outside the window.

    If there are such lists, `wide_sums.py` puts the total into one of a group's lists and null into the others.
    """
    parts = ("{high}", "{middle}", "CAST(next_part({middle}, {rest}) AS BIGINT)")
    states = [State("count({x})", "sum({0})")]
    states += [State(f"sum({part})", "sum({0})") for part in parts]
    states.append(State("list({x}) FILTER (WHERE {high} IS NULL AND {x} IS NOT NULL)", "any_value({0})"))
    total = "CASE WHEN {0} = 0 THEN NULL ELSE coalesce({4}[1], exact_total({1}, {2}, {3})) END"
    summed = f"CAST({call.arguments[0].sql} AS DOUBLE)"
    if call.condition:  # here and not in the states, because a client's text may contain something like {x}
        summed = f"CASE WHEN {call.condition.sql} THEN {summed} END"
    return Aggregate(tuple(states), final.replace("{sum}", total), wide=True, summed=summed)


def _least(call: AggregateCall, kind: str, what: str) -> Aggregate:
    name = call.function
    return Aggregate((State(f"{name}({call.arguments[0].sql}){_condition(call)}", name + "({0})"),), "{0}")


def _placed(call: AggregateCall, kind: str, what: str) -> Aggregate:
    """Return first() or last(): a value, possibly null, by the rows' order or by the order that the call gives."""
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
"""Columns that are computed from {x}, each from the ones before it."""

_QUICK_STATES = (
    "count({x})",
    "high_of(sum({coarse}))",
    "middle_of(sum({coarse}), sum({fine}))",
    "low_of(sum({fine}))",
    "CAST(NULL AS DOUBLE[])",
)
"""The states of _exact() if no double has to be kept one by one."""

_Maker = Callable[[AggregateCall, str, str], Aggregate]
_MAKERS: dict[str, _Maker] = {
    "count": _count, "sum": _sum, "mean": _mean, "avg": _mean, "min": _least, "max": _least, "first": _placed,
    "last": _placed, **dict.fromkeys(_SPREADS, _spread), **dict.fromkeys(_HOLISTIC, _holistic),
}  # fmt: skip


def _no_number(call: AggregateCall, kind: str, what: str) -> BadRequest:
    argument = call.arguments[0].sql.strip("()\n ")
    text = " (as is every column without a value in the sample)" if kind in ("VARCHAR", "JSON") else ""
    return BadRequest(
        f"{what}: {call.function}() needs numbers, but {argument} is {kind}{text}; set its type with cast, such as "
        f"{argument}:float",
        code="bad-option",
    )


def state_names(index: int, aggregate: Aggregate) -> list[str]:
    """Return the names of an aggregate's state columns, quoted."""
    return [quoted(f"$s{index}_{number}") for number in range(len(aggregate.states))]


def with_parts(rows: str, index: int, aggregate: Aggregate) -> tuple[str, list[str]]:
    """Return rows that also have the parts of an aggregate's doubles, and the aggregate's states as SQL over them."""
    return _with_columns(rows, index, aggregate, _THREE_PARTS, [state.partial for state in aggregate.states])


def with_two_parts(rows: str, index: int, aggregate: Aggregate) -> tuple[str, list[str]]:
    """Return the same as with_parts(), for the quick query."""
    return _with_columns(rows, index, aggregate, _TWO_PARTS, _QUICK_STATES)


def _with_columns(
    rows: str, index: int, aggregate: Aggregate, parts: Sequence[tuple[str, str]], states: Sequence[str]
) -> tuple[str, list[str]]:
    """Compute each part once, in a SELECT of its own: SQL evaluates a repeated expression each time."""
    if not aggregate.summed:
        return rows, [state.partial for state in aggregate.states]

    def filled_in(sql: str) -> str:
        return _PART.sub(lambda found: quoted(f"${found[1]}{index}"), sql)

    rows = f"(SELECT *, {aggregate.summed} AS {filled_in('{x}')} FROM {rows})"
    for name, value in parts:
        rows = f"(SELECT *, {filled_in(value)} AS {filled_in(name)} FROM {rows})"
    return rows, [filled_in(state) for state in states]


def check_own_names(names: Iterable[str], what: str) -> None:
    """Raise BadRequest for a name that the generated queries use for a column of their own."""
    own = sorted(name for name in names if _OWN_NAME.fullmatch(name))
    if own:
        raise BadRequest(
            f"{what}: {', '.join(own)} is a name that the generated queries use; rename the column",
            code="bad-option",
        )


def filled(template: str, names: Sequence[str]) -> str:
    """Return SQL with {0}, {1}, ... replaced by names."""
    return _HOLE.sub(lambda found: names[int(found[1])], template)
