"""The table of a job's states says exactly where each event may lead: no step leaves it, and each entry is reached."""

import random
from pathlib import Path

from property.transition_tables import shown, steps_of

from regather.core.checkpoint import CheckpointMark
from regather.core.job_events import Assembled, InheritedLoaded, JobBroken, JobEvent, Restored
from regather.core.model import (
    Abandoned,
    AttemptError,
    AttemptFailed,
    Cancel,
    Event,
    Failure,
    Identity,
    JobId,
    JobState,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    RecordPlace,
    Redriven,
    Sealed,
    SubmissionId,
    Uploading,
)
from regather.core.reassembly import TRANSITIONS, JobFold

OWNER = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
SHARDS = 3
WALKS, STEPS = 4_000, 14
Step = tuple[JobState, str, JobState]


def outcome(chance: random.Random) -> Outcome:
    failure = Failure(Reason.RAISED, "boom") if chance.random() < 0.2 else None
    return Outcome(chance.randrange(SHARDS), 1, 10, 0, 5, b"x", failure)


def event(chance: random.Random) -> JobEvent:
    seq = chance.randrange(SHARDS)
    sealed = Sealed(OWNER, SHARDS, 10, chance.choice("dddx"))
    outcomes = Outcomes(OWNER, "w", [outcome(chance) for _ in range(chance.randrange(1, 4))])
    parked = Parked(OWNER, seq, RecordPlace("t", 0, seq), 1_000)
    mark = CheckpointMark(0, 0, 0, 0, chance.choice([None, 5]))
    inherited = {one.seq: one for one in (outcome(chance) for _ in range(chance.randrange(4)))}
    saved: list[Event] = [outcomes, sealed, parked]
    ends: list[JobEvent] = [Abandoned(OWNER, "gone"), Cancel(OWNER)]
    choices: list[JobEvent] = [
        Uploading(OWNER, 1),
        sealed,
        sealed,
        outcomes,
        outcomes,
        outcomes,
        AttemptFailed(OWNER, seq, AttemptError(0, Reason.RAISED, "boom", "w", 0, 0)),
        parked,
        InheritedLoaded(inherited, Sealed(OWNER, SHARDS, 10, "d")),
        Restored(chance.choice(saved), mark),
        Assembled(b"x", "text/plain"),
        *chance.sample(ends, chance.randrange(2)),
        *chance.sample([JobBroken(Reason.INTERNAL, ""), JobBroken(Reason.DEADLINE, "")], chance.randrange(2)),
    ]
    return chance.choice(choices)


def walk(chance: random.Random) -> set[Step]:
    """The steps of one job through random events, those without a row left out."""
    opened = Opened(OWNER, "k", b"{}", "", 3_600_000, chance.choice([OnError.FAIL, OnError.SKIP]))
    redriven = Redriven(opened, ((0, 1),), 0, 0) if chance.random() < 0.5 else None
    job, seen = JobFold(opened, offset=0, opened_ms=0, redriven=redriven), set()
    for _ in range(STEPS):
        happens, before = event(chance), job.state
        job.handle(happens, 1)
        if (before, type(happens)) in TRANSITIONS:
            seen.add((before, type(happens).__name__, job.state))
        else:
            assert job.state is before
    return seen


def test_every_step_stands_in_the_table_and_every_entry_is_reached() -> None:
    chance = random.Random(7)
    seen = set().union(*(walk(chance) for _ in range(WALKS)))
    table = steps_of(TRANSITIONS)
    assert seen - table == set()
    assert table - seen == set()


def test_no_event_moves_a_job_that_has_ended() -> None:
    assert [state for state, _ in TRANSITIONS if state.ended] == []


def test_the_protocol_shows_the_table(repository_root: Path) -> None:
    assert shown(TRANSITIONS, JobState) in (repository_root / "docs/protocol.md").read_text()
