"""What becomes of a shard that was executed: decided here, carried out by the worker's publisher.

A batch of results goes in, one decision for each comes out, and a decision holds everything that there is to publish:

    NotRun                      -> Rerun            nothing to publish; no attempt is spent
    Done                        -> Completed        an outcome
    Failed, attempts are left   -> Retried          the next attempt, and the event that this one failed
    Failed for good             -> DeadLettered     a dead letter, and an outcome that points at it
    Failed for good, but its    -> Searched         nothing yet: its bad rows are looked for first
      rows may be told apart
    bad rows were found         -> DeadLettered     a dead letter a row, and an outcome of all the other rows

An outcome names the offsets of its dead letters, which only the broker knows. So DeadLettered has two steps: its
`letters` are published first, and `outcome(addresses)` is made of what the broker said. Nothing else comes back from
the publisher. Source: docs/protocol.md#settling.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from regather.core.execution import Done, Failed, NotRun, Result, unpack_step
from regather.core.model import (
    AttemptError,
    AttemptFailed,
    BadRow,
    DeadLetterAddress,
    Failure,
    Outcome,
    Reason,
    Shard,
)
from regather.core.retry import GiveUp, RetryPolicy
from regather.core.settled import MAX_ROW_ERROR_CHARS

_NOT_SEARCHED = frozenset({Reason.WORKER_LOST, Reason.UNREADABLE, Reason.INTERNAL})
"""Failures that no single row has caused."""


class DeadLetter(NamedTuple):
    """What stays of a shard, or of one `row` of it, that failed for good."""

    shard: Shard
    failure: Failure
    row: int | None = None


class FoundRow(NamedTuple):
    """A bad row: its number, its error, and the shard with nothing but this row."""

    row: int
    error: AttemptError
    shard: Shard


@dataclass(frozen=True, slots=True)
class Rerun:
    """The shard did not run: it waits for a slot again."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The shard is done."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Retried:
    """The shard failed and has attempts left: `next_attempt` is published for any worker, with `event`."""

    next_attempt: Shard
    event: AttemptFailed


@dataclass(frozen=True, slots=True)
class Searched:
    """The shard failed for good, and its rows may be told apart: the search begins with how it failed."""

    failed: Failed
    error: AttemptError


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The shard failed for good, or some of its rows: `letters`, then `outcome()` with the address of each."""

    letters: tuple[DeadLetter, ...]
    outcome: Callable[[Sequence[DeadLetterAddress]], Outcome]

    @property
    def whole(self) -> bool:
        """Whether the whole shard failed."""
        return self.letters[0].row is None


Decision = Rerun | Completed | Retried | Searched | DeadLettered


@dataclass(frozen=True, slots=True)
class Settlement:
    """The rules of one worker: its retry policy, and up to how many bad rows it looks for in a shard (0: none)."""

    policy: RetryPolicy
    most_bad_rows: int = 0

    def decide(self, shard: Shard, result: Result, *, worker: str, jitter: float) -> Decision:
        """What the execution of a shard comes to. `jitter` in [0, 1) spreads retries; `worker` is blamed for a failure."""
        if isinstance(result, NotRun):
            return Rerun()
        if isinstance(result, Done):
            return Completed(completed(shard, result))
        error = attempt_error(shard, result, worker)
        verdict = self.policy.decide(result.reason, shard.attempt, retryable=result.retryable, jitter=jitter)
        if not isinstance(verdict, GiveUp):
            return Retried(_next_attempt(shard, error, verdict.delay_ms), AttemptFailed(shard.owner, shard.seq, error))
        if self.most_bad_rows and may_search(shard, result.reason):
            return Searched(result, error)
        return dead_lettered(shard, result, error)


def may_search(shard: Shard, reason: Reason) -> bool:
    """Whether it makes sense to look for single bad rows in a shard that failed for good."""
    return shard.skip and not shard.chained and reason not in _NOT_SEARCHED


def completed(shard: Shard, result: Done) -> Outcome:
    """The outcome of a shard that returned; a chained one returned its carry with its output."""
    output, carry = unpack_step(result.output) if shard.chained else (result.output, b"")
    return Outcome(
        shard.seq, shard.attempt + 1, len(shard.payload), result.started_ms, result.duration_us, output, carry=carry
    )


def attempt_error(shard: Shard, failed: Failed, worker: str) -> AttemptError:
    """A failed execution as the shard's history has it."""
    duration_ms = failed.duration_us // 1000
    return AttemptError(shard.attempt, failed.reason, failed.error, worker, failed.started_ms, duration_ms)


def dead_lettered(shard: Shard, failed: Failed, error: AttemptError) -> DeadLettered:
    """A whole shard that failed for good."""
    failure = Failure(failed.reason, failed.error, (*shard.history, error))

    def outcome(addresses: Sequence[DeadLetterAddress]) -> Outcome:
        (address,) = addresses
        why = Failure(failure.reason, failure.error, failure.history, address)
        sizes = (len(shard.payload), failed.started_ms, failed.duration_us)
        return Outcome(shard.seq, shard.attempt + 1, *sizes, failure=why)

    return DeadLettered((DeadLetter(shard, failure),), outcome)


def rows_dead_lettered(shard: Shard, output: Done, bad: Sequence[FoundRow]) -> DeadLettered:
    """A shard whose `bad` rows failed by themselves; `output` is that of all the others."""
    letters = tuple(
        DeadLetter(piece, Failure(error.reason, error.error, (*shard.history, error)), row) for row, error, piece in bad
    )

    def outcome(addresses: Sequence[DeadLetterAddress]) -> Outcome:
        rows = tuple(
            BadRow(row, error.reason, error.error[:MAX_ROW_ERROR_CHARS], address)
            for (row, error, _), address in zip(bad, addresses, strict=True)
        )
        return completed(shard, output)._replace(bad_rows=rows)

    return DeadLettered(letters, outcome)


def _next_attempt(shard: Shard, error: AttemptError, delay_ms: int) -> Shard:
    return shard._replace(attempt=shard.attempt + 1, history=(*shard.history, error), delay_ms=delay_ms)
