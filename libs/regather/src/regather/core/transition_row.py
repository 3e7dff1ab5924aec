"""One row of a state machine's table: what the tables of a job and of a submission are made of."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

Machine = TypeVar("Machine")
State = TypeVar("State")
Instruction = TypeVar("Instruction")


class Row(NamedTuple, Generic[Machine, State, Instruction]):
    """The handler of an event in a state, and the states that the machine may be in afterwards.

    The handler takes the machine and an event of its row's own type, which the type of a mapping cannot express: hence Any.
    """

    apply: Callable[[Machine, Any], Instruction | None]
    leads_to: frozenset[State]


def row(apply: Callable[[Machine, Any], Instruction | None], *leads_to: State) -> Row[Machine, State, Instruction]:
    """Return the row of an event that may lead to these states."""
    return Row(apply, frozenset(leads_to))
