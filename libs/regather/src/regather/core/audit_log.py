"""What job-events say of one version of a job. No payload is kept: an output is its length and its digest."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from regather.core.model import DeadLetterAddress, Identity, Opened, Outcome, Outcomes, Sealed

_T = TypeVar("_T")
_LENGTH_BYTES, _DIGEST_BYTES = 8, 16
_MAX_FOREIGN = 10_000
_MERGED = b""


class Fingerprint:
    """Length and digest of an output, 24 bytes, of data that comes in pieces."""

    def __init__(self) -> None:
        self.length = 0
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self.length += len(data)
        self._digest.update(data)

    def value(self) -> bytes:
        """The fingerprint of everything so far."""
        return self.length.to_bytes(_LENGTH_BYTES, "big") + self._digest.digest()


def fingerprint(data: bytes) -> bytes:
    """The fingerprint of data that is there as a whole."""
    print_ = Fingerprint()
    print_.feed(data)
    return print_.value()


def length_of(print_: bytes) -> int:
    """The length that a fingerprint was made of."""
    return int.from_bytes(print_[:_LENGTH_BYTES], "big")


class RowLetter(NamedTuple):
    """A bad row and where its dead letter is said to be."""

    row: int
    letter: DeadLetterAddress | None


class Settled(NamedTuple):
    """The winning outcomes of a version.

    `outputs` are fingerprints by seq, empty where the kind merges; `failed` says where the dead letter is; `damaged` are
    shards in `outputs` that lack some rows.
    """

    outputs: Mapping[int, bytes]
    failed: Mapping[int, DeadLetterAddress | None]
    damaged: Mapping[int, tuple[RowLetter, ...]]


class VersionLog:
    """Mutable, without IO. `joined`: the result is the outputs in order; None where that is not known.

    The first outcome of a shard in log order wins. What others than the owner say is kept apart, to tell whose bytes got
    into a result.
    """

    def __init__(self, opened: Opened, *, opened_ms: int, joined: bool | None) -> None:
        self.opened = opened
        self.owner: Identity = opened.owner
        self.opened_ms = opened_ms
        self.joined = joined
        self.sealed: Sealed | None = None
        self.cancelled = False
        self.executions = 0
        self.duplicates = 0
        self._outputs: dict[int, bytes] = {}
        self._failed: dict[int, DeadLetterAddress | None] = {}
        self._damaged: dict[int, tuple[RowLetter, ...]] = {}
        self._foreign: dict[int, set[bytes]] = {}

    @property
    def due_ms(self) -> int:
        """When its deadline passes, by the log's time."""
        return self.opened_ms + self.opened.deadline_ms

    def take(self, event: Outcomes) -> None:
        """Fold outcomes of the owner."""
        for outcome in event.outcomes:
            history = outcome.failure.history if outcome.failure else ()
            self.executed(max(outcome.attempts, len(history)))
            if outcome.seq in self._outputs or outcome.seq in self._failed:
                self.duplicates += 1
            elif outcome.failure is not None:
                self._failed[outcome.seq] = outcome.failure.dead_letter
            else:
                self._outputs[outcome.seq] = self._print(outcome)
                if outcome.bad_rows:
                    self._damaged[outcome.seq] = tuple(RowLetter(bad.row, bad.dead_letter) for bad in outcome.bad_rows)

    def take_foreign(self, event: Outcomes) -> None:
        """Remember what another submission's outcomes are, in case they got into the result."""
        for outcome in event.outcomes:
            if len(self._foreign) < _MAX_FOREIGN:
                self._foreign.setdefault(outcome.seq, set()).add(self._print(outcome))

    def executed(self, times: int) -> None:
        """Note that a shard was executed so often."""
        self.executions = max(self.executions, times)

    def settled(self, *, whole: bool = True) -> Settled:
        """Return the winning outcomes of this version: of the shards that were sealed, or of all that were heard of.

        The one place where a version made by a redrive takes over what was done in the version before.
        """
        total = self.sealed.shards if self.sealed and whole else None
        return Settled(_below(self._outputs, total), _below(self._failed, total), _below(self._damaged, total))

    def said_by_others(self, seqs: Sequence[int]) -> bool:
        """Whether only other submissions tell of these shards."""
        return bool(seqs) and all(seq in self._foreign for seq in seqs)

    def is_foreign(self, seq: int, print_: bytes) -> bool:
        """Whether this output is another submission's."""
        return print_ in self._foreign.get(seq, ())

    def _print(self, outcome: Outcome) -> bytes:
        return fingerprint(outcome.output) if self.joined else _MERGED


def _below(by_seq: Mapping[int, _T], total: int | None) -> Mapping[int, _T]:
    return by_seq if total is None else {seq: found for seq, found in by_seq.items() if seq < total}
