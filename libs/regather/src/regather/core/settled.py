"""The settled shards of one job: outputs, failures, bad rows, the gap-free prefix, and what is not saved yet."""

from collections.abc import Iterator, MutableMapping

from regather.core.model import BadRow, DeadLetterAddress, Failure, Outcome
from regather.core.seq_ranges import SeqRanges, ranges
from regather.core.status import ShardError

MAX_ERROR_CHARS = 1_000
MAX_ROW_ERROR_CHARS = 200


class SettledShards:
    """The first outcome of each shard counts. `outputs` may be any mapping, such as one that keeps them in a file."""

    def __init__(self, outputs: MutableMapping[int, bytes]) -> None:
        self._outputs = outputs
        self._failed: dict[int, ShardError] = {}
        self._damaged: dict[int, tuple[ShardError, ...]] = {}
        """Shards that are done except for some bad rows; `_outputs` holds their outputs, too."""
        self._unsaved: list[int] = []
        self.frontier = 0
        self.output_bytes = 0

    def __len__(self) -> int:
        return len(self._outputs) + len(self._failed)

    def __contains__(self, seq: int) -> bool:
        return seq in self._outputs or seq in self._failed

    @property
    def done(self) -> int:
        """How many shards have an output."""
        return len(self._outputs)

    @property
    def failed(self) -> int:
        """How many shards failed for good."""
        return len(self._failed)

    @property
    def damaged(self) -> int:
        """How many shards are done except for bad rows."""
        return len(self._damaged)

    @property
    def bad_rows(self) -> int:
        """How many rows failed in these shards."""
        return sum(map(len, self._damaged.values()))

    def accept(self, outcome: Outcome) -> bool:
        """Accept an outcome; return False if the shard has one already."""
        seq = outcome.seq
        if seq in self:
            return False
        if outcome.failure is not None:
            self._failed[seq] = shard_error(outcome)
        else:
            self._outputs[seq] = outcome.output
            self.output_bytes += len(outcome.output)
            if outcome.bad_rows:
                self._damaged[seq] = row_errors(outcome)
        self._unsaved.append(seq)
        return True

    def cut(self, shards: int) -> int:
        """Drop the outcomes beyond the job's number of shards; return how many there were."""
        beyond = [seq for seq in (*self._outputs, *self._failed) if seq >= shards]
        for seq in beyond:
            self.output_bytes -= len(self._outputs.pop(seq, b""))
            self._failed.pop(seq, None)
            self._damaged.pop(seq, None)
        self._unsaved = [seq for seq in self._unsaved if seq < shards]
        self.frontier = min(self.frontier, shards)
        return len(beyond)

    def advance_frontier(self) -> None:
        """Move the frontier over all shards that are settled without a gap."""
        while self.frontier in self:
            self.frontier += 1

    def outputs(self, shards: int) -> list[bytes | None]:
        """Return the outputs in sequence order, with None for each shard that failed for good."""
        return [self._outputs.get(seq) for seq in range(shards)]

    def gaps(self) -> SeqRanges:
        """Return the shards that failed for good."""
        return ranges(sorted(self._failed))

    def errors(self) -> Iterator[ShardError]:
        """Yield the errors of shards and rows in sequence order."""
        for seq in sorted((*self._failed, *self._damaged)):
            if seq in self._failed:
                yield self._failed[seq]
            else:
                yield from self._damaged[seq]

    def release(self) -> None:
        """Release the bytes of the outputs: from now on only their number is needed."""
        seqs = list(self._outputs)
        self._outputs.clear()
        self._outputs = dict.fromkeys(seqs, b"")

    def all_saved(self) -> None:
        """Note that a checkpoint holds everything that was accepted so far."""
        self._unsaved.clear()

    def pop_unsaved(self) -> Iterator[Outcome]:
        """Yield what was accepted since the last call, as outcomes that have the same effect on a fold."""
        unsaved, self._unsaved = self._unsaved, []
        for seq in unsaved:
            if seq in self:  # else a seal has said meanwhile that there is no such shard
                yield self._as_outcome(seq)

    def _as_outcome(self, seq: int) -> Outcome:
        error = self._failed.get(seq)
        if error is not None:
            failure = Failure(error.reason, error.error, (), _address(error.dead_letter))
            return Outcome(seq, error.attempts, 0, 0, 0, failure=failure)
        damage = self._damaged.get(seq, ())
        bad_rows = tuple(BadRow(bad.row or 0, bad.reason, bad.error, _address(bad.dead_letter)) for bad in damage)
        attempts = damage[0].attempts if damage else 1
        return Outcome(seq, attempts, 0, 0, 0, self._outputs[seq], bad_rows=bad_rows)


def shard_error(outcome: Outcome) -> ShardError:
    """Return a failed outcome as an entry of the job's document."""
    failure = outcome.failure
    if failure is None:
        raise ValueError(f"shard {outcome.seq} did not fail")
    return ShardError(
        seq=outcome.seq,
        reason=failure.reason,
        error=failure.error[:MAX_ERROR_CHARS],
        attempts=outcome.attempts,
        dead_letter=_pair(failure.dead_letter),
    )


def row_errors(outcome: Outcome) -> tuple[ShardError, ...]:
    """Return the bad rows of an outcome as entries of the job's document."""
    return tuple(
        ShardError(
            outcome.seq, bad.reason, bad.error[:MAX_ROW_ERROR_CHARS], outcome.attempts, _pair(bad.dead_letter), bad.row
        )
        for bad in outcome.bad_rows
    )


def _pair(letter: DeadLetterAddress | None) -> tuple[int, int] | None:
    return (letter.partition, letter.offset) if letter else None


def _address(pair: tuple[int, int] | None) -> DeadLetterAddress | None:
    return DeadLetterAddress(*pair) if pair else None
