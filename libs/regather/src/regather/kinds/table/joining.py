"""Turns the option `join` into SQL: which rows of the side table match a row of the table, and which columns come out.

Theory of operation ------------------- A join does not change the query; it changes the relation that the query reads.
`Join.over()` makes one relation of the shard's rows and the side table, with the columns of both and one row number.
Derive, filter, groups and the merge see only this relation. The number of a joined row is the row's number times the
length of the side table, plus the number of the side row. It is unique, does not depend on the cut, and sorts rows as a
join of the whole files would: the table's rows in their order, and for each of them the matching side rows in theirs.
DuckDB's hash join keeps no order, so output rows that have no other order are sorted by this number.

In a condition, a name without a prefix is a column of the one table that has it. If both tables have it, `shard.x` and
`side.x` tell them apart. The output has one column of each name, so a name of both tables is refused, except as a key:
`shard.id = side.id` makes one column of the two.

DuckDB compares a text with a number by casting the text: '7.4' would equal 7, and one text that is not a number would
fail the job. So a comparison of values of different kinds is refused here, before any shard is sent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from regather.core.errors import BadRequest
from regather.kinds.table import checks
from regather.kinds.table.aggregates import ROW
from regather.kinds.table.checks import Node
from regather.kinds.table.engine import Engine, quoted
from regather.kinds.table.failures import binding_error
from regather.kinds.table.options import TableOptions
from regather.kinds.table.plan import Column, Plan, SidePlan
from regather.kinds.table.reading import empty_relation, no_rows

SIDE_ROW = '"$side_row"'
_SHARD, _SIDE = "shard", "side"
_JOINS = {"left": "LEFT JOIN", "inner": "JOIN", "semi": "SEMI JOIN", "anti": "ANTI JOIN"}
_WHAT = "join"


@dataclass(frozen=True, slots=True)
class Join:
    """A checked join. `names` and `side_names` are the columns that the condition reads, in lower case.

    `columns` are the side table's columns in the output; `side_rows` is its number of rows; `ordered`: the output must
    be sorted by row number.
    """

    condition: str
    how: str
    names: frozenset[str]
    side_names: frozenset[str]
    columns: tuple[str, ...]
    side_rows: int
    ordered: bool

    def over(self, rows: str, side: str) -> str:
        """Return SQL for the joined rows, from SQL for the rows and SQL for the side table."""
        order = f" ORDER BY {ROW}" if self.ordered else ""
        tables = f"{rows} AS {_SHARD} {_JOINS[self.how]} {side} AS {_SIDE} ON (\n{self.condition}\n)"
        if self.how in ("semi", "anti"):
            return f"(SELECT {_SHARD}.* FROM {tables}{order})"
        more = [f"{_SIDE}.{quoted(name)}" for name in self.columns]
        number = f"{_SHARD}.{ROW} * {max(1, self.side_rows)} + coalesce({_SIDE}.{SIDE_ROW}, 0) AS {ROW}"
        columns = ", ".join([f"{_SHARD}.* EXCLUDE ({ROW})", *more, number])
        return f"(SELECT * FROM (SELECT {columns} FROM {tables}){order})"


def join_of(engine: Engine, options: TableOptions, plan: Plan) -> Join | None:
    """Return the join of the options, None if they have none; BadRequest says what is wrong with it."""
    if not options.join:
        if plan.side is not None:
            raise _wrong("the form has a side table, so join must say which of its rows match: join=product = code")
        return None
    if plan.side is None:
        raise no_side("join needs a side table")
    return _Condition(engine, options, plan, plan.side).join()


def no_side(why: str) -> BadRequest:
    """Return the refusal of a job that needs a side table and has none."""
    return BadRequest(
        f"{why}: send a form (multipart/form-data) with a first file called `side`, and the table as its second file",
        code="side-missing",
    )


def reads_table(engine: Engine, text: str, what: str, table: str) -> bool:
    """Whether a query reads a table of this name that no WITH of the query defines."""
    found = list(checks.everything(checks.parsed(engine, text, what)))
    own = {entry["key"].lower() for one in found if "cte_map" in one for entry in one["cte_map"]["map"]}
    return table not in own and any(
        one.get("type") == "BASE_TABLE" and one["table_name"].lower() == table for one in found
    )


def empty_side(side: SidePlan) -> str:
    """Return SQL for a relation with the side table's columns and no rows."""
    fields = [f"CAST(NULL AS {column.type}) AS {quoted(column.name)}" for column in side.columns]
    return f"(SELECT {', '.join([*fields, f'CAST(NULL AS BIGINT) AS {SIDE_ROW}'])} WHERE false)"


class _Condition:
    def __init__(self, engine: Engine, options: TableOptions, plan: Plan, side: SidePlan) -> None:
        self._engine = engine
        self._options = options
        self._plan = plan
        self._side = side
        self._in_shard = {column.name.lower() for column in plan.columns}
        self._in_side = {column.name.lower() for column in side.columns}
        self._unknowable = not plan.columns and plan.format == "ndjson"  # NDJSON without rows has no keys

    def join(self) -> Join:
        text = self._options.join
        nodes = checks.values(self._engine, text, _WHAT)
        keys = [node["column_names"][0] for node in nodes if _is_name(node)]
        if len(keys) == len(nodes):
            condition, names, side_names = self._of_keys(keys)
            equal = frozenset(side_names)
        else:
            if len(nodes) != 1:
                raise _wrong(f"{text!r} is neither one condition nor a list of columns that both tables have")
            condition = text
            names, side_names = self._of_condition(nodes[0])
            equal = frozenset(_equal_names(nodes[0]))
        join = Join(
            condition,
            self._options.join_how,
            names,
            side_names,
            self._columns(equal),
            self._side.rows,
            self._options.joined,
        )
        self._check_types(keys if len(keys) == len(nodes) else [], nodes, join)
        return join

    def _of_keys(self, keys: Sequence[str]) -> tuple[str, frozenset[str], frozenset[str]]:
        low = frozenset(name.lower() for name in keys)
        for name in keys:
            if name.lower() not in self._in_side:
                raise self._missing(name, "in the side table", self._side.columns)
            if name.lower() not in self._in_shard and not self._unknowable:
                raise self._missing(name, "in the table", self._plan.columns)
        both = [f"{_SHARD}.{quoted(name)} = {_SIDE}.{quoted(name)}" for name in keys]
        return " AND ".join(both), low, low

    def _of_condition(self, node: Node) -> tuple[frozenset[str], frozenset[str]]:
        checked = checks.of_node(self._engine, node, _WHAT)
        names, side_names, prefixes = set[str](), set[str](), set[str]()
        for table, name in _prefixed(node):
            prefixes.add(table)
            known, where, columns = (
                (self._in_shard, "in the table", self._plan.columns)
                if table == _SHARD
                else (self._in_side, "in the side table", self._side.columns)
            )
            if name.lower() not in known and not (table == _SHARD and self._unknowable):
                raise self._missing(name, where, columns)
            (names if table == _SHARD else side_names).add(name.lower())
        for name in checked.names - prefixes:
            (side_names if self._is_of_side(name) else names).add(name)
        if not names or not side_names:
            shown = ", ".join(column.name for column in self._side.columns[:20])
            raise _wrong(f"it must compare a column of the table with one of the side table, which has {shown}")
        return frozenset(names), frozenset(side_names)

    def _is_of_side(self, name: str) -> bool:
        in_side = name in self._in_side
        if in_side and name in self._in_shard:
            raise _wrong(f"both tables have a column {name!r}; write {_SHARD}.{name} or {_SIDE}.{name}")
        if not in_side and name not in self._in_shard and not self._unknowable:
            raise self._missing(name, "in either table", [*self._plan.columns, *self._side.columns])
        return in_side

    def _columns(self, equal: frozenset[str]) -> tuple[str, ...]:
        """Return the side table's columns in the output; BadRequest for a name that the table has, too."""
        if self._options.join_how in ("semi", "anti"):
            return ()
        left = [column.name for column in self._side.columns if column.name.lower() not in equal]
        twice = [name for name in left if name.lower() in self._in_shard]
        if twice:
            raise _wrong(
                f"both tables have a column {twice[0]!r}, and the output can have only one; rename the side table's: "
                f'side={{"rename": {{"{twice[0]}": "side_{twice[0]}"}}}}'
            )
        return tuple(left)

    def _check_types(self, keys: Sequence[str], nodes: Sequence[Node], join: Join) -> None:
        """Raise BadRequest if the condition does not bind, is not boolean, or compares values of different kinds."""
        empty = no_rows(join.names) if self._unknowable else empty_relation(self._plan)
        tables = f"{empty} AS {_SHARD}, {empty_side(self._side)} AS {_SIDE}"

        def kind(sql: str) -> str:
            try:
                return self._engine.describe(f"SELECT (\n{sql}\n) AS x FROM {tables}")[0][1]
            except Exception as error:
                raise binding_error(error, _WHAT) from error

        found = kind(join.condition)
        if found not in ("BOOLEAN", '"NULL"'):
            raise _wrong(f"it is {found}; it must be true or false")
        pairs = [(f"{_SHARD}.{quoted(name)}", f"{_SIDE}.{quoted(name)}") for name in keys] or self._compared(nodes)
        for left, right in pairs:
            kinds = kind(left), kind(right)
            if self._side.rows and '"NULL"' not in kinds and _family(kinds[0]) != _family(kinds[1]):
                raise _wrong(
                    f"{left} is {kinds[0]} and {right} is {kinds[1]}, which cannot be compared; give one the type of "
                    'the other: cast for the table, side={"cast": "name:type"} for the side table'
                )

    def _compared(self, nodes: Sequence[Node]) -> Iterator[tuple[str, str]]:
        """Yield SQL for the pairs of values that a condition compares, if both depend on a column."""
        for one in (found for node in nodes for found in checks.everything(node)):
            pairs = []
            if one.get("class") == "COMPARISON":
                pairs = [(one["left"], one["right"])]
            elif one.get("class") == "BETWEEN":
                pairs = [(one["input"], one["lower"]), (one["input"], one["upper"])]
            for left, right in pairs:
                if not _has_parameter(left) and not _has_parameter(right) and _has_name(left) and _has_name(right):
                    yield self._sql(left), self._sql(right)

    def _sql(self, node: Node) -> str:
        if node["class"] == "COLUMN_REF":
            return ".".join(map(quoted, node["column_names"]))
        return checks.of_node(self._engine, node, _WHAT).sql

    def _missing(self, name: str, where: str, columns: Sequence[Column]) -> BadRequest:
        shown = ", ".join(column.name for column in columns[:20]) or "none"
        return BadRequest(f"join: there is no column {name!r} {where}; there are {shown}", code="no-column")


def _is_name(node: Node) -> bool:
    return node["class"] == "COLUMN_REF" and len(node["column_names"]) == 1 and not node["alias"]


def _prefixed(node: Node) -> Iterator[tuple[str, str]]:
    """Yield table (in lower case) and name of the columns that are written with a table's name."""
    for one in checks.everything(node):
        names: Sequence[str] = one["column_names"] if one.get("class") == "COLUMN_REF" else ()
        if len(names) > 1 and names[0].lower() in (_SHARD, _SIDE):
            yield names[0].lower(), names[1]


def _equal_names(node: Node) -> Iterator[str]:
    """Yield the names `x`, in lower case, for which the condition requires `shard.x = side.x`."""
    if node["class"] == "CONJUNCTION" and node["type"] == "CONJUNCTION_AND":
        for child in node["children"]:
            yield from _equal_names(child)
    if node["class"] == "COMPARISON" and node["type"] == "COMPARE_EQUAL":
        found = dict(_prefixed(node))
        plain = node["left"]["class"] == node["right"]["class"] == "COLUMN_REF"
        if plain and len(found) == 2 and found[_SHARD].lower() == found[_SIDE].lower():
            yield found[_SHARD].lower()


def _has_name(node: Node) -> bool:
    return any(one.get("class") == "COLUMN_REF" for one in checks.everything(node))


def _has_parameter(node: Node) -> bool:
    return any(one.get("class") in ("LAMBDA", "LAMBDA_REF") for one in checks.everything(node))


def _family(kind: str) -> str:
    """Return the family of a type; numbers compare with numbers, times with times."""
    if kind.startswith("DECIMAL") or kind.endswith("INT") or kind in ("INTEGER", "UINTEGER", "DOUBLE", "FLOAT"):
        return "number"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return "time"
    return kind


def _wrong(why: str) -> BadRequest:
    return BadRequest(f"{_WHAT}: {why}", code="bad-option")
