"""Checks a client's SQL: DuckDB's own parser parses it, and every node is checked before any of it runs.

An expression is one value of one row: no subquery, no window, no aggregate, no parameter. A query (of `table.sql`) is
one SELECT over named tables. Neither may call a function whose result depends on more than its arguments: clocks,
random numbers, settings, sequences, files, the catalog. DuckDB's binder finds other errors (types, unknown names)
later, against the sampled types.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from regather.core.errors import BadRequest
from regather.kinds.table.engine import Engine

Node = Mapping[str, Any]

_PREFIX = "SELECT\n"
_MORE_PARTS = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")
_VALUES = frozenset(
    {"CONSTANT", "COLUMN_REF", "FUNCTION", "OPERATOR", "COMPARISON", "CONJUNCTION", "CAST", "CASE", "BETWEEN",
     "LAMBDA", "LAMBDA_REF", "TYPE"}
)  # fmt: skip
_REFUSED_CLASSES = {
    "SUBQUERY": "a subquery",
    "COLLATE": "a collation, which the values would lose between shard and merge (use lower(x), for example),",
    "WINDOW": "a window function, whose result would depend on the cut",
    "STAR": "a star",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a column by its position",
    "DEFAULT": "DEFAULT",
}
_NOT_OF_ARGUMENTS = frozenset(
    {"random", "setseed", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "now", "today", "transaction_timestamp",
     "get_current_time", "get_current_timestamp", "txid_current", "nextval", "currval", "setval", "sleep_ms",
     "write_log", "getvariable", "in_search_path", "stats", "vector_type", "version", "error", "user",
     "session_user", "age", "unnest", "generate_subscripts", "parse_duckdb_log_message", "json_execute_serialized_sql",
     "query", "query_table", "getenv", "read_text", "read_blob", "glob", "which_secret"}
)  # fmt: skip
_NOT_OF_ARGUMENTS_PREFIXES = ("current_", "pg_", "has_", "duckdb_", "pragma_", "read_", "scan_", "write_")
_CLOCKS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_user"}
)
"""Functions that are written like names. If a column has such a name, a query can give it another one first."""

_ROW_MAKERS = frozenset({"unnest", "range", "generate_series"})
_SPELLINGS = {
    "startswith": "starts_with(text, beginning)",
    "endswith": "ends_with(text, end)",
    "strip": "trim(text)",
    "isnull": "x is null",
    "int": "cast(x as bigint)",
    "float": "cast(x as double)",
    "str": "cast(x as varchar)",
    "col": '"the name" in double quotes',
}
"""Spellings of people who know Python better than SQL, and what to write in SQL."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked value of one row: its SQL, and the names that it reads, in lower case (DuckDB ignores letter case)."""

    sql: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """A checked call `function(arguments) filter (where condition)`; arguments and order are expressions of a row."""

    function: str
    arguments: tuple[Expression, ...]
    distinct: bool = False
    order: tuple[tuple[Expression, str], ...] = ()
    condition: Expression | None = None

    @property
    def names(self) -> frozenset[str]:
        """All names that the call reads."""
        parts = [*self.arguments, *(one for one, _ in self.order), *([self.condition] if self.condition else [])]
        return frozenset().union(*(part.names for part in parts))


@dataclass(slots=True)
class _Walk:
    """What a walk through one expression has found."""

    names: set[str] = field(default_factory=set)


def expression(engine: Engine, text: str, what: str) -> Expression:
    """Return the checked expression; BadRequest names `what` and the place where it is wrong."""
    node = _only_value(engine, text, what)
    return Expression(f"(\n{text}\n)", _names_of(engine, node, what))


def aggregate(engine: Engine, text: str, what: str) -> AggregateCall:
    """Return the checked aggregate call; BadRequest if the text is not exactly one call."""
    node = _only_value(engine, text, what)
    if node["class"] != "FUNCTION" or node.get("is_operator"):
        raise _wrong(what, f"{text!r} is not a call of an aggregate, such as sum(price * qty)")
    arguments = [argument["expression"] for argument in node["arguments"]]
    order = [(_of_node(engine, one["expression"], what), _direction(one)) for one in node["order_bys"]["orders"]]
    condition = node["filter"]
    return AggregateCall(
        node["function_name"].lower(),
        tuple(_of_node(engine, argument, what) for argument in arguments),
        bool(node["distinct"]),
        tuple(order),
        _of_node(engine, condition, what) if condition else None,
    )


def ordering(engine: Engine, text: str, what: str) -> tuple[tuple[Expression, str], ...]:
    """Return the checked items of an ordering such as `a desc, b nulls first`: expression and direction of each."""
    node = _select(engine, f"SELECT 1 ORDER BY\n{text}\n", what, len("SELECT 1 ORDER BY\n"))
    modifiers = node["modifiers"]
    if len(modifiers) != 1 or modifiers[0]["type"] != "ORDER_MODIFIER" or node["from_table"]["type"] != "EMPTY":
        raise _wrong(what, f"{text!r} is not a list of expressions to sort by, such as: total desc, id")
    if any(one["expression"]["class"] == "CONSTANT" for one in modifiers[0]["orders"]):
        raise _wrong(what, f"{text!r} has a constant, which does not sort anything; sort by columns' names")
    return tuple((_of_node(engine, one["expression"], what), _direction(one)) for one in modifiers[0]["orders"])


def values(engine: Engine, text: str, what: str) -> list[Node]:
    """Return the parse trees of a list of values such as `a, b + 1`, unchecked; BadRequest for anything else."""
    node = _select(engine, f"{_PREFIX}{text}\n", what, len(_PREFIX))
    if (
        node["type"] != "SELECT_NODE"
        or node["from_table"]["type"] != "EMPTY"
        or any(node[part] for part in _MORE_PARTS)
    ):
        raise _wrong(what, f"{text!r} is more than a condition")
    found: list[Node] = node["select_list"]
    return found


def parsed(engine: Engine, text: str, what: str) -> Node:
    """Return the parse tree of one SELECT, unchecked."""
    return _select(engine, text, what, 0)


def of_node(engine: Engine, node: Node, what: str) -> Expression:
    """Return the checked expression of a parse tree."""
    return _of_node(engine, node, what)


def everything(node: Any) -> Iterator[Node]:
    """Yield every mapping of a parse tree."""
    return _everything(node)


def query(engine: Engine, text: str, what: str, tables: frozenset[str]) -> None:
    """Check that a text is one SELECT that reads only these tables; BadRequest says what else it does."""
    node = _select(engine, text, what, 0)
    _check_query(engine, node, what, tables)


@lru_cache(maxsize=16)
def takes_whole_rows(engine: Engine, text: str) -> bool:
    """Whether a query takes all columns whatever their names: it has a star, or a table's name as a value."""
    found = list(_everything(_select(engine, text, "map", 0)))
    bases = [one for one in found if one.get("type") == "BASE_TABLE"]
    tables = {name.lower() for one in bases for name in (one["table_name"], one["alias"])}
    references = [one["column_names"][-1].lower() for one in found if one.get("class") == "COLUMN_REF"]
    return not tables.isdisjoint(references) or any(one.get("class") == "STAR" for one in found)


def _check_query(engine: Engine, node: Any, what: str, tables: frozenset[str]) -> None:
    for missing in _unknown_tables(node, tables):
        raise _wrong(what, f"there is no table {missing!r} here; the query can read {', '.join(sorted(tables))}")
    for one in _everything(node):
        kind = one.get("type")
        if kind == "BASE_TABLE" and (one["schema_name"] or one["catalog_name"]):
            raise _wrong(what, f"a table's name must have one part; {one['table_name']!r} has more")
        if kind == "TABLE_FUNCTION" and one["function"]["function_name"].lower() not in _ROW_MAKERS:
            raise _wrong(what, f"{one['function']['function_name']}() is not allowed as a table")
        if one.get("class") == "FUNCTION" and one["function_name"].lower() not in _ROW_MAKERS:
            _check_function(engine, one["function_name"], what, aggregates=True)
        if one.get("class") in ("PARAMETER", "DEFAULT"):
            raise _wrong(what, f"{_REFUSED_CLASSES[one['class']]} is not allowed")
        if one.get("class") == "COLUMN_REF" and one["column_names"][-1].lower() in _CLOCKS:
            raise _wrong(what, f"{one['column_names'][-1]} is not allowed: its result differs each time")
        if kind == "SHOW_REF":
            raise _wrong(what, "only one SELECT is allowed")
        if one.get("sample"):
            raise _wrong(what, "a sample is not allowed: its rows are random")


def _unknown_tables(node: Any, known: frozenset[str]) -> Iterator[str]:
    """Yield the tables that are read but not known. A name in WITH is known in its own query and in the later ones."""
    if isinstance(node, list):
        for entry in node:
            yield from _unknown_tables(entry, known)
    if not isinstance(node, Mapping):
        return
    for entry in node.get("cte_map", {}).get("map", ()):
        known |= {entry["key"].lower()}  # also in its own query: WITH RECURSIVE may do that; DuckDB refuses other uses
        yield from _unknown_tables(entry["value"], known)
    if node.get("type") == "BASE_TABLE" and node["table_name"].lower() not in known:
        yield node["table_name"]
    for key, value in node.items():
        if key != "cte_map":
            yield from _unknown_tables(value, known)


def _only_value(engine: Engine, text: str, what: str) -> Node:
    if not text.strip():
        raise _wrong(what, "the expression is empty")
    node = _select(engine, f"{_PREFIX}{text}\n", what, len(_PREFIX))
    if node["type"] != "SELECT_NODE":  # UNION and the like
        raise _wrong(what, f"{text!r} is more than one expression")
    values = node["select_list"]
    more = any(node[part] for part in _MORE_PARTS) or node["cte_map"]["map"] or node["from_table"]["type"] != "EMPTY"
    if len(values) != 1 or more or values[0]["alias"]:
        raise _wrong(what, f"{text!r} is more than one expression")
    value: Node = values[0]
    return value


def _select(engine: Engine, sql: str, what: str, offset: int) -> Node:
    """Return the parse tree of one SELECT; the client's text begins at `offset` of it."""
    serialized = engine.run("SELECT json_serialize_sql(?)", [sql])[0][0]
    try:
        parsed = json.loads(serialized)
    except RecursionError:  # the parser nests a+b+c to the left, one level for each operator
        raise _wrong(what, "it is nested too deeply; the limit is about 250 operators in a row") from None
    if parsed["error"]:
        raise _wrong(what, _syntax(parsed, sql, offset))
    if len(parsed["statements"]) != 1:
        raise _wrong(what, "there is more than one statement")
    node: Node = parsed["statements"][0]["node"]
    return node


def _syntax(parsed: Mapping[str, Any], sql: str, offset: int) -> str:
    message = parsed["error_message"].splitlines()[0]
    if parsed["error_type"] != "parser":
        return "only one SELECT is allowed"
    place = parsed.get("position")
    text = sql[offset:]
    shown = _shortened(text.strip())
    where = f" at character {max(0, int(place) - offset)} of {shown!r}" if place else ""
    hint = "; write case when ... then ... else ... end" if " if " in text and " else " in text else ""
    return f"{message}{where}{hint}"


def _of_node(engine: Engine, node: Node, what: str) -> Expression:
    statement = {
        "error": False,
        "statements": [{"node": {**_EMPTY_SELECT, "select_list": [{**node, "alias": ""}]}, "named_param_map": []}],
    }
    sql = engine.run("SELECT json_deserialize_sql(?)", [json.dumps(statement)])[0][0]
    return Expression(f"({sql.removeprefix('SELECT ')})", _names_of(engine, node, what))


_EMPTY_SELECT: dict[str, Any] = {
    "type": "SELECT_NODE", "modifiers": [], "cte_map": {"map": []}, "select_list": [],
    "from_table": {"type": "EMPTY", "alias": "", "sample": None}, "where_clause": None, "group_expressions": [],
    "group_sets": [], "aggregate_handling": "STANDARD_HANDLING", "having": None, "sample": None, "qualify": None,
}  # fmt: skip


def _names_of(engine: Engine, node: Node, what: str) -> frozenset[str]:
    walk = _Walk()
    _check_value(engine, node, what, walk, frozenset())
    return frozenset(walk.names)


def _check_value(engine: Engine, node: Node, what: str, walk: _Walk, parameters: frozenset[str]) -> None:
    kind = node["class"]
    if kind not in _VALUES:
        raise _wrong(what, f"{_REFUSED_CLASSES.get(kind, kind.lower())} is not allowed in an expression of one row")
    if kind == "OPERATOR" and node["type"] == "GROUPING_FUNCTION":
        raise _wrong(what, "grouping() is not allowed")
    if kind == "COLUMN_REF":
        name = node["column_names"][0].lower()
        if name not in parameters:
            walk.names.add(name)
        return
    if kind == "FUNCTION":
        _check_function(engine, node["function_name"], what, aggregates=False)
    if kind == "LAMBDA":
        parameters |= {one["column_names"][0].lower() for one in _nodes(node["lhs"], "column_names")}
        _check_value(engine, node["expr"], what, walk, parameters)
        return
    for child in _children(node):
        _check_value(engine, child, what, walk, parameters)


def _check_function(engine: Engine, name: str, what: str, *, aggregates: bool) -> None:
    low = name.lower()
    kinds = _functions(engine).get(low)
    if kinds is None:
        known = f"; SQL has {_SPELLINGS[low]}" if low in _SPELLINGS else ""
        raise _wrong(what, f"there is no function {name}(){known}")
    if low in _NOT_OF_ARGUMENTS or low.startswith(_NOT_OF_ARGUMENTS_PREFIXES):
        raise _wrong(what, f"{name}() is not allowed: its result does not depend on its arguments alone")
    if not aggregates and not kinds & {"scalar", "macro"}:
        raise _wrong(what, f"{name}() takes many rows; use it in `aggregate` only")


@lru_cache(maxsize=1)
def _functions(engine: Engine) -> Mapping[str, set[str]]:
    """Return the names of all functions, with their types: scalar, aggregate, macro, table."""
    found: dict[str, set[str]] = {"count_star": {"aggregate"}}
    for name, kind in engine.run("SELECT DISTINCT function_name, function_type FROM duckdb_functions()"):
        found.setdefault(name.lower(), set()).add(kind)
    return found


def _direction(order: Node) -> str:
    way = {"DESCENDING": "DESC", "ORDER_DESCENDING": "DESC"}.get(order["type"], "ASC")
    nulls = "NULLS FIRST" if "FIRST" in order["null_order"] else "NULLS LAST"
    return f"{way} {nulls}"


def _children(node: Node) -> Iterator[Node]:
    """Yield the expressions directly below an expression."""
    for value in node.values():
        if isinstance(value, Mapping):
            yield from [value] if "class" in value else _children(value)
        elif isinstance(value, list):
            for entry in value:
                if isinstance(entry, Mapping):
                    yield from [entry] if "class" in entry else _children(entry)


def _everything(node: Any) -> Iterator[Node]:
    """Yield every mapping of a parse tree."""
    if isinstance(node, Mapping):
        yield node
        for value in node.values():
            yield from _everything(value)
    elif isinstance(node, list):
        for entry in node:
            yield from _everything(entry)


def _nodes(node: Any, key: str) -> Iterator[Node]:
    return (one for one in _everything(node) if key in one)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _wrong(what: str, why: str) -> BadRequest:
    return BadRequest(f"{what}: {why}", code="bad-option")
