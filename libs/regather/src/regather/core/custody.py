"""What the owner of a shard partition tells the next one, and what that one makes of it.

An owner that leaves in order says farewell in its last commit. One that is lost does not, and one of its shards may have
taken it along. Which one is found out in three steps, each a takeover without a farewell, and nobody else is charged:

1. Nothing is known. The records that were there by then are watched: each is named in a commit before it begins.
   So it is where a loss is not charged yet: whoever was to charge it may have been taken along by another record.
2. Some were named as running. They are suspects: each runs alone in its worker, and is named as such.
3. One was named as running alone. It did it, and spends an attempt.

Source: docs/protocol.md#lost-workers.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple

MAX_NAMED = 100
"""So many offsets are named in each list of a commit; its metadata has room for no more. The others wait their turn."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What a commit says besides its offset. Offsets are absolute.

    `watched_below`: what lies below is named before it begins. `running`: begun, and named before. `alone_since_ms`: the
    one in `running` was begun then (milliseconds since 1970), while its worker ran nothing else.
    """

    worker: str = ""
    farewell: bool = True
    watched_below: int = 0
    suspects: frozenset[int] = frozenset()
    running: frozenset[int] = frozenset()
    alone_since_ms: int | None = None


class Loss(NamedTuple):
    """The record at `offset` took `worker` along; it began at `since_ms`."""

    offset: int
    worker: str
    since_ms: int


class Custody:
    """One partition from its takeover to its handover. Mutable, without IO."""

    def __init__(self, worker: str, previous: Handover, *, end: int, settled: Container[int] = ()) -> None:
        """Take over from `previous`, which had `settled` these; `end` is the offset that the next record will get."""
        self._worker = worker
        self._loss = _loss(previous)
        if self._loss is not None and self._loss.offset in settled:
            self._loss = None
        suspects, self._watched_below = set(previous.suspects), previous.watched_below
        if self._loss is not None:
            suspects.discard(self._loss.offset)
        elif not previous.farewell:
            suspects |= previous.running
        if not previous.farewell:
            self._watched_below = end
        self._suspects = {offset for offset in suspects if offset not in settled}
        self._running: dict[int, int | None] = {}

    def is_watched(self, offset: int) -> bool:
        """Whether this record has to be named before it begins."""
        return offset < self._watched_below or offset in self._suspects

    def is_suspect(self, offset: int) -> bool:
        """Whether this record has to run alone."""
        return offset in self._suspects

    def loss_at(self, offset: int) -> Loss | None:
        """The loss that this record is to be charged with."""
        return self._loss if self._loss is not None and self._loss.offset == offset else None

    @property
    def owes(self) -> bool:
        """Whether a loss is not charged yet. Until it is, a handover tells of it and of nothing that runs."""
        return self._loss is not None

    def begin(self, offset: int, alone_since_ms: int | None = None) -> None:
        """Name a record that is about to begin; a time says that nothing else runs in this worker."""
        self._running[offset] = alone_since_ms

    def end(self, offset: int) -> None:
        """It does not run any more."""
        self._running.pop(offset, None)

    def settle(self, offset: int) -> None:
        """It is settled: nothing more has to be known of it."""
        self.end(offset)
        self._suspects.discard(offset)
        if self._loss is not None and self._loss.offset == offset:
            self._loss = None

    def handover(self, committed: int, *, farewell: bool) -> Handover:
        """What goes with a commit of the offset `committed`."""
        watched_below = self._watched_below if self._watched_below > committed else 0
        suspects = _first(self._suspects)
        if self._loss is not None:  # not charged yet: whoever comes next has to do it
            return Handover(
                self._loss.worker, False, watched_below, suspects, frozenset({self._loss.offset}), self._loss.since_ms
            )
        if farewell:
            return Handover(self._worker, True, watched_below, suspects)
        alone = next(iter(self._running.values())) if len(self._running) == 1 else None
        return Handover(self._worker, False, watched_below, suspects, _first(self._running), alone)


def _loss(previous: Handover) -> Loss | None:
    if previous.farewell or previous.alone_since_ms is None or len(previous.running) != 1:
        return None
    (offset,) = previous.running
    return Loss(offset, previous.worker, previous.alone_since_ms)


def _first(offsets: Iterable[int]) -> frozenset[int]:
    return frozenset(sorted(offsets)[:MAX_NAMED])
