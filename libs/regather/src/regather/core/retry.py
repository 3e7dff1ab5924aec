"""Decides whether and when a failed shard runs again."""

from dataclasses import dataclass

from regather.core.model import MAX_ATTEMPTS, Reason

MAX_DELAY_MS = 600_000
"""No attempt waits longer than ten minutes, whatever its record says."""

_NEVER_RETRIED = frozenset({Reason.PERMANENT, Reason.UNREADABLE, Reason.RETURNED_TOO_MUCH})
"""Failures that every further attempt would repeat: process() is pure, so the same shard returns the same bytes."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Run again after `delay_ms`."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The shard failed for good."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter: the delay is jitter x min(cap_ms, base_ms x 2^attempt).

    Source of the formula: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    max_attempts: int = MAX_ATTEMPTS
    base_ms: int = 200
    cap_ms: int = 10_000

    def decide(self, reason: Reason, attempt: int, *, retryable: bool, jitter: float) -> Retry | GiveUp:
        """Decide after execution number `attempt` (0 is the first) failed; `jitter` is in [0, 1)."""
        if not retryable or reason in _NEVER_RETRIED or attempt + 1 >= self.max_attempts:
            return GiveUp(reason)
        return Retry(int(jitter * min(self.cap_ms, self.base_ms << attempt)))
