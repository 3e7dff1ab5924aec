"""The logs of level `rules`, and what is true of jobs: no clients, no clocks, no event loop.

Records are values of `core/model.py`, not bytes. One partition of job-events, three of shards (small, bulk, retry).
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from regather.core.checkpoint import CheckpointMark
from regather.core.crash_attribution import Attribution
from regather.core.model import Event, Identity, JobState, OnError, Outcomes, Reason, Shard, Tick
from regather.core.partition_fold import FoldPolicy
from regather.core.status import JobStatus
from simulation.invariants import Invariants

SILENCE_MS = 60_000
POLICY = FoldPolicy(heartbeat_timeout_ms=SILENCE_MS)
PARTITIONS = 3
RETRY = 2


class Fate(IntEnum):
    """What becomes of a shard; `FAILS`, `DEADLY` and their like hold for its first `times` attempts."""

    FINE = 0
    FAILS = 1
    DEADLY = 2
    BAD_ROWS = 3


class Destiny(NamedTuple):
    """A shard's fate: how many attempts it spoils, or which of its rows are bad."""

    fate: Fate
    times: int = 0
    bad_rows: frozenset[int] = frozenset()


FINE = Destiny(Fate.FINE)
ROWS = 8


@dataclass(slots=True)
class Job:
    """One job as its client wants it; every submission of it is the same body."""

    number: int
    destinies: tuple[Destiny, ...]
    on_error: OnError
    max_failed: int | None
    deadline_ms: int
    chained: bool


class Final(NamedTuple):
    """A final in the log of results."""

    owner: Identity
    state: JobState
    reason: Reason | None
    result: bytes
    status: JobStatus


@dataclass(slots=True, eq=False)
class Transaction:
    """A transaction in the log of results; `epoch` is its owner's."""

    epoch: int
    open: bool = True
    committed: bool = False


class Committed(NamedTuple):
    """What the workers' group committed for a partition of shards."""

    offset: int = 0
    attribution: Attribution = Attribution()
    settled: frozenset[int] = frozenset()


class Entry(NamedTuple):
    """One record of job-events."""

    event: Event
    append_ms: int


class Saved(NamedTuple):
    """One record of a checkpoint in the log of checkpoints."""

    event: Event
    mark: CheckpointMark


@dataclass(slots=True)
class Model:
    """All logs, the broker's clock, and the checker's account."""

    chance: random.Random
    invariants: Invariants = field(default_factory=Invariants)
    faults: Counter[str] = field(default_factory=Counter)
    now_ms: int = 1_000_000
    events: list[Entry] = field(default_factory=list)
    shards: tuple[list[Shard], ...] = field(default_factory=lambda: tuple([] for _ in range(PARTITIONS)))
    results: list[tuple[Final, Transaction]] = field(default_factory=list)
    checkpoints: list[tuple[Saved, Transaction]] = field(default_factory=list)
    letters: list[tuple[Identity, int, int | None]] = field(default_factory=list)
    statuses: list[JobStatus] = field(default_factory=list)
    committed: list[Committed] = field(default_factory=lambda: [Committed() for _ in range(PARTITIONS)])
    committed_events: tuple[int, int, int | None] = (0, 0, None)
    """W of the aggregators' group, R, and where its checkpoints begin."""
    epoch: int = 0
    group_owner: object = None
    """Whom the aggregators' group gave the partition to; one before may believe that it still has it."""
    ended: set[Identity] = field(default_factory=set)
    """Jobs whose end was told to the workers."""
    outcomes: set[tuple[Identity, int]] = field(default_factory=set)
    retried: set[tuple[Identity, int, int]] = field(default_factory=set)
    parked: set[tuple[Identity, int]] = field(default_factory=set)
    executed: set[tuple[Identity, int, int]] = field(default_factory=set)
    named_alone: set[tuple[Identity, int, int]] = field(default_factory=set)
    """Attempts that a commit has named as running alone in their worker: only they may be charged with its loss."""
    executions: Counter[tuple[Identity, int, int]] = field(default_factory=Counter)
    destinies: dict[tuple[Identity, int], Destiny] = field(default_factory=dict)
    jobs: dict[Identity, Job] = field(default_factory=dict)
    sealed: list[Identity] = field(default_factory=list)
    """Submissions whose client was told 202."""
    strays: random.Random | None = None
    """Decides when an outcome turns up of a shard that the seal will say does not exist; None: never."""
    trace: list[str] | None = None

    def say(self, *words: object) -> None:
        """Add a line to the trace, if one is wanted."""
        if self.trace is not None:
            self.trace.append(f"{self.now_ms / 1000:10.3f}  " + " ".join(map(str, words)))

    def append(self, event: Event) -> None:
        """Write to job-events."""
        self.events.append(Entry(event, self.now_ms))
        if type(event) is Outcomes:
            self.outcomes.update((event.owner, outcome.seq) for outcome in event.outcomes)
        self.say("job-events", len(self.events) - 1, event)

    def log(self) -> Iterator[tuple[int, Event]]:
        """Job-events, each with the highest append time up to it."""
        log_ms = 0
        for event, append_ms in self.events:
            log_ms = max(log_ms, append_ms)
            yield log_ms, event

    def visible(self) -> int:
        """Where the first open transaction stands in results."""
        return _stable(self.results)

    def visible_checkpoints(self) -> int:
        """The same in checkpoints."""
        return _stable(self.checkpoints)

    def finals(self) -> list[Final]:
        """What a read_committed reader of results gets."""
        return [final for final, transaction in self.results if transaction.committed]

    def settled(self, partition: int, offset: int) -> bool:
        """Whether a shard record needs nobody any more."""
        shard = self.shards[partition][offset]
        owner, seq = shard.owner, shard.seq
        return (
            (owner, seq) in self.outcomes
            or owner in self.ended
            or (owner, seq, shard.attempt + 1) in self.retried
            or (shard.chained and shard.source is None and seq > 0 and (owner, seq) in self.parked)
        )

    def saved_to(self) -> dict[Identity, int]:
        """Of each version the offset below which a whole checkpoint that can be seen holds all of it."""
        found: dict[Identity, int] = {}
        for saved, transaction in self.checkpoints:
            if transaction.committed and saved.mark.next_offset is not None:
                assert not isinstance(saved.event, Tick)
                owner = saved.event.owner
                found[owner] = max(found.get(owner, 0), saved.mark.next_offset)
        return found


def _stable(log: Sequence[tuple[object, Transaction]]) -> int:
    for offset, (_, transaction) in enumerate(log):
        if transaction.open:
            return offset
    return len(log)
