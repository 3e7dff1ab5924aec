"""The table of `docs/operations/mutants.md`: a row for each broken build, with what catches it."""

from collections.abc import Iterable

from mutants import tree
from mutants.patches import Mutant, parse

PAGE = tree.ROOT / "docs/operations/mutants.md"
_ROW = "| `"


def rows_of(text: str) -> list[str]:
    """Return the table's rows in a page's text."""
    return [line for line in text.splitlines() if line.startswith(_ROW)]


def rows() -> list[str]:
    """Return the rows that the headers of the patches give."""
    mutants = (parse(path.stem, path.read_text()) for path in sorted(tree.PATCHES.glob("*.patch")))
    return [_row(mutant) for mutant in mutants]


def with_rows(text: str, new: Iterable[str]) -> str:
    """Return the page's text with each row replaced by the new one of the same mutant."""
    by_name = {_name(row): row for row in new}
    lines = (by_name.get(_name(line), line) if line.startswith(_ROW) else line for line in text.splitlines())
    return "\n".join(lines) + "\n"


def _row(mutant: Mutant) -> str:
    return f"{_ROW}{mutant.name}` | {mutant.breaks} | {mutant.invariant} | {mutant.level} {mutant.seed} |"


def _name(row: str) -> str:
    return row.split("`")[1]
