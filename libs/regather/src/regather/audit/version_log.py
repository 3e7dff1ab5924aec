"""What job-events say about one version of a job. It keeps no payload, only length and digest of each output."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from regather.core.model import (
    AttemptFailed,
    Cancel,
    DeadLetterAddress,
    Event,
    Identity,
    Opened,
    Outcome,
    Outcomes,
    Redriven,
    Sealed,
)
from regather.core.seq_ranges import SeqRanges, contains

_T = TypeVar("_T")
_LENGTH_BYTES, _DIGEST_BYTES = 8, 16
_MAX_FOREIGN = 10_000
_MERGED = b""
_LAST_SEQ = 0xFFFF_FFFF


class Fingerprint:
    """Length and digest, 24 bytes, of an output that comes in pieces."""

    def __init__(self) -> None:
        self.length = 0
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def feed(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        self.length += len(data)
        self._digest.update(data)

    def value(self) -> bytes:
        """Return the fingerprint of all bytes so far."""
        return self.length.to_bytes(_LENGTH_BYTES, "big") + self._digest.digest()


def fingerprint(data: bytes) -> bytes:
    """Return the fingerprint of data that is complete."""
    print_ = Fingerprint()
    print_.feed(data)
    return print_.value()


def length_of(print_: bytes) -> int:
    """Return the length of the data of a fingerprint."""
    return int.from_bytes(print_[:_LENGTH_BYTES], "big")


class RowDeadLetter(NamedTuple):
    """A bad row and the address of its dead letter, as the outcome names it."""

    row: int
    dead_letter: DeadLetterAddress | None


class Settled(NamedTuple):
    """The winning outcomes of a version.

    `outputs` are fingerprints by seq, empty if the kind merges. `failed` has the address of each shard's dead letter.
    `damaged` has the bad rows of shards in `outputs` that lack some rows.
    """

    outputs: Mapping[int, bytes]
    failed: Mapping[int, DeadLetterAddress | None]
    damaged: Mapping[int, tuple[RowDeadLetter, ...]]


class ShardOutcomes:
    """The first outcome of each shard, without payload. Mutable, without IO; an output is a fingerprint if `joined`."""

    def __init__(self, *, joined: bool | None) -> None:
        self.joined = joined
        self.outputs: dict[int, bytes] = {}
        self.failed: dict[int, DeadLetterAddress | None] = {}
        self.damaged: dict[int, tuple[RowDeadLetter, ...]] = {}

    def __contains__(self, seq: int) -> bool:
        return seq in self.outputs or seq in self.failed

    def apply(self, outcome: Outcome) -> None:
        """Add the outcome of a shard that has none yet."""
        if outcome.failure is not None:
            self.failed[outcome.seq] = outcome.failure.dead_letter
            return
        self.outputs[outcome.seq] = self.print(outcome)
        if outcome.bad_rows:
            self.damaged[outcome.seq] = tuple(RowDeadLetter(bad.row, bad.dead_letter) for bad in outcome.bad_rows)

    def print(self, outcome: Outcome) -> bytes:
        """Return what is kept of an output."""
        return fingerprint(outcome.output) if self.joined else _MERGED

    def without(self, seqs: SeqRanges) -> "ShardOutcomes":
        """Return a copy without these shards."""
        kept = ShardOutcomes(joined=self.joined)
        kept.outputs = {seq: found for seq, found in self.outputs.items() if not contains(seqs, seq)}
        kept.failed = {seq: found for seq, found in self.failed.items() if not contains(seqs, seq)}
        kept.damaged = {seq: found for seq, found in self.damaged.items() if not contains(seqs, seq)}
        return kept


class RunVersions:
    """The versions that ran each shard: the first ran all, a later one those of its `redriven`. Mutable, without IO."""

    def __init__(self, first: int) -> None:
        self._seqs: dict[int, SeqRanges] = {first: ((0, _LAST_SEQ),)}

    @property
    def newest(self) -> int:
        """The newest version."""
        return max(self._seqs)

    def add(self, event: Redriven) -> bool:
        """Add a redrive, in log order; return False if it is not the next version."""
        if event.owner.version != self.newest + 1:
            return False
        self._seqs[event.owner.version] = event.seqs
        return True

    def latest(self, seq: int, *, at: int | None = None) -> int:
        """Return the latest version that ran this shard; with `at`, among the versions up to this one."""
        ran = (version for version, seqs in self._seqs.items() if contains(seqs, seq))
        return max(version for version in ran if at is None or version <= at)


class Base(NamedTuple):
    """What a redriven version starts from: the outcomes that stay, and which versions ran which shards."""

    redriven: Redriven
    outcomes: ShardOutcomes
    runs: "RunVersions"


class VersionLog:
    """Mutable, without IO. `joined`: the result is the outputs in order; None if that is unknown.

    The first outcome of a shard in log order wins. Outcomes of other submissions are kept apart, to recognize their
    bytes in a result. With a `base`, this version runs only the shards that the redrive names.
    """

    def __init__(self, opened: Opened, *, opened_ms: int, joined: bool | None, base: Base | None = None) -> None:
        self.opened = opened
        self.owner: Identity = opened.owner
        self.opened_ms = opened_ms
        self.joined = joined
        self.base = base
        self.sealed: Sealed | None = None
        self.cancelled = False
        self.executions = 0
        self.duplicates = 0
        self.unexpected = 0
        """Outcomes of shards that this version does not run."""
        self._outcomes = ShardOutcomes(joined=joined) if base is None else base.outcomes.without(())
        self._foreign: dict[int, set[bytes]] = {}

    @property
    def due_ms(self) -> int:
        """The time when its deadline passes, by the log's time."""
        return self.opened_ms + self.opened.deadline_ms

    def fold(self, event: Event) -> None:
        """Fold one event of the owner; ignore events that do not affect the result."""
        if isinstance(event, Outcomes):
            self.apply(event)
        elif isinstance(event, AttemptFailed):
            self.executed(event.error.attempt + 1)
        elif isinstance(event, Sealed):
            self.sealed = self.sealed or event
        elif isinstance(event, Cancel):
            self.cancelled = True

    def apply(self, event: Outcomes) -> None:
        """Fold outcomes of the owner."""
        for outcome in event.outcomes:
            history = outcome.failure.history if outcome.failure else ()
            self.executed(max(outcome.attempts, len(history)))
            if not self._runs(outcome.seq):
                self.unexpected += 1
            elif outcome.seq in self._outcomes:
                self.duplicates += 1
            else:
                self._outcomes.apply(outcome)

    def apply_foreign(self, event: Outcomes) -> None:
        """Keep what another submission's outcomes are, in case they got into the result."""
        for outcome in event.outcomes:
            if len(self._foreign) < _MAX_FOREIGN:
                self._foreign.setdefault(outcome.seq, set()).add(self._outcomes.print(outcome))

    def executed(self, times: int) -> None:
        """Note that a shard was executed this many times."""
        self.executions = max(self.executions, times)

    def settled(self, *, whole: bool = True) -> Settled:
        """Return the winning outcomes of this version, including those that stay of earlier ones.

        With `whole` and a seal, they are limited to the shards of the seal; else they are all outcomes in the log.
        """
        total, found = self.sealed.shards if self.sealed and whole else None, self._outcomes
        return Settled(_below(found.outputs, total), _below(found.failed, total), _below(found.damaged, total))

    def settled_here(self) -> int:
        """Return how many shards this version itself has settled."""
        settled = self.settled()
        return sum(self._runs(seq) for seq in (*settled.outputs, *settled.failed))

    def source_version(self, seq: int) -> Identity:
        """Return the version whose outcome of this shard counts: this one or an earlier one."""
        if self.base is None:
            return self.owner
        return self.owner._replace(version=self.base.runs.latest(seq, at=self.owner.version))

    def said_by_others(self, seqs: Sequence[int]) -> bool:
        """Whether other submissions have outcomes of all these shards."""
        return bool(seqs) and all(seq in self._foreign for seq in seqs)

    def is_foreign(self, seq: int, print_: bytes) -> bool:
        """Whether another submission has this output for the shard."""
        return print_ in self._foreign.get(seq, ())

    def _runs(self, seq: int) -> bool:
        return self.base is None or contains(self.base.redriven.seqs, seq)


def _below(by_seq: Mapping[int, _T], total: int | None) -> Mapping[int, _T]:
    return by_seq if total is None else {seq: found for seq, found in by_seq.items() if seq < total}
