"""Every result of an execution has one decision, and a decision holds all that there is to publish."""

from hypothesis import given
from hypothesis import strategies as st

from regather.core.execution import Done, Failed, NotRun, pack_step
from regather.core.model import (
    MAX_ATTEMPTS,
    AttemptError,
    BadRow,
    DeadLetterAddress,
    Failure,
    Identity,
    JobId,
    Reason,
    Shard,
    SubmissionId,
)
from regather.core.retry import RetryPolicy
from regather.core.settlement import (
    Completed,
    DeadLettered,
    Decision,
    FoundRow,
    Rerun,
    Retried,
    Searched,
    Settlement,
    dead_lettered,
    rows_dead_lettered,
)

OWNER = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
WHERE = DeadLetterAddress(3, 14)
reasons = st.sampled_from(Reason)
jitters = st.floats(0, 1, exclude_max=True)


def shard(attempt: int = 0, **more: object) -> Shard:
    history = tuple(AttemptError(number, Reason.CRASHED, "boom", "w", number, 1) for number in range(attempt))
    return Shard(OWNER, 7, "kind", b"{}", b"abc", attempt=attempt, history=history)._replace(**more)


@st.composite
def failures(draw: st.DrawFn) -> Failed:
    return Failed(draw(reasons), draw(st.text(max_size=9)), 1000, draw(st.integers(0, 10**7)), draw(st.booleans()))


def decided(
    given_shard: Shard, result: Done | Failed | NotRun, jitter: float = 0.5, most_bad_rows: int = 0
) -> Decision:
    return Settlement(RetryPolicy(), most_bad_rows).decide(given_shard, result, worker="w1", jitter=jitter)


def test_what_did_not_run_spends_no_attempt() -> None:
    assert decided(shard(2), NotRun()) == Rerun()


@given(st.binary(), st.binary(), st.integers(0, 3))
def test_an_output_comes_with_its_carry_where_the_job_is_a_chain(output: bytes, carry: bytes, attempt: int) -> None:
    plain, chained = shard(attempt), shard(attempt, chained=True)
    one = decided(plain, Done(output, 5, 6))
    two = decided(chained, Done(pack_step(output, carry), 5, 6))
    assert isinstance(one, Completed)
    assert isinstance(two, Completed)
    assert (one.outcome.output, one.outcome.carry) == (output, b"")
    assert (two.outcome.output, two.outcome.carry) == (output, carry)
    assert one.outcome._replace(output=b"") == two.outcome._replace(output=b"", carry=b"")
    assert one.outcome[:5] == (7, attempt + 1, 3, 5, 6)


@given(st.lists(failures(), min_size=MAX_ATTEMPTS, max_size=MAX_ATTEMPTS), jitters)
def test_a_shard_runs_until_it_failed_for_good_and_keeps_every_error(found: list[Failed], jitter: float) -> None:
    one, errors = shard(), []
    for failed in found:
        errors.append(AttemptError(one.attempt, failed.reason, failed.error, "w1", 1000, failed.duration_us // 1000))
        decision = decided(one, failed, jitter)
        if isinstance(decision, DeadLettered):
            break
        assert isinstance(decision, Retried)
        assert (decision.event.owner, decision.event.seq, decision.event.error) == (OWNER, 7, errors[-1])
        assert 0 <= decision.next_attempt.delay_ms <= RetryPolicy().cap_ms
        one = decision.next_attempt._replace(delay_ms=0)
        assert one == shard()._replace(attempt=len(errors), history=tuple(errors))
    assert isinstance(decision, DeadLettered)
    ((buried, failure, row),) = decision.letters
    assert (buried, row) == (one, None)
    assert failure == Failure(failed.reason, failed.error, tuple(errors))
    outcome = decision.outcome([WHERE])
    assert outcome[:3] == (7, len(errors), 3)
    assert outcome.failure == Failure(failed.reason, failed.error, tuple(errors), WHERE)


@given(failures(), st.booleans(), st.booleans())
def test_rows_are_searched_where_a_job_goes_on_without_them(failed: Failed, skip: bool, chained: bool) -> None:
    one = shard(MAX_ATTEMPTS - 1, skip=skip, chained=chained)
    unsearched = failed.reason in {Reason.WORKER_LOST, Reason.UNREADABLE, Reason.INTERNAL}
    wanted = Searched if skip and not chained and not unsearched else DeadLettered
    assert isinstance(decided(one, failed, most_bad_rows=5), wanted)
    assert isinstance(decided(one, failed), DeadLettered)


def test_each_bad_row_has_a_letter_of_its_own_and_the_outcome_names_its_address() -> None:
    one = shard(3, skip=True)
    errors = [AttemptError(3, Reason.RAISED, text, "w1", 1, 2) for text in ("x" * 300, "y")]
    pieces = [one._replace(payload=b"a"), one._replace(payload=b"b")]
    bad = [FoundRow(4, errors[0], pieces[0]), FoundRow(9, errors[1], pieces[1])]
    decision = rows_dead_lettered(one, Done(b"rest", 5, 6), bad)
    assert [(letter.shard.payload, letter.row) for letter in decision.letters] == [(b"a", 4), (b"b", 9)]
    assert [letter.failure.history[-1] for letter in decision.letters] == errors
    addresses = [DeadLetterAddress(0, 1), DeadLetterAddress(1, 0)]
    outcome = decision.outcome(addresses)
    assert (outcome.output, outcome.failure) == (b"rest", None)
    assert outcome.bad_rows == (
        BadRow(4, Reason.RAISED, "x" * 200, addresses[0]),
        BadRow(9, Reason.RAISED, "y", addresses[1]),
    )


def test_a_lost_worker_is_blamed_by_its_own_name() -> None:
    error = AttemptError(0, Reason.WORKER_LOST, "lost", "other", 1, 2)
    (letter,) = dead_lettered(shard(), Failed(Reason.WORKER_LOST, "lost", 1, 2000), error).letters
    assert letter.failure.history == (error,)
