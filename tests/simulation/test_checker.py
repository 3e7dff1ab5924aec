"""The checker sees what is wrong: each case spoils the logs of a good run, and the invariant meant for it is violated."""

from dataclasses import replace

import pytest

from regather.core.model import Identity, JobId, JobState, Outcomes, SubmissionId
from regather.core.status import JobStatus
from regather.transport.base import Committed, TopicPartition
from simulation import loops, trace
from simulation.ledger import Final

_SEED = 3


@pytest.fixture
def run() -> loops.Run:
    """A run that went well and is not judged yet."""
    trace.silence(cached=False)
    found = loops.Run(_SEED)
    found.play()
    assert not found.invariants.violations
    return found


def violated(run: loops.Run) -> set[str]:
    run.judge()
    return set(run.invariants.violated)


def any_final(run: loops.Run, *states: JobState) -> tuple[tuple[JobId, int], Final]:
    return next((key, finals[0]) for key, finals in run.ledger.finals.items() if finals[0].status.state in states)


def put(run: loops.Run, final: Final, status: JobStatus) -> None:
    run.ledger.finals[status.owner.job_id, status.owner.version] = [Final(final.record, status, final.seen_s)]


def test_a_good_run_violates_nothing(run: loops.Run) -> None:
    assert violated(run) == set()


def test_a_second_final_is_seen(run: loops.Run) -> None:
    key, final = any_final(run, JobState.SUCCEEDED)
    run.ledger.finals[key].append(final)
    assert "I1" in violated(run)


def test_a_final_that_is_missing_is_seen(run: loops.Run) -> None:
    key, _ = any_final(run, JobState.SUCCEEDED)
    del run.ledger.finals[key]
    assert "I1" in violated(run)


def test_a_final_that_one_reader_did_not_see_is_seen(run: loops.Run) -> None:
    run.concurrent.pop()
    assert "I1" in violated(run)


def test_a_wrong_result_is_seen(run: loops.Run) -> None:
    _, final = any_final(run, JobState.SUCCEEDED)
    record = final.record._replace(value=b"something else")
    put(run, replace(final, record=record), final.status)
    assert "I2" in violated(run)


def test_an_end_that_the_log_does_not_allow_is_seen(run: loops.Run) -> None:
    _, final = any_final(run, JobState.SUCCEEDED)
    put(run, final, replace(final.status, state=JobState.EXPIRED))
    assert "I2" in violated(run)


def test_a_final_of_a_job_that_nobody_opened_is_seen(run: loops.Run) -> None:
    _, final = any_final(run, JobState.SUCCEEDED)
    stranger = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
    put(run, final, replace(final.status, owner=stranger))
    assert "I3" in violated(run)


def test_a_dead_letter_that_is_not_there_is_seen(run: loops.Run) -> None:
    _, final = next((key, f[0]) for key, f in run.ledger.finals.items() if f[0].status.errors)
    errors = tuple(replace(error, dead_letter=(0, 10**6)) for error in final.status.errors)
    put(run, final, replace(final.status, errors=errors))
    assert "I4" in violated(run)


def test_an_attempt_that_nobody_executed_is_seen(run: loops.Run) -> None:
    run.installation.executions.began.clear()
    assert "I5" in violated(run)


def test_a_commit_past_an_open_shard_is_seen(run: loops.Run) -> None:
    tp, offset = next((tp, max(shards)) for tp, shards in run.ledger.shards.items() if shards)
    owner = run.ledger.shards[tp][offset].owner
    run.ledger.outcomes.clear()
    run.ledger.ended.clear()
    run.ledger.retries.clear()
    run.ledger.shards[tp][offset + 1] = replace(run.ledger.shards[tp][offset], owner=owner)
    run.commits.committed("workers", {TopicPartition(*tp): Committed(offset + 2, "")})
    assert "I6" in set(run.invariants.violated)


def test_a_status_that_is_not_the_end_is_seen(run: loops.Run) -> None:
    (job_id, _), final = any_final(run, JobState.SUCCEEDED)
    running = replace(final.status, state=JobState.RUNNING)
    run.ledger.last_status[job_id] = {b"key": (0, running)}
    assert "VIEW" in violated(run)


def test_an_outcome_that_disappears_is_seen(run: loops.Run) -> None:
    for events in run.ledger.events.values():
        events[:] = [entry for entry in events if not isinstance(entry.event, Outcomes)]
    assert "I2" in violated(run)
