"""Decides which queued shards run next: the priority lane first, the other one not starved, the jobs of a lane in turn.

Items are queued in groups, and only items of one group share a micro-batch: shards of one job with the same kind,
options and time-out.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Generic, TypeVar

from regather.core.batch_sizer import MAX_BATCH_ITEMS

T = TypeVar("T")

REGULAR_TURN = 8
"""In one of this many turns the regular lane goes first, so that an endless stream of small jobs does not starve it."""

MAX_BATCH_BYTES = 256 * 1024


class Lane(IntEnum):
    """Lanes in the order in which they are served.

    PRIORITY holds the first eight shards of every job, retries and other shards that run again, and released shards.
    REGULAR holds all others.
    """

    PRIORITY = 0
    REGULAR = 1


class LaneQueue(Generic[T]):
    """Queued items by lane and group. Mutable, without IO."""

    def __init__(self) -> None:
        self._lanes: tuple[OrderedDict[Hashable, deque[tuple[T, int]]], ...] = tuple(OrderedDict() for _ in Lane)
        self._turn = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, lane: Lane, group: Hashable, item: T, size_bytes: int) -> None:
        """Queue one item at the end of its group."""
        groups = self._lanes[lane]
        queue = groups.get(group)
        if queue is None:
            queue = groups[group] = deque()
        queue.append((item, size_bytes))
        self._count += 1

    def pop_batch(self, *, idle_slots: int = 1, most_items: Callable[[T], int] | None = None) -> list[T]:
        """Remove and return the next micro-batch: items of one group, at most 64 and 256 KiB, or one larger item alone.

        `most_items` returns the most items of a batch that begins with the given item.

        If several slots are idle and the lane has only one group, the batch holds one slot's share of it: no slot idles
        while another one has a queue.
        """
        lane = self._next_lane()
        if lane is None:
            return []
        groups = self._lanes[lane]
        group, queue = next(iter(groups.items()))
        most = MAX_BATCH_ITEMS if most_items is None else most_items(queue[0][0])
        batch = _pop_front(queue, min(most, _fair_share(len(queue), len(groups), idle_slots)))
        self._count -= len(batch)
        if queue:
            groups.move_to_end(group)
        else:
            del groups[group]
        return batch

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove and return every item for which `unwanted` returns True."""
        removed: list[T] = []
        for groups in self._lanes:
            for group, queue in list(groups.items()):
                for _ in range(len(queue)):
                    entry = queue.popleft()
                    if unwanted(entry[0]):
                        removed.append(entry[0])
                    else:
                        queue.append(entry)
                if not queue:
                    del groups[group]
        self._count -= len(removed)
        return removed

    def _next_lane(self) -> Lane | None:
        if not self._count:
            return None
        self._turn += 1
        regular_first = self._turn % REGULAR_TURN == 0
        order = (Lane.REGULAR, Lane.PRIORITY) if regular_first else (Lane.PRIORITY, Lane.REGULAR)
        return next(lane for lane in order if self._lanes[lane])


def _fair_share(queued: int, groups: int, idle_slots: int) -> int:
    if groups > 1 or idle_slots <= 1:
        return MAX_BATCH_ITEMS
    return max(1, min(MAX_BATCH_ITEMS, -(-queued // idle_slots)))


def _pop_front(queue: deque[tuple[T, int]], limit: int) -> list[T]:
    batch: list[T] = []
    size_bytes = 0
    while queue and len(batch) < limit:
        item, item_bytes = queue[0]
        if batch and size_bytes + item_bytes > MAX_BATCH_BYTES:
            break
        queue.popleft()
        batch.append(item)
        size_bytes += item_bytes
    return batch
