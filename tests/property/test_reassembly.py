"""Any order after `opened`, any repeats, foreign submissions and ghosts: the same one outcome."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.core.job_events import Assembled
from regather.core.model import (
    BadRow,
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
    Reason,
    Sealed,
    SubmissionId,
    Tick,
    Uploading,
)
from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather.core.reassembly import Assemble, EmitFinal
from regather.core.seq_ranges import ranges
from regather.core.settled import SettledShards
from regather.core.status import JobStatus

JOB = JobId("00000000-0000-7000-8000-000000000001")
OWNER = Identity(JOB, SubmissionId("00" * 8))
FOREIGN = Identity(JOB, SubmissionId("ff" * 8))
GHOST = Identity(JobId("00000000-0000-7000-8000-00000000dead"), SubmissionId("00" * 8))


def opened(on_error: OnError = OnError.FAIL, owner: Identity = OWNER) -> Opened:
    return Opened(owner, "bytes.digest", b"{}", "", deadline_ms=3_600_000, on_error=on_error)


def done(seq: int, owner: Identity = OWNER, mark: bytes = b"") -> Outcomes:
    return Outcomes(owner, "w", [Outcome(seq, 1, 10, 0, 5, output=mark or f"[{seq}]".encode())])


def dead(seq: int) -> Outcomes:
    failure = Failure(Reason.RAISED, "boom")
    return Outcomes(OWNER, "w", [Outcome(seq, 4, 10, 0, 5, failure=failure)])


class Shell:
    """Carries out the fold's instructions the simplest way: joins at once, emits at once, reads back at once."""

    def __init__(self) -> None:
        self.fold = PartitionFold(FoldPolicy())
        self.finals: list[tuple[JobState, bytes, tuple[tuple[int, int], ...]]] = []
        self.statuses: list[JobStatus] = []
        self.offset = 0

    def feed(self, event: Event, append_ms: int = 1) -> None:
        instructions = self.fold.handle(event, offset=self.offset, append_ms=append_ms)
        self.offset += 1
        while instructions:
            instruction = instructions.pop(0)
            if isinstance(instruction, Assemble):
                parts = [part for part in instruction.job.outputs() if part is not None]
                joined = Assembled(b"".join(parts), "text/plain")
                instructions += self.fold.advance(instruction.job, joined)
            else:
                assert isinstance(instruction, EmitFinal)
                self.emit(instruction)

    def emit(self, final: EmitFinal) -> None:
        status = final.job.status()
        self.statuses.append(status)
        self.finals.append((status.state, final.result, status.gaps))
        self.fold.final_seen(status.owner.job_id, status.owner.version, reopenable=False)


@given(st.integers(1, 12), st.data())
def test_any_order_and_any_repeats_give_one_ordered_result(total: int, data: st.DataObject) -> None:
    events: list[Event] = [*(done(seq) for seq in range(total)), Sealed(OWNER, total, 100, "d"), Uploading(OWNER, 1)]
    noise: list[Event] = [done(seq, owner, b"FOREIGN") for seq in range(total) for owner in (FOREIGN, GHOST)]
    noise += [Sealed(FOREIGN, 1, 1, "x"), opened(owner=FOREIGN), opened(), done(total + 3, mark=b"BEYOND")]
    extra = data.draw(st.lists(st.sampled_from(events + noise), max_size=30))
    history = data.draw(st.permutations(events + extra))
    shell = Shell()
    shell.feed(opened())
    for event in history:
        shell.feed(event)
    expected = b"".join(f"[{seq}]".encode() for seq in range(total))
    assert shell.finals == [(JobState.SUCCEEDED, expected, ())]
    assert shell.fold.open_jobs == 0


@given(st.integers(1, 10), st.sets(st.integers(0, 9)), st.data())
def test_skipped_shards_are_named_as_gaps(total: int, bad: set[int], data: st.DataObject) -> None:
    bad = {seq for seq in bad if seq < total}
    events = [dead(seq) if seq in bad else done(seq) for seq in range(total)] + [Sealed(OWNER, total, 1, "d")]
    shell = Shell()
    shell.feed(opened(OnError.SKIP))
    for event in data.draw(st.permutations(events)):
        shell.feed(event)
    good = b"".join(f"[{seq}]".encode() for seq in range(total) if seq not in bad)
    state = JobState.PARTIAL if bad else JobState.SUCCEEDED
    assert shell.finals == [(state, good, ranges(sorted(bad)))]


@given(st.integers(2, 10), st.data())
def test_one_dead_shard_fails_the_job_once_and_nothing_raises_it_again(total: int, data: st.DataObject) -> None:
    done_ones = [done(seq) for seq in range(1, total)]
    events: list[Event] = [dead(0), *done_ones, Sealed(OWNER, total, 1, "d"), opened(), opened()]
    shell = Shell()
    shell.feed(opened())
    for event in data.draw(st.permutations(events)):
        shell.feed(event)
    assert [state for state, _, _ in shell.finals] == [JobState.FAILED]


def test_the_first_terminal_outcome_of_a_shard_wins() -> None:
    shell = Shell()
    for event in (opened(), done(0, mark=b"first"), done(0, mark=b"second"), Sealed(OWNER, 1, 1, "d")):
        shell.feed(event)
    assert shell.finals == [(JobState.SUCCEEDED, b"first", ())]
    assert shell.fold.dropped["duplicate-outcome"] == 1


def test_a_seal_before_the_outcomes_does_not_end_the_job_early() -> None:
    shell = Shell()
    for event in (opened(), Sealed(OWNER, 2, 1, "d"), done(1)):
        shell.feed(event)
    assert shell.finals == []
    shell.feed(done(0))
    assert shell.finals == [(JobState.SUCCEEDED, b"[0][1]", ())]


def test_a_submission_of_another_upload_gets_the_next_version_only_after_not_sealed() -> None:
    fold = PartitionFold(FoldPolicy())
    fold.final_seen(JOB, 1, reopenable=True)
    fold.handle(opened(), offset=0, append_ms=1)
    assert fold.open_jobs == 0
    fold.handle(opened(owner=OWNER._replace(version=2)), offset=1, append_ms=1)
    assert fold.open_jobs == 1


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_exactly_the_numbers(numbers: set[int]) -> None:
    found = ranges(sorted(numbers))
    assert {n for first, last in found for n in range(first, last + 1)} == numbers
    assert all(b[0] > a[1] + 1 for a, b in pairwise(found))


def ended(*events: Event, **limits: Any) -> tuple[JobState, str]:
    shell = Shell()
    shell.feed(replace(opened(OnError.SKIP), **limits))
    for event in events:
        shell.feed(event)
    assert len(shell.finals) <= 1
    return (shell.finals[0][0], "") if shell.finals else (JobState.RUNNING, "")


SEAL = Sealed(OWNER, 10, 100, "")


def test_more_dead_shards_than_the_budget_allows_end_the_job() -> None:
    assert ended(SEAL, dead(0), dead(1), max_failed=2)[0] is JobState.RUNNING
    assert ended(SEAL, dead(0), dead(1), dead(2), max_failed=2)[0] is JobState.FAILED
    assert ended(SEAL, dead(0), max_failed=0)[0] is JobState.FAILED


def test_a_budget_in_per_cent_waits_for_the_number_of_shards() -> None:
    assert ended(dead(0), dead(1), dead(2), max_failed_pct=20.0)[0] is JobState.RUNNING
    assert ended(dead(0), dead(1), dead(2), SEAL, max_failed_pct=20.0)[0] is JobState.FAILED
    assert ended(dead(0), dead(1), SEAL, max_failed_pct=20.0)[0] is JobState.RUNNING
    assert ended(SEAL, dead(0), dead(1), dead(2), max_failed_pct=20.0)[0] is JobState.FAILED


def damaged(seq: int, *rows: int) -> Outcomes:
    bad = tuple(BadRow(row, Reason.PERMANENT, f"row {row}") for row in rows)
    return Outcomes(OWNER, "w", [Outcome(seq, 1, 10, 0, 5, output=b"[%d]" % seq, bad_rows=bad)])


@given(st.integers(2, 20), st.data())
def test_shards_with_bad_rows_are_in_the_result_and_the_rows_are_named(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, total - 1), min_size=1, max_size=total))
    lost = data.draw(st.sets(st.integers(0, total - 1), max_size=total))
    outcomes = [
        dead(seq) if seq in lost else damaged(seq, 10 * seq, 10 * seq + 3) if seq in bad else done(seq)
        for seq in range(total)
    ]
    shell = Shell()
    shell.feed(opened(OnError.SKIP))
    events: list[Event] = [Sealed(OWNER, total, 10, "d"), *outcomes, *outcomes]
    for event in data.draw(st.permutations(events)):
        shell.feed(event)
    ((_, result, gaps),) = shell.finals
    (status,) = shell.statuses
    assert result == b"".join(b"[%d]" % seq for seq in range(total) if seq not in lost)
    assert gaps == ranges(sorted(lost))
    named = [(seq, row) for seq in sorted(bad - lost) for row in (10 * seq, 10 * seq + 3)]
    assert (status.bad_rows, status.failed) == (len(named), len(lost))
    assert [(error.seq, error.row) for error in status.errors if error.row is not None] == named
    assert [error.seq for error in status.errors] == sorted(error.seq for error in status.errors)
    assert status.state is JobState.PARTIAL


@pytest.mark.parametrize("events", [[damaged(0, 1), damaged(1, 2)], [dead(0), damaged(1, 2)]])
def test_a_shard_with_bad_rows_spends_the_budget_as_a_dead_one_does(events: list[Outcomes]) -> None:
    assert ended(SEAL, *events, max_failed=1)[0] is JobState.FAILED
    assert ended(SEAL, *events, max_failed=2)[0] is JobState.RUNNING
    assert ended(SEAL, *events, max_failed_pct=10.0)[0] is JobState.FAILED


def test_within_the_budget_the_result_is_partial() -> None:
    rest = [done(seq) for seq in range(2, 10)]
    assert ended(SEAL, dead(0), dead(1), *rest, max_failed=2, max_failed_pct=20.0)[0] is JobState.PARTIAL


@given(st.integers(0, 12))
def test_a_cancelled_job_ends_once_wherever_the_word_arrives(at: int) -> None:
    events: list[Event] = [*(done(seq) for seq in range(5)), SEAL, *(done(seq) for seq in range(5, 10))]
    events.insert(at, Cancel(OWNER))
    state, _ = ended(*events)
    assert state is (JobState.CANCELLED if at < len(events) - 1 else JobState.SUCCEEDED)


def test_nobody_cancels_another_submission() -> None:
    assert ended(Cancel(FOREIGN), SEAL)[0] is JobState.RUNNING


def test_the_next_version_may_be_opened_before_the_end_of_the_last_one_was_read_back() -> None:
    fold = PartitionFold(FoldPolicy(heartbeat_timeout_ms=60_000))
    fold.handle(opened(), offset=0, append_ms=1)
    (ended,) = fold.handle(Tick(), offset=1, append_ms=60_001)
    assert isinstance(ended, EmitFinal)
    again = Identity(JOB, SubmissionId("aa" * 8), version=2)
    fold.handle(opened(owner=again), offset=2, append_ms=60_002)
    assert (fold.open_jobs, fold.low_offset(3)) == (2, 0)
    fold.final_seen(JOB, 1, reopenable=True)
    assert (fold.open_jobs, fold.low_offset(3)) == (1, 2)
    fold.handle(done(0, again), offset=3, append_ms=60_003)
    (assemble,) = fold.handle(Sealed(again, 1, 10, "d"), offset=4, append_ms=60_004)
    assert isinstance(assemble, Assemble)
    assert assemble.job.owner == again


def test_a_job_that_is_not_over_is_not_followed_by_its_next_version() -> None:
    fold = PartitionFold(FoldPolicy())
    fold.handle(opened(), offset=0, append_ms=1)
    fold.handle(opened(owner=Identity(JOB, SubmissionId("aa" * 8), version=2)), offset=1, append_ms=2)
    assert (fold.open_jobs, fold.dropped["foreign-submission"]) == (1, 1)


def test_outputs_beyond_the_seal_count_no_bytes() -> None:
    shards = SettledShards({})
    for seq, output in enumerate((b"four", b"sixsix")):
        shards.accept(Outcome(seq, 1, 0, 0, 0, output))
    assert shards.output_bytes == 10
    assert shards.cut(1) == 1
    assert shards.output_bytes == 4


@pytest.mark.parametrize("stranger", [FOREIGN, OWNER._replace(version=2)])
def test_a_final_of_another_submission_or_a_later_version_leaves_an_open_job_open(stranger: Identity) -> None:
    fold = PartitionFold(FoldPolicy())
    fold.handle(opened(), offset=0, append_ms=1)
    assert not fold.final_seen(JOB, stranger.version, reopenable=False, submission=stranger.submission)
    assert (fold.open_jobs, fold.dropped["foreign-final"]) == (1, 1)
    assert fold.final_seen(JOB, OWNER.version, reopenable=False, submission=OWNER.submission)
    assert fold.open_jobs == 0
