"""Aggregates that do not depend on where the rows were cut: whole numbers and exact sums, first and last in order.

Sums of floats are kept exactly, as Shewchuk's non-overlapping partial sums (Adaptive Precision Floating-Point
Arithmetic, 1997), and rounded once in the end, so that any cut gives the same bits as `math.fsum` over all rows.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from regather.core.errors import PermanentError

Value = Any
"""What a cell may hold: text, number, bool, null; in NDJSON lists and objects too."""


class Aggregate(Protocol):
    """One figure of one group. Nulls are not counted in."""

    def add(self, value: Value) -> None:
        """Take the value of the next row."""

    def state(self) -> Value:
        """What merge() of another one needs, as JSON."""

    def merge(self, state: Value) -> None:
        """Take the rows that follow those taken so far."""

    def result(self) -> Value:
        """The figure."""


class Count:
    """How many values there were."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, value: Value) -> None:
        """See Aggregate."""
        self._count += 1

    def state(self) -> Value:
        """See Aggregate."""
        return self._count

    def merge(self, state: Value) -> None:
        """See Aggregate."""
        self._count += state

    def result(self) -> Value:
        """See Aggregate."""
        return self._count


class Sum:
    """Exact sum; a whole number as long as all values are; null without any."""

    def __init__(self) -> None:
        self.count = 0
        self._whole = 0
        self._partials: list[float] = []
        self._special = 0.0
        self._floats = False

    def add(self, value: Value) -> None:
        """See Aggregate; TypeError for what is no number."""
        self.count += 1
        if isinstance(value, int):
            self._whole += value
        elif isinstance(value, float):
            self._add_float(value)
        else:
            raise TypeError(f"{value!r} is no number")

    def state(self) -> Value:
        """See Aggregate. Infinities and NaN travel as text, because JSON has none."""
        return [self.count, self._whole, self._partials, repr(self._special), self._floats]

    def merge(self, state: Value) -> None:
        """See Aggregate."""
        count, whole, partials, special, floats = state
        self.count += count
        self._whole += whole
        self._special += float(special)
        for partial in partials:
            self._add_partial(partial)
        self._floats |= floats

    def result(self) -> Value:
        """See Aggregate."""
        if not self.count:
            return None
        if not self._floats:
            return self._whole
        if self._special != 0.0:
            return self._special
        return math.fsum([*self._partials, *_float_parts(self._whole)])

    def _add_float(self, value: float) -> None:
        self._floats = True
        if math.isfinite(value):
            self._add_partial(value)
        else:
            self._special += value

    def _add_partial(self, x: float) -> None:
        partials, kept = self._partials, 0
        for y in partials:
            if abs(x) < abs(y):
                x, y = y, x
            high = x + y
            low = y - (high - x)
            if low:
                partials[kept] = low
                kept += 1
            x = high
        partials[kept:] = [x]


class Mean(Sum):
    """Exact sum divided by the count; null without any."""

    def result(self) -> Value:
        """See Aggregate."""
        total = super().result()
        return None if total is None else total / self.count


class _Choice:
    """Keeps one of the values."""

    def __init__(self) -> None:
        self._value: Value = None

    def add(self, value: Value) -> None:
        """See Aggregate."""
        self._value = value if self._value is None else self._chosen(self._value, value)

    def state(self) -> Value:
        """See Aggregate."""
        return self._value

    def merge(self, state: Value) -> None:
        """See Aggregate."""
        if state is not None:
            self.add(state)

    def result(self) -> Value:
        """See Aggregate."""
        return self._value

    def _chosen(self, old: Value, new: Value) -> Value:
        raise NotImplementedError


class Min(_Choice):
    """The least value."""

    def _chosen(self, old: Value, new: Value) -> Value:
        return min(old, new)


class Max(_Choice):
    """The greatest value."""

    def _chosen(self, old: Value, new: Value) -> Value:
        return max(old, new)


class First(_Choice):
    """The first value in the order of the rows."""

    def _chosen(self, old: Value, new: Value) -> Value:
        return old


class Last(_Choice):
    """The last value in the order of the rows."""

    def _chosen(self, old: Value, new: Value) -> Value:
        return new


AGGREGATES: Mapping[str, Callable[[], Aggregate]] = {
    "count": Count, "sum": Sum, "mean": Mean, "min": Min, "max": Max, "first": First, "last": Last,
}  # fmt: skip


class Groups:
    """The groups of some rows, in the order in which their first rows stand."""

    def __init__(self, functions: Sequence[str]) -> None:
        self._make = [AGGREGATES[name] for name in functions]
        self._groups: dict[tuple[Value, ...], list[Aggregate]] = {}

    def of(self, key: tuple[Value, ...]) -> list[Aggregate]:
        """Return the aggregates of a group; PermanentError for a key that holds a list or an object."""
        try:
            return self._groups.get(key) or self._begin(key)
        except TypeError as error:
            raise PermanentError(f"group_by: {key!r} cannot be a key: {error}") from error

    def state(self) -> list[Value]:
        """Return what merge() needs, as JSON."""
        return [[key, [one.state() for one in aggregates]] for key, aggregates in self._groups.items()]

    def merge(self, state: list[Value]) -> None:
        """Take the groups of the rows that follow."""
        for key, states in state:
            for aggregate, one in zip(self.of(tuple(key)), states, strict=True):
                aggregate.merge(one)

    def results(self) -> list[tuple[tuple[Value, ...], list[Value]]]:
        """Return key and figures of each group."""
        return [(key, [one.result() for one in aggregates]) for key, aggregates in self._groups.items()]

    def _begin(self, key: tuple[Value, ...]) -> list[Aggregate]:
        self._groups[key] = made = [make() for make in self._make]
        return made


def _float_parts(whole: int) -> list[float]:
    """A whole number as floats that add up to it exactly."""
    parts: list[float] = []
    while whole:
        part = float(whole)
        parts.append(part)
        whole -= int(part)
    return parts
