"""The counts that keep the code small: lines of modules and functions, imports of a module, names, docstrings.

The imports of a module are the modules of Regather that it imports from, each counted once. More than MAX_IMPORTS say that
it has several reasons to change: give one of them a module of its own.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
MEDIAN_FUNCTION_LINES = (6, 10)
MAX_IMPORTS = 12

COMPOSITION_ROOTS = {
    "services/gateway/src/regather_gateway/app.py",
    "services/shard-worker/src/regather_worker/app.py",
    "services/aggregator/src/regather_aggregator/app.py",
}
"""Each passes every part of its service what the part needs, so each imports them all."""

EMPTY_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "manager", "managers"})
"""Parts of names that do not say what a module is for."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the product by its path."""
    paths = [path for folder in ("libs", "services", "cli") for path in (ROOT / folder).glob("**/src/**/*.py")]
    assert len(paths) > 300
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(paths)}


def lines_of_functions() -> dict[str, int]:
    return {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, module in modules().items()
        for node in ast.walk(module)
        if isinstance(node, Function)
    }


def imports_of(module: ast.Module) -> set[str]:
    nodes = list(ast.walk(module))
    names = {"." * node.level + (node.module or "") for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in names if name.startswith(("regather", "."))}


def docstrings_of(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | Function):
            yield ast.get_docstring(node) or ""


def test_modules_are_short() -> None:
    lines = {path: len((ROOT / path).read_text().splitlines()) for path in modules()}
    assert {path: count for path, count in lines.items() if count > MAX_MODULE_LINES} == {}


def test_functions_are_short() -> None:
    assert {name: lines for name, lines in lines_of_functions().items() if lines > MAX_FUNCTION_LINES} == {}


def test_most_functions_are_a_few_lines_and_not_shreds() -> None:
    least, most = MEDIAN_FUNCTION_LINES
    assert least <= median(lines_of_functions().values()) <= most


def test_modules_import_from_few_others() -> None:
    counts = {path: len(imports_of(module)) for path, module in modules().items()}
    above = {path: count for path, count in counts.items() if count > MAX_IMPORTS}
    assert {path for path in above if path in COMPOSITION_ROOTS} == COMPOSITION_ROOTS
    assert {path: count for path, count in above.items() if path not in COMPOSITION_ROOTS} == {}


def test_no_module_has_an_empty_name() -> None:
    words = {path: set(re.split(r"[/_.]", path.partition("/src/")[2])) for path in modules()}
    assert {path for path, parts in words.items() if parts & EMPTY_NAMES} == set()


def test_no_docstring_only_refers_to_another() -> None:
    texts = {(path, text) for path, module in modules().items() for text in docstrings_of(module)}
    assert {(path, text) for path, text in texts if re.fullmatch(r"See [^\n]+", text)} == set()
