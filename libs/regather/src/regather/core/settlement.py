"""Settlement: decides what follows from the execution of a shard. The worker's publisher carries the decision out.

Theory of operation.

The problem: a worker may crash between any two writes, and a shard must neither get lost nor count twice. So the offset
of a shard's record may be committed only when the record that follows it is acked: an outcome, the next attempt, or a
dead letter. Which records these are follows from the shard, the result, the worker's rules and a random number alone.
This module decides it without IO; the publisher does the writing and waits for the acks.

One result goes in, one decision comes out, and it holds everything that the publisher has to write:

    NotRun                      -> Rerun            nothing to publish; no attempt is spent
    Done                        -> Completed        an outcome
    Failed, attempts are left   -> Retried          the next attempt, and the event that this one failed
    Failed for good             -> DeadLettered     a dead letter, and an outcome that points at it
    Failed for good, but its    -> Searched         nothing yet: the worker first searches for bad rows
      rows may be told apart
    bad rows were found         -> DeadLettered     a dead letter for each row, and an outcome of all other rows

An outcome names the offsets of its dead letters, and only the broker can say these. So DeadLettered takes two steps:
the publisher writes `letters` first, and calls `outcome(addresses)` with the addresses from the acks. Nothing else
flows back from the publisher.

Who calls what, when. The publisher calls Settlement.decide() once for each result of a micro-batch, and once for a
shard that crashed another worker or whose payload is gone from the log. After Searched, the worker's row search runs
parts of the shard and never calls decide() again: it ends with rows_dead_lettered() if it found the bad rows, else with
dead_lettered() for the whole shard. Rerun and Searched acknowledge nothing: the shard waits for a slot again.

Rejected for bad rows (ADR 0011): plug-ins that return good rows and errors themselves, because a row that hangs or
crashes returns nothing; each half as a shard of its own on `shards.retry`, because that needs a fold of partial
outcomes.

Source: docs/protocol.md#settling.
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
"""Failures that no single row causes."""


class DeadLetter(NamedTuple):
    """What remains of a shard, or of one `row` of it, that failed for good."""

    shard: Shard
    failure: Failure
    row: int | None = None


class FoundRow(NamedTuple):
    """A bad row: its number, its error, and a shard that has only this row."""

    row: int
    error: AttemptError
    shard: Shard


@dataclass(frozen=True, slots=True)
class Rerun:
    """The shard did not run, or has more to run. It waits for a slot again."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The shard is done."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Retried:
    """The shard failed and has attempts left. Publish `next_attempt`, for any worker, together with `event`."""

    next_attempt: Shard
    event: AttemptFailed


@dataclass(frozen=True, slots=True)
class Searched:
    """The shard failed for good, and its rows may be told apart. Search for its bad rows; this is how it failed."""

    failed: Failed
    error: AttemptError


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The shard or some of its rows failed for good. Publish `letters`, then `outcome()` of their addresses."""

    letters: tuple[DeadLetter, ...]
    outcome: Callable[[Sequence[DeadLetterAddress]], Outcome]

    @property
    def whole(self) -> bool:
        """Whether the whole shard failed."""
        return self.letters[0].row is None


Decision = Rerun | Completed | Retried | Searched | DeadLettered


@dataclass(frozen=True, slots=True)
class Settlement:
    """The rules of one worker: its retry policy, and how many bad rows a search in a shard may find (0: no search)."""

    policy: RetryPolicy
    most_bad_rows: int = 0

    def decide(self, shard: Shard, result: Result, *, worker: str, jitter: float) -> Decision:
        """Decide what follows from `result`. `jitter` in [0, 1) spreads retries; a failure happened on `worker`."""
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
    """Whether a search for bad rows makes sense in a shard that failed for good."""
    return shard.skip and not shard.chained and reason not in _NOT_SEARCHED


def completed(shard: Shard, result: Done) -> Outcome:
    """Return the outcome of a shard that returned. A chained shard returns its output and its carry as one value."""
    output, carry = unpack_step(result.output) if shard.chained else (result.output, b"")
    return Outcome(
        shard.seq, shard.attempt + 1, len(shard.payload), result.started_ms, result.duration_us, output, carry=carry
    )


def attempt_error(shard: Shard, failed: Failed, worker: str) -> AttemptError:
    """Return a failed execution as an entry of the shard's history."""
    duration_ms = failed.duration_us // 1000
    return AttemptError(shard.attempt, failed.reason, failed.error, worker, failed.started_ms, duration_ms)


def dead_lettered(shard: Shard, failed: Failed, error: AttemptError) -> DeadLettered:
    """Return the decision for a whole shard that failed for good."""
    failure = Failure(failed.reason, failed.error, (*shard.history, error))

    def outcome(addresses: Sequence[DeadLetterAddress]) -> Outcome:
        (address,) = addresses
        why = Failure(failure.reason, failure.error, failure.history, address)
        sizes = (len(shard.payload), failed.started_ms, failed.duration_us)
        return Outcome(shard.seq, shard.attempt + 1, *sizes, failure=why)

    return DeadLettered((DeadLetter(shard, failure),), outcome)


def rows_dead_lettered(shard: Shard, output: Done, bad: Sequence[FoundRow]) -> DeadLettered:
    """Return the decision for a shard of which only the `bad` rows failed; `output` is that of all other rows."""
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
