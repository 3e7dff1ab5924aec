"""What the tests of both state machines compare: the steps that a table allows, and its rows as the protocol shows them."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

State = TypeVar("State", bound=StrEnum)
Table = Mapping[tuple[State, type], Any]


def steps_of(table: Table[State]) -> set[tuple[State, str, State]]:
    """Every state, event and next state that the table has."""
    return {(state, kind.__name__, end) for (state, kind), row in table.items() for end in row.leads_to}


def shown(table: Table[State], states: Iterable[State]) -> str:
    """The rows of the table in Markdown, next states in the order of `states`."""
    order = list(states)
    rows = []
    for (state, kind), row in table.items():
        ends = ", ".join(f"`{end.value}`" for end in order if end in row.leads_to)
        rows.append(f"| `{state.value}` | {_words(kind)} | {ends} |")
    return "\n".join(rows)


def _words(kind: type) -> str:
    """`AttemptFailed` as `attempt failed`."""
    return "".join(f" {char.lower()}" if char.isupper() else char for char in kind.__name__).strip()
