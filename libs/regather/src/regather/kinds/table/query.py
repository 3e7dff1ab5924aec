"""Turns options and plan into SQL: what a shard's child computes, and how the merge combines all shards.

A `Query` is built once per job and child, against the plan's types. BadRequest says what is wrong with it: syntax,
names, types. Its SQL reads the shard's relation as ROWS, which has the columns that the query reads and the row's
number.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from regather.core.errors import BadRequest, UserError
from regather.kinds.table import checks
from regather.kinds.table.aggregates import (
    ROW,
    Aggregate,
    aggregate_of,
    check_own_names,
    filled,
    state_names,
    with_parts,
    with_two_parts,
)
from regather.kinds.table.checks import AggregateCall, Expression
from regather.kinds.table.engine import Engine, quoted
from regather.kinds.table.failures import binding_error
from regather.kinds.table.fitting import UNKNOWN
from regather.kinds.table.joining import Join, empty_side, join_of
from regather.kinds.table.options import TableOptions
from regather.kinds.table.plan import Plan
from regather.kinds.table.reading import empty_relation, no_rows
from regather.kinds.table.results import NO_COLUMN

ROWS = '"$rows"'
"""The name under which the shard's SQL reads its rows."""

PARTS = "parts"
"""The name under which the merge's SQL reads the states of all shards, one after the other."""

_GROWING = re.compile(r"VARCHAR|BLOB|JSON|BIT\b|\]|MAP|VARIANT|GEOMETRY|BIGNUM")
_FIRST = '"$first"'
_GROUP = '"$group"'


@dataclass(frozen=True, slots=True)
class Query:
    """SQL of a job's two steps.

    `names` are the columns read, in lower case. `shard` computes a shard's rows or states from ROWS; `quick` computes
    the same at less cost, or fails. `merged` computes the result from the table PARTS; it is empty if outputs are
    concatenated. `columns` are the result's names and types. `approximate` is like `merged`, but estimates the figures
    `estimated` by a sketch of the values in `listed`. `wide` are the states that `wide_sums.py` adds up, `keys` the
    columns to group by. A shard's output has `states` columns beside the keys; `fixed_states`: none of them grows with
    the rows' values. `side_names` are the columns read of the side table, in lower case; `join` makes ROWS of the
    shard's rows and the side table.
    """

    names: frozenset[str]
    shard: str
    quick: str
    merged: str
    columns: tuple[tuple[str, str], ...]
    approximate: str = ""
    estimated: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    keys: tuple[str, ...] = field(default=())
    states: int = 0
    fixed_states: bool = False
    side_names: frozenset[str] = frozenset()
    join: Join | None = None


def query_of(engine: Engine, options: TableOptions, plan: Plan) -> Query:
    """Return the query of a job; BadRequest names the option that is wrong, and where it is wrong."""
    return _query(engine, options.model_dump_json(), plan.encode())


@lru_cache(maxsize=16)
def _query(engine: Engine, options: str, plan: bytes) -> Query:
    return _Builder(engine, TableOptions.model_validate_json(options), Plan.decode(plan)).build()


class _Builder:
    def __init__(self, engine: Engine, options: TableOptions, plan: Plan) -> None:
        self._engine = engine
        self._options = options
        self._plan = plan
        self._join = join_of(engine, options, plan)
        self._names: set[str] = set(self._join.names if self._join else ())
        self._side_names: set[str] = set(self._join.side_names if self._join else ())
        self._known = {column.name.lower(): column.name for column in plan.columns}
        self._known |= {name.lower(): name for name in (self._join.columns if self._join else ())}
        self._empty = self._joined(empty_relation(plan))
        if self._join is not None and not plan.columns:
            self._imagine(self._names)

    def build(self) -> Query:
        query = self._query()
        return replace(query, side_names=frozenset(self._side_names), join=self._join)

    def _joined(self, empty: str) -> str:
        """Return SQL for the relation that the query reads, without rows."""
        if self._join is None or self._plan.side is None:
            return empty
        return self._join.over(empty, empty_side(self._plan.side))

    def _query(self) -> Query:
        self._check_casts()
        check_own_names(self._options.derive, "derive")
        check_own_names(self._options.aggregate, "aggregate")
        rows = self._transformed()
        return self._grouped(rows) if self._options.groups else self._listed(rows)

    def _check_casts(self) -> None:
        for name in self._options.cast:
            self._require(frozenset({name.lower()}), "cast")

    def _transformed(self) -> str:
        """Return SQL for the rows that pass derive and filter; ROWS is the shard's relation."""
        sql = ROWS
        for name, text in self._options.derive.items():
            sql = self._derived(sql, name, text)
        if self._options.filter:
            condition = self._expression(self._options.filter, "filter")
            kind = self._type(sql, condition, "filter")
            if kind not in ("BOOLEAN", UNKNOWN):
                raise BadRequest(f"filter is {kind}; it must be true or false for each row", code="bad-option")
            sql = f"(SELECT * FROM {sql} WHERE {condition.sql})"
        return sql

    def _derived(self, sql: str, name: str, text: str) -> str:
        what = f"derive {name}"
        value = self._expression(text, what)
        old = self._known.get(name.lower())
        if old is None:
            sql = f"(SELECT *, {value.sql} AS {quoted(name)} FROM {sql})"
        else:
            self._note({name.lower()})
            sql = f"(SELECT * REPLACE ({value.sql} AS {quoted(old)}) FROM {sql})"
        self._check(f"SELECT * FROM {sql}", what)
        self._known[name.lower()] = old or name
        return sql

    def _listed(self, rows: str) -> Query:
        options = self._options
        selected = options.select or tuple(self._known.values())
        self._require(frozenset(name.lower() for name in selected), "select")
        columns = [quoted(self._known[name.lower()]) for name in selected] or [f'NULL AS "{NO_COLUMN}"']
        order = checks.ordering(self._engine, options.order_by, "order_by") if options.order_by else ()
        self._require(frozenset().union(*(one.names for one, _ in order)), "order_by")
        if options.distinct and any(one.names - {name.lower() for name in selected} for one, _ in order):
            raise BadRequest("with distinct, order_by can use only the columns of select", code="bad-option")
        kinds = tuple(self._engine.describe(self._check(f"SELECT {', '.join(columns)} FROM {rows}", "select")))
        if options.joined:
            shard = f"SELECT {', '.join(columns)} FROM {rows}"
            return Query(frozenset(self._names), shard, shard, "", kinds)
        keys = [f"{one.sql} AS {quoted(f'$o{index}')}" for index, (one, _) in enumerate(order)]
        way = [*(f"{quoted(f'$o{index}')} {way}" for index, (_, way) in enumerate(order)), ROW]
        shard = f"SELECT {', '.join([*columns, ROW, *keys])} FROM {rows}"
        shard, merged = self._narrowed(shard, columns, way)
        self._check(shard, "order_by" if options.order_by else "select")
        return Query(frozenset(self._names), shard, shard, merged, kinds)

    def _narrowed(self, shard: str, columns: Sequence[str], way: Sequence[str]) -> tuple[str, str]:
        """Return the SQL of shard and merge with distinct, order and limit; both do the same, the merge on all rows."""
        options = self._options
        first, ordered = PARTS, ", ".join(way)
        if options.distinct:
            once = f"SELECT DISTINCT ON ({', '.join(columns)}) * FROM"  # a window would give 0.0 for -0.0
            shard = f"{once} ({shard}) ORDER BY {ROW}"
            first = f"({once} {PARTS} ORDER BY {ROW})"
        limit = "" if options.limit is None else f" LIMIT {options.limit}"
        if limit:
            shard = f"SELECT * FROM ({shard}) ORDER BY {ordered}{limit}"
        return shard, f"SELECT {', '.join(columns)} FROM {first} ORDER BY {ordered}{limit}"

    def _grouped(self, rows: str) -> Query:
        options = self._options
        self._require(frozenset(name.lower() for name in options.group_by), "group_by")
        keys = [quoted(self._known[name.lower()]) for name in options.group_by]
        made = {name: self._aggregate(rows, name, text) for name, text in options.aggregate.items()}
        shard, quick = (_states(rows, keys, made.values(), parted) for parted in (with_parts, with_two_parts))
        kinds = self._engine.describe(self._check(shard, "aggregate"))[len(keys) + 1 :]
        wide = tuple(state_names(index, one)[-1] for index, one in enumerate(made.values()) if one.wide)
        exact, rough = (self._merged(keys, made, rough=rough) for rough in (False, True))
        final = self._check_over(exact, shard)
        return Query(
            frozenset(self._names),
            shard,
            quick,
            exact,
            tuple(self._engine.describe(final)),
            rough,
            estimated=tuple(name for name, one in made.items() if one.approximate),
            listed=tuple(
                name for index, one in enumerate(made.values()) if one.approximate for name in state_names(index, one)
            ),
            wide=wide,
            keys=tuple(keys),
            states=len(kinds),
            fixed_states=not any(_GROWING.search(kind) for name, kind in kinds if quoted(name) not in wide),
        )

    def _aggregate(self, rows: str, name: str, text: str) -> Aggregate:
        what = f"aggregate {name}"
        call = checks.aggregate(self._engine, text, what)
        self._require(call.names, what)
        types = [self._type(rows, argument, what) for argument in call.arguments]
        self._check_condition(rows, call, what)
        return aggregate_of(call, types, what)

    def _check_condition(self, rows: str, call: AggregateCall, what: str) -> None:
        for one in [*(one for one, _ in call.order), *([call.condition] if call.condition else [])]:
            self._type(rows, one, what)

    def _merged(self, keys: Sequence[str], made: dict[str, Aggregate], *, rough: bool) -> str:
        """Return SQL over PARTS: number the groups, merge states by number, unnest lists and join them by number."""
        order = checks.ordering(self._engine, self._options.order_by, "order_by") if self._options.order_by else ()
        lists = [(index, name, one) for index, (name, one) in enumerate(made.items()) if one.values]
        plain = [(index, name, one) for index, (name, one) in enumerate(made.items()) if not one.values]
        sql = self._merged_states(keys, plain)
        for index, name, one in lists:
            sql = (
                f"({sql} LEFT JOIN {_unnested(keys, index, name, one, rough=rough)} USING ({_GROUP}))"
                if keys
                else (f"({sql} CROSS JOIN {_unnested(keys, index, name, one, rough=rough)})")
            )
        columns = [*keys, *(self._figure(name, one) for name, one in made.items())]
        having = f" WHERE {self._figures(self._options.having, 'having').sql}" if self._options.having else ""
        for item, _ in order:
            self._known_figures(item, "order_by")
        way = ", ".join([*(f"{item.sql} {way}" for item, way in order), _FIRST])
        limit = "" if self._options.limit is None else f" LIMIT {self._options.limit}"
        inner = f"SELECT {', '.join([*columns, _FIRST])} FROM {sql}"
        return f"SELECT * EXCLUDE ({_FIRST}) FROM (SELECT * FROM ({inner}){having} ORDER BY {way}{limit})"

    def _figure(self, name: str, one: Aggregate) -> str:
        if one.values:
            zero = f"coalesce({quoted(f'$v {name}')}, 0)" if one.final.startswith("count") else quoted(f"$v {name}")
            return f"{zero} AS {quoted(name)}"
        return quoted(name)

    def _merged_states(self, keys: Sequence[str], plain: Sequence[tuple[int, str, Aggregate]]) -> str:
        merged = [
            f"{filled(state.merged, [name])} AS {name}"
            for index, _, one in plain
            for state, name in zip(one.states, state_names(index, one), strict=True)
        ]
        finals = [f"{filled(one.final, state_names(index, one))} AS {quoted(name)}" for index, name, one in plain]
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        states = f"SELECT {', '.join([*keys, f'min({_FIRST}) AS {_FIRST}', *merged])} FROM {PARTS}{group}"
        return f"(SELECT {', '.join([*keys, _FIRST, f'{_FIRST} AS {_GROUP}', *finals])} FROM ({states}))"

    def _figures(self, text: str, what: str) -> Expression:
        value = checks.expression(self._engine, text, what)
        self._known_figures(value, what)
        return value

    def _known_figures(self, value: Expression, what: str) -> None:
        known = {name.lower() for name in (*self._options.group_by, *self._options.aggregate)}
        missing = sorted(value.names - known)
        if missing:
            raise BadRequest(
                f"{what}: there is no {', '.join(missing)}; groups have {', '.join(sorted(known))}", code="no-column"
            )

    def _expression(self, text: str, what: str) -> Expression:
        value = checks.expression(self._engine, text, what)
        self._require(value.names, what)
        return value

    def _require(self, names: Iterable[str], what: str) -> None:
        """Record that columns are read; BadRequest for a column that does not exist."""
        if not self._plan.columns and self._plan.format == "ndjson":
            self._imagine(set(names) - set(self._known))
        missing = sorted(set(names) - set(self._known))
        if missing:
            shown = ", ".join(map(str, list(self._known.values())[:20])) or "none"
            raise BadRequest(
                f"{what}: there is no column {', '.join(map(repr, missing))}; there are {shown} "
                "(put texts in single quotes)",
                code="no-column",
            )
        check_own_names(names, what)
        self._note(names)

    def _note(self, names: Iterable[str]) -> None:
        self._names |= set(names) & {column.name.lower() for column in self._plan.columns}
        if self._join is not None:
            self._side_names |= set(names) & {name.lower() for name in self._join.columns}

    def _imagine(self, names: set[str]) -> None:
        """Assume that these columns exist; NDJSON without rows has no keys, so it cannot show its columns."""
        self._known |= {name: name for name in names}
        self._names |= names
        self._empty = self._joined(no_rows(self._names))

    def _type(self, rows: str, value: Expression, what: str) -> str:
        return self._engine.describe(self._check(f"SELECT {value.sql} AS x FROM {rows}", what))[0][1]

    def _check(self, sql: str, what: str) -> str:
        """Return the SQL over the plan's columns without rows; BadRequest if it does not bind."""
        return self._bound(over(self._empty, sql), what)

    def _bound(self, sql: str, what: str) -> str:
        try:
            self._engine.describe(sql)
        except UserError:
            raise
        except Exception as error:
            raise binding_error(error, what) from error
        return sql

    def _check_over(self, merged: str, shard: str) -> str:
        states = f"({over(self._empty, shard)})"
        asked = [name for name in ("having", "order_by") if getattr(self._options, name)]
        return self._bound(over(states, merged, PARTS), " or ".join(["aggregate", *asked]))


def _states(
    rows: str,
    keys: Sequence[str],
    aggregates: Iterable[Aggregate],
    parted: Callable[[str, int, Aggregate], tuple[str, list[str]]],
) -> str:
    """Return SQL for a shard's groups with their states."""
    states: list[str] = []
    for index, one in enumerate(aggregates):
        rows, partials = parted(rows, index, one)
        states += [f"{sql} AS {name}" for sql, name in zip(partials, state_names(index, one), strict=True)]
    group = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {', '.join([*keys, f'min({ROW}) AS {_FIRST}', *states])} FROM {rows}{group}"


def _unnested(keys: Sequence[str], index: int, name: str, one: Aggregate, *, rough: bool) -> str:
    """Return SQL for one figure over the values that all shards listed, by group."""
    (column,) = state_names(index, one)
    final = filled(one.approximate if rough and one.approximate else one.final, ['"$value"'])
    value = f"{final} AS {quoted(f'$v {name}')}"
    if not keys:
        return f'(SELECT {value} FROM (SELECT unnest({column}) AS "$value" FROM {PARTS}))'
    numbers = f"min({_FIRST}) OVER (PARTITION BY {', '.join(keys)}) AS {_GROUP}"
    values = f'SELECT {_GROUP}, unnest({column}) AS "$value" FROM (SELECT {column}, {numbers} FROM {PARTS})'
    return f"(SELECT {_GROUP}, {value} FROM ({values}) GROUP BY {_GROUP})"


def over(relation: str, sql: str, name: str = ROWS) -> str:
    """Return the SQL with `relation` under the name that the SQL reads."""
    return f"WITH {name} AS NOT MATERIALIZED (SELECT * FROM {relation}) {sql}"
