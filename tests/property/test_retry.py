"""The retry policy: one execution and at most three retries, delays within their bounds, permanent means never."""

from hypothesis import given
from hypothesis import strategies as st

from regather.core.model import MAX_ATTEMPTS, Reason
from regather.core.retry import GiveUp, Retry, RetryPolicy

TRANSIENT = sorted(set(Reason) - {Reason.PERMANENT, Reason.UNREADABLE, Reason.RETURNED_TOO_MUCH})
jitters = st.floats(0, 1, exclude_max=True)


@given(st.sampled_from(TRANSIENT), st.lists(jitters, min_size=10, max_size=10))
def test_a_shard_that_always_fails_is_executed_four_times(reason: Reason, jitter: list[float]) -> None:
    policy = RetryPolicy()
    executions = 1
    while isinstance(policy.decide(reason, executions - 1, retryable=True, jitter=jitter[executions]), Retry):
        executions += 1
    assert executions == MAX_ATTEMPTS == 4


@given(st.sampled_from(TRANSIENT), st.integers(0, 2), jitters)
def test_a_delay_is_jitter_times_a_power_of_two_with_a_cap(reason: Reason, attempt: int, jitter: float) -> None:
    decision = RetryPolicy(base_ms=200, cap_ms=500).decide(reason, attempt, retryable=True, jitter=jitter)
    assert decision == Retry(int(jitter * [200, 400, 500][attempt]))


@given(st.sampled_from(Reason), st.integers(0, 9), jitters)
def test_what_is_not_retryable_is_never_retried(reason: Reason, attempt: int, jitter: float) -> None:
    assert RetryPolicy().decide(reason, attempt, retryable=False, jitter=jitter) == GiveUp(reason)


@given(st.integers(0, 3), jitters)
def test_what_is_certain_to_fail_again_is_never_retried(attempt: int, jitter: float) -> None:
    for reason in (Reason.PERMANENT, Reason.UNREADABLE, Reason.RETURNED_TOO_MUCH):
        assert RetryPolicy().decide(reason, attempt, retryable=True, jitter=jitter) == GiveUp(reason)
