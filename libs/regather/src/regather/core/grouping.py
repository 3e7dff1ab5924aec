"""Neighbouring items in groups of at most so many bytes: what records, transactions and micro-batches are made of."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def groups(items: Iterable[T], size_bytes: Callable[[T], int], max_bytes: int) -> Iterator[list[T]]:
    """Yield the items in order, each group as large as `max_bytes` allows; a larger item is alone in its group."""
    group: list[T] = []
    group_bytes = 0
    for item in items:
        item_bytes = size_bytes(item)
        if group and group_bytes + item_bytes > max_bytes:
            yield group
            group, group_bytes = [], 0
        group.append(item)
        group_bytes += item_bytes
    if group:
        yield group
