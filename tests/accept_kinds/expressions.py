"""Expressions by hypothesis over typed columns, seeded: what the product says at a random cut against DuckDB on the whole.

Columns have nulls, NaN, infinities, numbers above 2^53, decimals, dates and texts with quotes and other scripts. Where
DuckDB refuses an expression on the whole table (an overflow, a cast), the product has to refuse it, too.
"""

import argparse
import json
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from accept_kinds.case import Refusal, Want
from accept_kinds.expect import table_equal
from accept_kinds.in_process import answer
from accept_kinds.judge import Answer, AnswerVerdict, judge
from accept_kinds.made import columns
from accept_kinds.oracles import OracleRefused
from regather.processors.base import SplitRequest

ROWS = 300
CASTS = "i:int, j:int, b:int, f:float, g:float, d:decimal(12,2), s:str, t:str, day:date, ok:bool"
Text = st.SearchStrategy[str]
COMMAND = "PYTHONPATH=tests .venv/bin/python -m accept_kinds.expressions --one"
Product = Callable[[str, dict[str, str], bytes, SplitRequest], Answer]


@dataclass
class Tried:
    """What became of the expressions."""

    words: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)


def try_expressions(number: int, count: int, product: Product = answer) -> Tried:
    """Try `count` generated requests; the same `number` gives the same ones."""
    tried = Tried()
    chosen = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @chosen
    @given(requests(), st.sampled_from(["csv", "ndjson", "parquet"]), st.integers(1024, 9000))
    def try_one(options: dict[str, str], table_format: str, shard_bytes: int) -> None:
        given_options = options if table_format == "parquet" else {"cast": CASTS, **options}
        asked = {**given_options, "format": table_format}
        verdict = judged(asked, shard_bytes, product)
        tried.words[verdict.word] += 1
        if not verdict.good:
            told = {"options": asked, "size": shard_bytes, "verdict": verdict.word}
            replay = f"{COMMAND} {shlex.quote(json.dumps([asked, shard_bytes]))}"
            told |= {"wanted": verdict.wanted, "got": verdict.got, "replay": replay}
            tried.failures.append({"file": f"expressions/{number}", **told})

    try_one()
    return tried


def judged(asked: dict[str, str], shard_bytes: int, product: Product = answer) -> AnswerVerdict:
    """Judge one request, options with `format`, at one shard size."""
    body = bodies()[asked["format"]]
    options = {name: value for name, value in asked.items() if name != "format"}
    try:
        want: Want = table_equal(body, options, asked["format"])
    except OracleRefused as error:
        want = Refusal(f"DuckDB refuses it: {error}")
    return judge(want, product("table.etl", asked, body, SplitRequest(shard_bytes)))


@cache
def bodies() -> dict[str, bytes]:
    """The same table in three formats."""
    table = _table()
    # NDJSON has no NaN: null stands for it there, and so the oracle sees what the product sees.
    return {
        "csv": columns.as_csv(table),
        "ndjson": columns.as_ndjson(table),
        "parquet": columns.as_parquet(table, row_group_size=70),
    }


def _table() -> pa.Table:
    draw = columns.Draw("expressions")
    some = columns._some
    makers: dict[str, tuple[pa.DataType, Callable[[Any], Any]]] = {
        "i": (pa.int64(), some(lambda draw: draw.randrange(-50, 50))),
        "j": (pa.int64(), lambda draw: draw.randrange(0, 5)),
        "b": (pa.int64(), lambda draw: draw.choice([2**53 + 1, 2**62, -(2**61) - 7, 3])),
        "f": (pa.float64(), some(lambda draw: draw.choice([0.1, -2.5, 1e17, -1e17, 1e-9, float("nan"), float("inf")]))),
        "g": (pa.float64(), lambda draw: draw.choice([draw.random() * 100, 0.1, -7.25])),
        "d": (pa.decimal128(12, 2), some(lambda draw: Decimal(draw.randrange(-99999, 99999)).scaleb(-2))),
        "s": (pa.string(), some(lambda draw: draw.choice([*columns.HARD_TEXTS, "Ünïcode", "100%", "a_b"]))),
        "t": (pa.string(), lambda draw: draw.choice(["EU", "US", "it's"])),
        "day": (pa.date32(), some(columns._date)),
        "ok": (pa.bool_(), some(lambda draw: draw.random() < 0.5)),
    }
    return pa.table({name: pa.array([make(draw) for _ in range(ROWS)], kind) for name, (kind, make) in makers.items()})


@cache
def requests() -> st.SearchStrategy[dict[str, str]]:
    """Options of one job: a filter, derived columns, groups, or several of them."""
    derived = values().map(lambda text: f"z = {text}")
    rows = st.fixed_dictionaries({"select": st.just("i, z"), "derive": derived}, optional={"filter": booleans()})
    filters = booleans().map(lambda text: {"filter": text, "select": "i, s, f"})
    return st.one_of(filters, rows, groups(), groups())


@cache
def groups() -> st.SearchStrategy[dict[str, str]]:
    """Groups by a column, a derived one, or none."""
    keys = st.sampled_from(["t", "j", "ok", "day", "s", "d", "f", "t, ok", "z", ""])
    figures = st.lists(aggregates(), min_size=1, max_size=3)

    def options(drawn: tuple[str, list[str], str, str | None]) -> dict[str, str]:
        key, calls, derived, condition = drawn
        aggregate = "; ".join(f"x{at} = {call}" for at, call in enumerate(calls))
        found = {"derive": f"z = {derived}", "aggregate": aggregate}
        return found | ({"group_by": key} if key else {}) | ({"filter": condition} if condition else {})

    return st.tuples(keys, figures, values(), st.none() | booleans()).map(options)


@cache
def aggregates() -> Text:
    """Calls of aggregates over typed arguments."""
    over_numbers = st.sampled_from(["sum", "mean", "avg", "min", "max", "first", "last", "count", "median"])
    number_calls = st.builds(lambda name, text: f"{name}({text})", over_numbers, integers() | doubles() | decimals())
    over_any = st.sampled_from(["min(*)", "max(*)", "first(*)", "last(*)", "count(*)", "count(distinct *)"])
    any_calls = st.builds(lambda name, text: name.replace("*", text), over_any, values())
    spreads = st.sampled_from(["stddev", "var_pop", "variance"])
    spread = st.builds(lambda name, text: f"{name}({text})", spreads, integers())
    quantile = st.builds(lambda text, share: f"quantile({text}, {share})", integers(), st.sampled_from(["0.1", "0.9"]))
    return st.one_of(st.just("count()"), number_calls, any_calls, spread, quantile)


@cache
def values() -> Text:
    """An expression of any type."""
    return st.one_of(integers(), doubles(), decimals(), texts(), booleans(), dates())


@cache
def integers() -> Text:
    """Whole numbers."""
    leaves = st.sampled_from(["i", "j", "b", "3", "-7", "null::bigint", "length(s)", "year(day)"])
    return st.recursive(leaves, _integer_trees, max_leaves=4)


def _integer_trees(inner: Text) -> Text:
    small = st.sampled_from(["i", "j", "2", "-3"])
    return st.one_of(
        st.builds(lambda a, op, b: f"({a} {op} {b})", inner, st.sampled_from("+-"), small),
        st.builds(lambda a, b: f"({a} * {b})", small, small),
        st.builds(lambda a: f"({a} // nullif(j, 0))", inner),
        st.builds(lambda a: f"({a} % nullif(j, 0))", inner),
        st.builds(lambda a: f"abs({a})", inner),
        st.builds(lambda a, b: f"coalesce({a}, {b})", inner, inner),
        st.builds(lambda c, a, b: f"case when {c} then {a} else {b} end", _comparisons(), inner, inner),
        st.builds(lambda a, b: f"greatest({a}, {b})", inner, small),
        st.builds(lambda a: f"sign({a})::bigint", inner),
    )


@cache
def doubles() -> Text:
    """Doubles."""
    leaves = st.sampled_from(["f", "g", "0.1::double", "1e3", "i::double", "b::double"])
    return st.recursive(leaves, _double_trees, max_leaves=4)


def _double_trees(inner: Text) -> Text:
    return st.one_of(
        st.builds(lambda a, op, b: f"({a} {op} {b})", inner, st.sampled_from("+-*"), inner),
        st.builds(lambda a: f"({a} / nullif(j, 0))", inner),
        st.builds(lambda a: f"round({a}, 2)", inner),
        st.builds(lambda a: f"floor({a})", inner),
        st.builds(lambda a, b: f"coalesce({a}, {b})", inner, inner),
        st.builds(lambda a, b: f"least({a}, {b})", inner, inner),
        st.builds(lambda c, a: f"case when {c} then {a} end", _comparisons(), inner),
    )


@cache
def decimals() -> Text:
    """Decimals."""
    leaves = st.sampled_from(["d", "1.50", "(d + d)", "(d + 1.5)"])
    return st.builds(
        lambda a, form: form.replace("*", a), leaves, st.sampled_from(["*", "round(*, 1)", "coalesce(*, 0)", "(* - j)"])
    )


@cache
def texts() -> Text:
    """Texts."""
    leaves = st.sampled_from(["s", "t", "'it''s'", "'é'", "i::varchar", "day::varchar", "''"])
    return st.recursive(leaves, _text_trees, max_leaves=4)


def _text_trees(inner: Text) -> Text:
    return st.one_of(
        st.builds(lambda name, a: f"{name}({a})", st.sampled_from(["lower", "upper", "trim", "reverse"]), inner),
        st.builds(lambda a, b: f"({a} || {b})", inner, inner),
        st.builds(lambda a, n: f"substr({a}, {n}, 3)", inner, st.integers(1, 3)),
        st.builds(lambda a: f"replace({a}, 'e', '\"')", inner),
        st.builds(lambda a, b: f"concat({a}, {b})", inner, inner),
        st.builds(lambda a: f"regexp_replace({a}, '[a-f]+', '-')", inner),
        st.builds(lambda a, b: f"coalesce(nullif({a}, 'EU'), {b})", inner, inner),
        st.builds(lambda c, a, b: f"case when {c} then {a} else {b} end", _comparisons(), inner, inner),
    )


@cache
def dates() -> Text:
    """Dates."""
    months = ["date_trunc('month', day)::date", "last_day(day)", "coalesce(day, date '2000-01-01')"]
    return st.sampled_from(["day", "(day + j::int)", "date '2024-02-29'", *months])


@cache
def _comparisons() -> Text:
    """Comparisons of leaves: what conditions inside of values are made of."""
    numbers = [
        "i > 3",
        "j = 2",
        "i is null",
        "i in (1, 2, null)",
        "i == j",
        "d >= 9.5",
        "b between 4 and 9007199254740993",
    ]
    floats = ["f > g", "isnan(f)", "f is distinct from g"]
    words = ["s = t", "s like '%a%'", "t in ('EU', 'it''s')", "s is not null", "t != 'US'"]
    return st.sampled_from([*numbers, *floats, *words, "day < date '2025-06-01'", "ok", "not ok"])


@cache
def booleans() -> Text:
    """Conditions, three-valued."""
    compared = st.one_of(
        _comparisons(),
        st.builds(
            lambda a, op, b: f"{a} {op} {b}", integers(), st.sampled_from(["<", "<=", "=", "!=", "<>"]), integers()
        ),
        st.builds(lambda a, op, b: f"{a} {op} {b}", doubles(), st.sampled_from(["<", ">=", "="]), doubles()),
        st.builds(lambda a, b: f"{a} = {b}", texts(), texts()),
        st.builds(lambda a: f"{a} is null", texts()),
        st.builds(lambda a: f"{a} between -10 and 10", integers()),
    ).map(lambda text: f"({text})")
    return st.recursive(compared, _boolean_trees, max_leaves=4)


def _boolean_trees(inner: Text) -> Text:
    return st.one_of(
        st.builds(lambda a, op, b: f"({a} {op} {b})", inner, st.sampled_from(["and", "or"]), inner),
        st.builds(lambda a: f"(not {a})", inner),
        st.builds(lambda a: f"({a} is not true)", inner),
    )


def main() -> None:
    """Try expressions and print what was found as JSON; with --one judge one request again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--one", help="[options, shard size in bytes] of a failure")
    asked = parser.parse_args()
    if asked.one:
        options, shard_bytes = json.loads(asked.one)
        print(judged(options, shard_bytes))
        return
    tried = try_expressions(asked.seed, asked.count)
    print(json.dumps({"tried": tried.words.total(), **tried.words, "failures": tried.failures}))


if __name__ == "__main__":
    main()
