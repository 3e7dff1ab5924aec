"""Which shard crashed a worker: found out by the next owners of its partition, from the metadata of commits.

An owner that stops in order writes a clean-shutdown flag in its last commit. A lost one does not, and one of its shards may
have crashed it. Each takeover without the flag brings the answer one step closer, and no other shard is blamed:

1. Nothing is known. The records that were there are watched: each is named in a commit before it begins. The
   same holds while an earlier crash is not blamed yet: another record may have crashed the owner that was to do it.
2. Some records were named as running. They are suspects: each runs alone in its worker, and is named as such.
3. One record was named as running alone. It crashed the worker, and spends an attempt.

Source: docs/protocol.md#lost-workers.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple

MAX_NAMED = 100
"""So many offsets are named in each list of a commit; its metadata has room for no more. The others wait their turn."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a commit tells the next owner besides its offset. Offsets are absolute.

    `watched_below`: what lies below is named before it begins. `running`: begun, and named before. `alone_since_ms`: the
    one in `running` was begun then (milliseconds since 1970), while its worker ran nothing else.
    """

    worker: str = ""
    clean_shutdown: bool = True
    watched_below: int = 0
    suspects: frozenset[int] = frozenset()
    running: frozenset[int] = frozenset()
    alone_since_ms: int | None = None


class Crash(NamedTuple):
    """The record at `offset` crashed `worker`; it began at `since_ms`."""

    offset: int
    worker: str
    since_ms: int


class CrashTracker:
    """One partition from one owner's takeover to the next one's. Mutable, without IO."""

    def __init__(self, worker: str, previous: Attribution, *, end: int, settled: Container[int] = ()) -> None:
        """Take over from `previous`, which had `settled` these; `end` is the offset that the next record will get."""
        self._worker = worker
        self._crash = _crash(previous)
        if self._crash is not None and self._crash.offset in settled:
            self._crash = None
        suspects, self._watched_below = set(previous.suspects), previous.watched_below
        if self._crash is not None:
            suspects.discard(self._crash.offset)
        elif not previous.clean_shutdown:
            suspects |= previous.running
        if not previous.clean_shutdown:
            self._watched_below = end
        self._suspects = {offset for offset in suspects if offset not in settled}
        self._running: dict[int, int | None] = {}

    def is_watched(self, offset: int) -> bool:
        """Whether this record has to be named before it begins."""
        return offset < self._watched_below or offset in self._suspects

    def is_suspect(self, offset: int) -> bool:
        """Whether this record has to run alone."""
        return offset in self._suspects

    def crash_at(self, offset: int) -> Crash | None:
        """The crash that this record is to be blamed for."""
        return self._crash if self._crash is not None and self._crash.offset == offset else None

    @property
    def unblamed(self) -> bool:
        """Whether a crash is not blamed on its record yet. Until then a commit names it, and nothing that runs."""
        return self._crash is not None

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
        if self._crash is not None and self._crash.offset == offset:
            self._crash = None

    def attribution(self, committed: int, *, clean_shutdown: bool) -> Attribution:
        """What goes with a commit of the offset `committed`."""
        watched_below = self._watched_below if self._watched_below > committed else 0
        suspects = _first(self._suspects)
        if self._crash is not None:  # not blamed yet: the next owner has to do it
            return Attribution(
                self._crash.worker,
                False,
                watched_below,
                suspects,
                frozenset({self._crash.offset}),
                self._crash.since_ms,
            )
        if clean_shutdown:
            return Attribution(self._worker, True, watched_below, suspects)
        alone = next(iter(self._running.values())) if len(self._running) == 1 else None
        return Attribution(self._worker, False, watched_below, suspects, _first(self._running), alone)


def _crash(previous: Attribution) -> Crash | None:
    if previous.clean_shutdown or previous.alone_since_ms is None or len(previous.running) != 1:
        return None
    (offset,) = previous.running
    return Crash(offset, previous.worker, previous.alone_since_ms)


def _first(offsets: Iterable[int]) -> frozenset[int]:
    return frozenset(sorted(offsets)[:MAX_NAMED])
