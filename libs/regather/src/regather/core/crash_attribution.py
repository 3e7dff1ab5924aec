"""Crash attribution: find out which shard crashed a worker, from the metadata of commits.

Theory of operation.

The problem: a shard may end its whole worker (the kernel is out of memory, a signal hits the wrong process). The worker
cannot report it any more. The next owner of the partition has only the last commit, and must blame the shard that did
it without blaming any shard that ran beside it.

An owner that stops in order writes a clean-shutdown flag in its last commit. If the flag is missing, the owner was
lost, and one of its shards may have crashed it. Each takeover without the flag brings the answer one step closer:

1. Watched: nothing is known about the crash. Every record below the partition's end at the takeover is watched, which
   means that a commit names it before it begins. At most eight watched records share a micro-batch.
2. Suspect: a commit named the record as running when the worker was lost. It runs alone in its worker, and the commit
   that names it says since when.
3. Blamed: a commit named the record as running alone when the worker was lost. It crashed the worker and spends an
   attempt (`worker-lost`). No other record is blamed.

Until a crash is blamed and the record is settled, every commit repeats it and names nothing else that runs. If this
owner is lost, too, the next one blames the same record. It also watches all records again, because another one may have
crashed the owner that had to blame the first.

Who calls what, when. The worker makes one CrashTracker for each partition that it takes over, and commits attribution()
before it reads the first record. When a record arrives, crash_at() says whether to publish the blamed attempt instead
of running it. Before a record begins, is_suspect() says whether it has to run alone and is_watched() whether to call
begin() and to commit first. end() follows when it no longer runs, ack() when its follower is acked. Every commit
carries attribution(), and the last one of an orderly stop sets `clean_shutdown`.

Rejected (ADR 0010): running all open records of the partition one at a time after a second loss, which takes over an
hour instead of 16 s with 2 slots and shards of one second; naming every batch even without a loss, which costs tiny
jobs one more round trip; counting takeovers at an unmoved watermark, which these steps do not need.

Source: docs/protocol.md#lost-workers.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple

MAX_NAMED = 100
"""Most offsets in each list of a commit: its metadata has no room for more. A later commit names the others."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a commit says about crashes, for the next owner. Offsets are absolute.

    Records below `watched_below` are named before they begin. `running` are the named records that run. With
    `alone_since_ms`, the one record in `running` began at this time (milliseconds since 1970), and its worker runs
    nothing else.
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
    """The crash attribution of one partition, from one takeover to the next. Mutable, without IO."""

    def __init__(self, worker: str, previous: Attribution, *, end: int, settled: Container[int] = ()) -> None:
        """Take over from `previous`, which settled the offsets `settled`. `end` is the offset of the next record."""
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
        """The crash to blame on this record, None if there is none."""
        return self._crash if self._crash is not None and self._crash.offset == offset else None

    @property
    def unblamed(self) -> bool:
        """Whether a crash is not blamed on its record yet. Until then, commits name it and nothing that runs."""
        return self._crash is not None

    def begin(self, offset: int, alone_since_ms: int | None = None) -> None:
        """Name a record that is about to begin. `alone_since_ms`: from this time on, the worker runs nothing else."""
        self._running[offset] = alone_since_ms

    def end(self, offset: int) -> None:
        """Stop naming a record that no longer runs."""
        self._running.pop(offset, None)

    def ack(self, offset: int) -> None:
        """Forget a record that is settled: it is neither suspect nor to be blamed any more."""
        self.end(offset)
        self._suspects.discard(offset)
        if self._crash is not None and self._crash.offset == offset:
            self._crash = None

    def attribution(self, committed: int, *, clean_shutdown: bool) -> Attribution:
        """Return what a commit of the offset `committed` has to say to the next owner."""
        watched_below = self._watched_below if self._watched_below > committed else 0
        suspects = _first(self._suspects)
        if self._crash is not None:  # not blamed yet: if this owner is lost, the next one has to do it
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
