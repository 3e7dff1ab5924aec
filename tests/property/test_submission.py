"""The rules of a submission: the table says exactly where each event may lead, and what the shell may write when."""

import random
from pathlib import Path

import pytest
from property.transition_tables import shown, steps_of

from regather.core.submission import (
    TRANSITIONS,
    Acked,
    AggregatorAnswered,
    BodyEnded,
    ClaimRead,
    Doubt,
    FirstShard,
    GivenUp,
    Instruction,
    SealAcked,
    Submission,
    SubmissionEvent,
    SubmissionState,
    Unconfirmed,
)

HEARTBEAT_MS = 10_000
WALKS, STEPS = 4_000, 12
Step = tuple[SubmissionState, str, SubmissionState]


def event(chance: random.Random) -> SubmissionEvent:
    at_ms = chance.randrange(0, 60_000)
    likely: list[SubmissionEvent] = [FirstShard(), ClaimRead(chance.random() < 0.8), Acked(at_ms), BodyEnded()]
    ends: list[SubmissionEvent] = [GivenUp(), Unconfirmed()]
    further: list[SubmissionEvent] = [
        ClaimRead(True, at_ms),
        SealAcked(at_ms),
        AggregatorAnswered(chance.random() < 0.5),
    ]
    return chance.choice([*likely, *likely, *further, *chance.sample(ends, chance.randrange(2))])


def submission(chance: random.Random) -> Submission:
    return Submission(heartbeat_ms=HEARTBEAT_MS, claims=chance.random() < 0.5, opened_before=chance.random() < 0.3)


def walk(chance: random.Random) -> tuple[set[Step], list[Instruction]]:
    """The steps of one submission through random events, and what its shell was told to do, in order."""
    life, seen, told = submission(chance), set(), []
    for _ in range(STEPS):
        happens, before = event(chance), life.state
        instruction = life.handle(happens)
        if (before, type(happens)) in TRANSITIONS:
            seen.add((before, type(happens).__name__, life.state))
        else:
            assert life.state is before
            assert instruction is None
        if instruction is not None:
            told.append(instruction)
    return seen, told


def test_every_step_stands_in_the_table_and_every_entry_is_reached() -> None:
    chance = random.Random(7)
    seen: set[Step] = set().union(*(walk(chance)[0] for _ in range(WALKS)))
    table = steps_of(TRANSITIONS)
    assert seen - table == set()
    assert table - seen == set()


def test_no_event_moves_a_submission_that_has_ended() -> None:
    assert [state for state, _ in TRANSITIONS if state.ended] == []


def test_every_open_state_knows_what_to_do_without_an_ack() -> None:
    assert {state for state in SubmissionState if (state, Unconfirmed) not in TRANSITIONS} == {
        state for state in SubmissionState if state.ended
    }


def test_a_job_is_opened_before_it_is_sealed_and_nothing_follows_its_end() -> None:
    chance = random.Random(11)
    for _ in range(WALKS):
        told = walk(chance)[1]
        assert len(told) == len(set(told))
        if Instruction.SEAL in told:
            assert Instruction.OPEN in told[: told.index(Instruction.SEAL)]
        for last in (Instruction.GIVE_WAY, Instruction.ABANDON, Instruction.DISCARD_PRODUCER):
            assert last not in told or told[-1] is last


def test_a_submission_with_a_claim_opens_the_job_only_if_its_claim_is_first() -> None:
    for first, then in ((True, Instruction.OPEN), (False, Instruction.GIVE_WAY)):
        life = Submission(heartbeat_ms=HEARTBEAT_MS, claims=True)
        assert life.handle(FirstShard()) is Instruction.CLAIM
        assert life.handle(ClaimRead(first)) is then


def test_one_without_a_claim_opens_the_job_at_once() -> None:
    assert Submission(heartbeat_ms=HEARTBEAT_MS).handle(FirstShard()) is Instruction.OPEN


@pytest.mark.parametrize(
    ("acked_ms", "sealed_ms", "missed"),
    [
        ([0, 10_000, 20_000], 40_000, False),
        ([0, 10_000, 20_000], 40_001, True),
        ([0, 21_000], 22_000, True),
        ([], 1_000_000, False),
        ([15_000, 0, 30_000], 35_000, False),  # acks may arrive in any order
    ],
)
def test_a_gap_of_more_than_two_heartbeats_puts_the_seal_in_doubt(
    acked_ms: list[int], sealed_ms: int, missed: bool
) -> None:
    life = Submission(heartbeat_ms=HEARTBEAT_MS)
    life.handle(FirstShard())
    for at_ms in acked_ms:
        life.handle(Acked(at_ms))
    life.handle(BodyEnded())
    assert life.handle(SealAcked(sealed_ms)) is (Instruction.AWAIT_AGGREGATOR if missed else None)
    assert life.state is (SubmissionState.IN_DOUBT if missed else SubmissionState.SEALED)
    assert life.doubt is (Doubt.HEARTBEAT_MISSED if missed else None)


def test_a_version_that_another_submission_may_have_opened_waits_for_the_aggregator() -> None:
    for in_time, state in ((True, SubmissionState.SEALED), (False, SubmissionState.UNKNOWN)):
        life = Submission(heartbeat_ms=HEARTBEAT_MS, claims=True, opened_before=True)
        for happens in (FirstShard(), ClaimRead(True), BodyEnded()):
            life.handle(happens)
        assert life.handle(SealAcked(5)) is Instruction.AWAIT_AGGREGATOR
        assert life.doubt is Doubt.OPENED_BEFORE
        life.handle(AggregatorAnswered(in_time))
        assert life.state is state


def test_abandoned_is_written_only_where_the_job_may_have_been_opened() -> None:
    for state in SubmissionState:
        row = TRANSITIONS.get((state, GivenUp))
        if row is not None:
            opened = state in (SubmissionState.OPEN, SubmissionState.SEALING)
            assert row.leads_to == {SubmissionState.ABANDONED if opened else SubmissionState.REFUSED}


def test_the_protocol_shows_the_table(repository_root: Path) -> None:
    assert shown(TRANSITIONS, SubmissionState) in (repository_root / "docs/protocol.md").read_text()
