"""The oracle alone: what of a log counts for a version, and what a final may name."""

from regather.core.model import (
    Event,
    Failure,
    Identity,
    JobId,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Reason,
    Redriven,
    Sealed,
    SubmissionId,
)
from simulation.oracle import SHARD_FAILED, Account, Chain

FIRST = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
AGAIN = FIRST._replace(version=2)


def opened(owner: Identity) -> Opened:
    return Opened(owner, "rows", b"{}", "", 3_600_000, OnError.FAIL)


def outcomes(owner: Identity, seq: int, failure: Failure | None = None) -> Outcomes:
    return Outcomes(owner, "w", [Outcome(seq, 1, 1, 0, 1, failure=failure)])


def read(*events: Event) -> list[Account]:
    return Chain(FIRST.job_id, 60_000).read((0, event) for event in events).accounts


def test_an_outcome_of_a_shard_that_does_not_exist_does_not_count_before_the_seal_nor_behind_it() -> None:
    (account,) = read(
        opened(FIRST), outcomes(FIRST, 0), outcomes(FIRST, 2), Sealed(FIRST, 2, 0, ""), outcomes(FIRST, 3)
    )
    assert (list(account.first), account.complete) == ([0], False)


def test_a_version_that_its_base_ends_may_name_a_shard_that_failed_while_the_base_was_read() -> None:
    boom = Failure(Reason.RAISED, "boom")
    redriven = Redriven(opened(AGAIN), ((1, 1),), origin=0, created_ms=0)
    _, account = read(opened(FIRST), Sealed(FIRST, 2, 0, ""), outcomes(FIRST, 0, boom), redriven, outcomes(AGAIN, 1))
    assert account.decided == SHARD_FAILED
    assert [seq for seq in range(3) if account.outcome(seq)] == [0, 1]


def test_a_job_that_ended_by_itself_names_nothing_that_came_later() -> None:
    boom = Failure(Reason.RAISED, "boom")
    (account,) = read(opened(FIRST), outcomes(FIRST, 0, boom), outcomes(FIRST, 1, boom), Sealed(FIRST, 2, 0, ""))
    assert [seq for seq in range(3) if account.outcome(seq)] == [0]
