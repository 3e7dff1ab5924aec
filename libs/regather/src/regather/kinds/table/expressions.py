"""A small language for filters and derived columns: a subset of Python's expressions, checked before it is compiled.

    price * qty > 100 and region in ("EU", "UK")        lower(name)      coalesce(discount, 0)      col("unit price")

Numbers, texts, true, false and null; column names; + - * / // % and comparisons (chains, in, not in); and, or, not;
`a if c else b`; the functions of FUNCTIONS. No attributes, no indexes, no calls of anything else, no powers. A null in
arithmetic or a comparison makes the whole expression null, as in SQL; isnull() and coalesce() see nulls.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

MAX_CHARS = 1_000
_NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Tuple, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not,
    ast.USub, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Compare, ast.Eq, ast.NotEq,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.IfExp, ast.Call,
)  # fmt: skip
_CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}


def _coalesce(*values: object) -> object:
    return next((value for value in values if value is not None), None)


def _substr(text: str, start: int, length: int) -> str:
    return text[start : start + length]


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "abs": abs, "round": round, "int": int, "float": float, "str": str, "len": len, "min": min, "max": max,
    "lower": str.lower, "upper": str.upper, "strip": str.strip, "startswith": str.startswith, "endswith": str.endswith,
    "replace": str.replace, "substr": _substr, "coalesce": _coalesce, "isnull": lambda value: value is None,
}  # fmt: skip
"""What an expression may call."""


class ExpressionError(ValueError):
    """The text is no expression of this language; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. `columns` are the names it reads, in the order of `call`'s arguments."""

    text: str
    columns: tuple[str, ...]
    call: Callable[..., object]

    def evaluate(self, row: Mapping[str, object]) -> object:
        """Return its value for a row, None where a null makes it so; what Python raises for values that do not fit."""
        values = [row.get(name) for name in self.columns]
        try:
            return self.call(*values)
        except (TypeError, AttributeError):
            if None in values:
                return None
            raise


@lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """Compile an expression; ExpressionError if it is none."""
    if len(text) > MAX_CHARS:
        raise ExpressionError(f"the expression has {len(text)} characters; at most {MAX_CHARS}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"{text!r} is no expression: {error}") from error
    names = _Names()
    try:
        checked = ast.fix_missing_locations(names.visit(tree))
        arguments = ", ".join(names.arguments)
        source = f"lambda {arguments}: {ast.unparse(checked)}"
        call = eval(source, {"__builtins__": {}, **_CALLABLES})  # noqa: S307 - every node was checked against _NODES
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise ExpressionError("the expression is nested too deeply") from error
    return Expression(text, tuple(names.columns), call)


_CALLABLES = {f"f_{name}": function for name, function in FUNCTIONS.items()}


class _Names(ast.NodeTransformer):
    """Checks every node, and renames: columns to c0, c1, ..., functions to f_NAME, so that nothing else has a name."""

    def __init__(self) -> None:
        self.columns: list[str] = []

    @property
    def arguments(self) -> list[str]:
        return [f"c{index}" for index in range(len(self.columns))]

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, _NODES):
            raise ExpressionError(f"{_shown(node)} is not part of the language of expressions")
        visited: ast.AST = super().visit(node)
        return visited

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if node.value is not None and not isinstance(node.value, str | int | float):
            raise ExpressionError(f"{node.value!r} is no number and no text")
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in _CONSTANTS:
            return ast.Constant(_CONSTANTS[node.id])
        return self._column(node.id)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if node.keywords:
            raise ExpressionError(f"{name}() takes no named arguments")
        if name == "col":
            if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                return self._column(node.args[0].value)
            raise ExpressionError('col() takes one text: col("unit price")')
        if name not in FUNCTIONS:
            raise ExpressionError(f"there is no function {_shown(node.func)}; there are {', '.join(FUNCTIONS)}, col")
        return ast.Call(
            ast.Name(f"f_{name}", ast.Load()), [cast("ast.expr", self.visit(argument)) for argument in node.args], []
        )

    def _column(self, name: str) -> ast.Name:
        if name not in self.columns:
            self.columns.append(name)
        return ast.Name(f"c{self.columns.index(name)}", ast.Load())


def _shown(node: ast.AST) -> str:
    try:
        return repr(ast.unparse(node))
    except Exception:  # operators alone have no text
        return type(node).__name__
