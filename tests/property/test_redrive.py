"""A redriven job ends once, with the outcomes that stay and those that run again, in whatever order they arrive."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.core.job_events import Assembled, InheritedLoaded, JobBroken
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
    Redriven,
    Sealed,
    SubmissionId,
)
from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather.core.reassembly import Assemble, EmitFinal, Instruction, LoadInherited
from regather.core.redrive import VersionHistory
from regather.core.seq_ranges import contains, count, merged, numbers, ranges

FIRST = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))
OPENED = Opened(FIRST, "bytes.digest", b"{}", "", deadline_ms=3_600_000, on_error=OnError.SKIP)


def version(number: int) -> Identity:
    return FIRST._replace(version=number)


def outcome(seq: int, number: int, what: str) -> Outcomes:
    failure = Failure(Reason.RAISED, "boom") if what == "failed" else None
    bad_rows = (BadRow(seq, Reason.PERMANENT, "no"),) if what == "damaged" else ()
    output = b"" if failure else b"[%d.%d]" % (seq, number)
    return Outcomes(version(number), "w", [Outcome(seq, 1, 10, 0, 5, output, failure, bad_rows=bad_rows)])


def redrive(number: int, seqs: tuple[tuple[int, int], ...]) -> Redriven:
    opened = Opened(version(number), "bytes.digest", b"{}", "", deadline_ms=3_600_000, on_error=OnError.SKIP)
    return Redriven(opened, seqs, origin=0, created_ms=7)


class Log:
    """A partition of job-events and a shell that folds it; loads bases and reads finals back when it is told to."""

    def __init__(self) -> None:
        self.records: list[Event] = []
        self.fold = PartitionFold(FoldPolicy())
        self.finals: dict[int, tuple[JobState, bytes]] = {}
        self.ended: dict[int, JobBroken | None] = {}
        self.bases: list[LoadInherited] = []
        self.unread: list[Identity] = []

    def append(self, event: Event) -> None:
        self.records.append(event)
        self.carry_out(self.fold.handle(event, offset=len(self.records) - 1, append_ms=1))

    def carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, LoadInherited):
                self.bases.append(instruction)
            elif isinstance(instruction, Assemble):
                joined = b"".join(part for part in instruction.job.outputs() if part is not None)
                self.carry_out(self.fold.advance(instruction.job, Assembled(joined, "")))
            elif isinstance(instruction, EmitFinal):
                owner = instruction.job.owner
                assert owner.version not in self.finals, "a second final"
                self.finals[owner.version] = (instruction.job.state, instruction.result)
                self.ended[owner.version] = instruction.job.broken
                self.unread.append(owner)

    def read_back(self) -> None:
        unread, self.unread = self.unread, []
        for owner in unread:
            self.fold.final_seen(owner.job_id, owner.version, reopenable=False, submission=owner.submission)

    def load_bases(self) -> None:
        bases, self.bases = self.bases, []
        for base in bases:
            versions = VersionHistory(FIRST, keep_outputs=True)
            for event in self.records[base.first : base.end]:
                versions.apply(event)
            self.carry_out(self.fold.advance(base.job, InheritedLoaded(versions.outcomes, versions.sealed)))


WHATS = st.sampled_from(["done", "failed", "damaged"])


@given(st.integers(1, 12), st.data())
def test_every_version_ends_once_and_has_the_newest_say_on_each_shard(total: int, data: st.DataObject) -> None:
    log = Log()
    log.append(OPENED)
    say = {seq: (1, data.draw(WHATS)) for seq in range(total)}
    first = [outcome(seq, 1, what) for seq, (_, what) in say.items()]
    submitted: list[Event] = [*first, Sealed(FIRST, total, 10, "d")]
    for event in data.draw(st.permutations(submitted)):
        log.append(event)
    for number in range(2, data.draw(st.integers(2, 4)) + 1):
        seqs = ranges(sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1))))
        say |= {seq: (number, data.draw(WHATS)) for seq in numbers(seqs)}
        log.append(redrive(number, seqs))
        events = [outcome(seq, number, say[seq][1]) for seq in numbers(seqs)]
        zombies = [outcome(seq, number - 1, "done") for seq in range(total)]
        uninvited = [outcome(seq, number, "done") for seq in range(total) if not contains(seqs, seq)]
        late: list[Event] = [redrive(number, ((0, total - 1),)), Sealed(version(number), total, 10, "d")]
        log.read_back() if data.draw(st.booleans()) else None
        mixed: list[Event] = [*events, *events, *zombies, *uninvited, *late]
        for event in data.draw(st.permutations(mixed)):
            log.append(event)
            steps: list[Callable[[], object]] = [log.read_back, log.load_bases, list]
            data.draw(st.sampled_from(steps))()
        log.read_back()
        log.load_bases()
        state, result = log.finals[number]
        assert result == b"".join(b"[%d.%d]" % (seq, at) for seq, (at, what) in sorted(say.items()) if what != "failed")
        whole = all(what == "done" for _, what in say.values())
        assert state is (JobState.SUCCEEDED if whole else JobState.PARTIAL)
        log.read_back() if data.draw(st.booleans()) else None
    log.read_back()
    assert log.fold.open_jobs == 0


FOREIGN = FIRST._replace(submission=SubmissionId("ff" * 8))


@pytest.mark.parametrize("read_back", [False, True])
def test_a_redrive_by_another_submission_is_dropped_and_counted(read_back: bool) -> None:
    log = Log()
    for event in (OPENED, outcome(0, 1, "failed"), Sealed(FIRST, 1, 10, "d")):
        log.append(event)
    if read_back:
        log.read_back()
    foreign = redrive(2, ((0, 0),))
    log.append(replace(foreign, opened=replace(foreign.opened, owner=FOREIGN._replace(version=2))))
    assert log.bases == []
    assert log.fold.dropped["foreign-submission"] == 1
    log.append(redrive(2, ((0, 0),)))
    assert [base.job.owner for base in log.bases] == [version(2)]


@pytest.mark.parametrize("base_first", [False, True])
@pytest.mark.parametrize("seal", [(1, 20, "d"), (2, 21, "d"), (2, 20, "other"), (3, 20, "d")])
def test_a_redrive_that_is_sealed_otherwise_than_its_first_version_ends_as_internal(
    seal: tuple[int, int, str], base_first: bool
) -> None:
    log = Log()
    for event in (OPENED, outcome(0, 1, "done"), outcome(1, 1, "failed"), Sealed(FIRST, 2, 20, "d")):
        log.append(event)
    log.read_back()
    log.append(redrive(2, ((1, 1),)))
    if base_first:
        log.load_bases()
    log.append(Sealed(version(2), *seal))
    log.load_bases()
    assert log.finals[2] == (JobState.FAILED, b"")
    broken = log.ended[2]
    assert broken is not None
    assert broken.reason is Reason.INTERNAL


def test_a_redrive_of_a_job_that_nobody_opened_is_no_job() -> None:
    fold = PartitionFold(FoldPolicy())
    (load,) = fold.handle(redrive(2, ((0, 0),)), offset=3, append_ms=1)
    assert isinstance(load, LoadInherited)
    assert (fold.open_jobs, fold.low_offset(4)) == (1, 3)
    fold.unfounded(load.job)
    assert (fold.open_jobs, fold.low_offset(4), fold.dropped["unknown-job"]) == (0, 4, 1)
    assert fold.pop_changed() == []


@given(st.sets(st.integers(0, 200)))
def test_ranges_hold_exactly_their_numbers(chosen: set[int]) -> None:
    seqs = ranges(sorted(chosen))
    assert set(numbers(seqs)) == chosen
    assert count(seqs) == len(chosen)
    assert [number for number in range(201) if contains(seqs, number)] == sorted(chosen)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair)))))
def test_overlapping_pairs_merge_to_the_ranges_of_their_numbers(pairs: list[tuple[int, int]]) -> None:
    assert merged(pairs) == ranges(sorted({number for first, last in pairs for number in range(first, last + 1)}))


def test_what_has_to_run_is_what_failed_never_ran_or_has_bad_rows() -> None:
    versions = VersionHistory(FIRST, keep_outputs=False)
    for event in (OPENED, outcome(0, 1, "done"), outcome(1, 1, "failed"), outcome(3, 1, "damaged")):
        versions.apply(event)
    versions.apply(Sealed(FIRST, 5, 10, "d"))
    assert versions.to_run() == [1, 2, 3, 4]
    assert all(not found.output for found in versions.outcomes.values())


def test_a_shard_that_nobody_runs_ends_the_job_instead_of_keeping_it_open() -> None:
    log = Log()
    for event in (OPENED, Sealed(FIRST, 3, 10, "d"), outcome(0, 1, "done"), outcome(1, 1, "done"), Cancel(FIRST)):
        log.append(event)
    log.read_back()
    log.append(redrive(2, ((0, 0),)))
    log.append(Sealed(version(2), 3, 10, "d"))
    log.append(outcome(0, 2, "done"))
    log.load_bases()
    assert log.finals[2][0] is JobState.FAILED
