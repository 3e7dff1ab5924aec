"""A fold that is restored from checkpoints and the rest of the log decides what an undisturbed one decides."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from regather.core.checkpoint import PACK_BYTES, CheckpointMark, packs
from regather.core.job_events import Assembled, InheritedLoaded
from regather.core.model import (
    AttemptError,
    AttemptFailed,
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
    Tick,
    Uploading,
)
from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather.core.reassembly import Assemble, EmitFinal, Instruction, LoadInherited
from regather.core.settled import MAX_ERROR_CHARS, MAX_ROW_ERROR_CHARS
from regather.core.status import JobStatus
from regather.topics.layout import CHECKPOINT_RECORD_BYTES
from regather.wire.checkpoints import decode_checkpoint, encode_checkpoint

JOBS = [Identity(JobId(f"00000000-0000-7000-8000-00000000000{n}"), SubmissionId("00" * 8)) for n in range(3)]
POLICY = FoldPolicy(heartbeat_timeout_ms=50)


@dataclass
class Shell:
    """Folds a log as the owner of a partition does; `checkpoints` and `finals` outlive it."""

    checkpoints: list[tuple[list[tuple[str, bytes]], bytes]]
    finals: dict[Identity, tuple[JobStatus, bytes]]
    fold: PartitionFold = field(default_factory=lambda: PartitionFold(POLICY))
    next_offset: int = 0

    def feed(self, log: list[tuple[Event, int]]) -> None:
        for event, append_ms in log[self.next_offset :]:
            offset, self.next_offset = self.next_offset, self.next_offset + 1
            self.carry_out(self.fold.handle(event, offset=offset, append_ms=append_ms, size_bytes=1))

    def carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Assemble):
                joined = b"".join(part for part in instruction.job.outputs() if part is not None)
                self.carry_out(self.fold.advance(instruction.job, Assembled(joined, "")))
            elif isinstance(instruction, EmitFinal):
                owner = instruction.job.owner
                assert owner not in self.finals, "a second final"
                self.finals[owner] = (instruction.job.status(), instruction.result)
                self.fold.final_seen(owner.job_id, owner.version, reopenable=False)

    def save(self, torn_after: int | None = None) -> None:
        """Write a checkpoint of each job that is late; a torn one stops after some records."""
        for job in self.fold.unsaved_jobs(0):
            mark, log_bytes = job.mark(), self.fold.log_bytes
            events = [*job.pop_unsaved()] or [Outcomes(job.owner, "", [])]
            records = [encode_checkpoint(event, mark) for event in events[:-1]]
            last = type(mark)(mark.first_offset, mark.opened_ms, mark.last_sign_ms, mark.retries, self.next_offset)
            records.append(encode_checkpoint(events[-1], last))
            if torn_after is not None:
                self.checkpoints += records[: min(torn_after, len(records) - 1)]
                continue
            self.checkpoints += records
            self.fold.saved(job, self.next_offset, log_bytes)

    def restored(self) -> "Shell":
        """A new owner: it knows the finals, the checkpoints and the committed offset, and nothing else."""
        heir = Shell(self.checkpoints, self.finals, next_offset=self.fold.low_offset(self.next_offset))
        for owner in self.finals:
            heir.fold.final_seen(owner.job_id, owner.version, reopenable=False)
        instructions: list[Instruction] = []
        for headers, value in self.checkpoints:
            found = decode_checkpoint(headers, value)
            assert found is not None
            instructions += heir.fold.restore(*found)
        heir.fold.end_restore()
        heir.carry_out(instructions)
        return heir


def outcome(owner: Identity, seq: int, what: str) -> Outcomes:
    failure = Failure(Reason.RAISED, "boom") if what == "failed" else None
    bad_rows = (BadRow(seq, Reason.PERMANENT, "no"),) if what == "damaged" else ()
    output = b"" if failure else b"[%d]" % seq
    return Outcomes(owner, "w", [Outcome(seq, 1, 10, 0, 5, output, failure, bad_rows=bad_rows)])


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[Event, int]]:
    """Events of three jobs, mixed; some are sealed late or never, cancelled, silent, or overdue."""
    events: list[Event] = []
    for owner in JOBS:
        total = draw(st.integers(1, 6))
        opened = Opened(owner, "k", b"{}", "", draw(st.sampled_from([60, 10_000])), on_error=OnError.SKIP)
        whats = [draw(st.sampled_from(["done", "failed", "damaged"])) for _ in range(total)]
        error = AttemptError(0, Reason.RAISED, "x", "w", 0, 1)
        body: list[Event] = [outcome(owner, seq, what) for seq, what in enumerate(whats)]
        body += [Sealed(owner, total, 10, "d"), Uploading(owner, 1), AttemptFailed(owner, 0, error)]
        body += draw(st.sampled_from([[], [Cancel(owner)], [outcome(owner, total + 1, "done")]]))
        events.append(opened)
        events += draw(st.permutations(body))
    mixed = draw(st.permutations([*events, *[Tick()] * 6]))
    order = {id(event): at for at, event in enumerate(mixed)}
    firsts = {owner: min(order[id(e)] for e in events if getattr(e, "owner", None) == owner) for owner in JOBS}
    for event in [event for event in mixed if isinstance(event, Opened)]:  # outcomes may not come before `opened`
        mixed.remove(event)
        mixed.insert(firsts[event.owner], event)
    return [(event, 10 * at) for at, event in enumerate(mixed)]


@given(logs(), st.data())
def test_checkpoints_and_the_rest_of_the_log_are_as_good_as_all_of_it(
    log: list[tuple[Event, int]], data: st.DataObject
) -> None:
    undisturbed = Shell([], {})
    undisturbed.feed(log)
    shell = Shell([], {})
    for end in range(len(log) + 1):
        shell.feed(log[:end])
        for _ in range(data.draw(st.sampled_from([0, 0, 1, 2]))):
            torn_after = data.draw(st.sampled_from([None, None, 0, 1, 2]))
            shell.save(torn_after)
            if torn_after is not None or data.draw(st.booleans()):  # after a failure the owner always begins again
                shell = shell.restored()
                shell.feed(log[:end])
    assert comparable(shell) == comparable(undisturbed)
    assert shell.fold.open_jobs == undisturbed.fold.open_jobs


def comparable(shell: Shell) -> dict[Identity, tuple[object, ...]]:
    return {
        owner: (
            status.state,
            status.retries,
            status.gaps,
            status.bad_rows,
            status.total,
            status.errors,
            status.deadline_ms,
            result,
        )
        for owner, (status, result) in shell.finals.items()
    }


@given(st.lists(st.integers(0, 2 * PACK_BYTES), max_size=12))
def test_packs_hold_every_outcome_once_and_are_no_larger_than_they_must(sizes: list[int]) -> None:
    outcomes = [Outcome(seq, 1, 0, 0, 0, bytes(size)) for seq, size in enumerate(sizes)]
    found = list(packs(JOBS[0], outcomes))
    assert [seq for pack in found for seq in [outcome.seq for outcome in pack.outcomes]] == list(range(len(sizes)))
    assert all(len(pack.outcomes) == 1 or sum(len(o.output) for o in pack.outcomes) <= PACK_BYTES for pack in found)


def test_no_pack_of_failures_and_bad_rows_is_too_large_for_its_record() -> None:
    error = "\x01" * MAX_ERROR_CHARS
    bad_rows = tuple(BadRow(row, Reason.RAISED, error[:MAX_ROW_ERROR_CHARS]) for row in range(16))
    failed = [Outcome(seq, 4, 0, 0, 0, failure=Failure(Reason.RAISED, error)) for seq in range(4_000)]
    damaged = [Outcome(seq, 1, 0, 0, 0, bad_rows=bad_rows) for seq in range(4_000, 8_000)]
    empty = [Outcome(seq, 1, 0, 0, 0) for seq in range(8_000, 20_000)]
    mark = CheckpointMark(0, 0, 0, 0)
    for outcomes in (failed, damaged, empty * 20):
        records = [encode_checkpoint(pack, mark) for pack in packs(JOBS[0], outcomes)]
        assert max(len(value) for _, value in records) < CHECKPOINT_RECORD_BYTES


def test_a_job_with_more_output_than_anybody_may_hold_is_ended() -> None:
    shell = Shell([], {}, PartitionFold(FoldPolicy(max_output_bytes=5)))
    owner = JOBS[0]
    shell.feed(
        [(Opened(owner, "k", b"{}", "", 1000), 1), (outcome(owner, 0, "done"), 2), (outcome(owner, 1, "done"), 3)]
    )
    assert shell.finals[owner][0].state is JobState.FAILED
    assert shell.finals[owner][0].reason is Reason.RESULT_TOO_LARGE


def test_what_the_checkpoint_holds_is_not_counted_again() -> None:
    owner, fold = JOBS[0], PartitionFold(POLICY)
    fold.restore(Opened(owner, "k", b"{}", "", 10_000), CheckpointMark(0, 1, 1, retries=1, next_offset=6))
    failed = AttemptFailed(owner, 0, AttemptError(0, Reason.RAISED, "x", "w", 0, 1))
    for offset in (5, 6):
        fold.handle(failed, offset=offset, append_ms=1)
    assert [job.status().retries for job in fold.pop_changed()] == [2]


def test_a_torn_first_checkpoint_of_a_redriven_job_counts_for_nothing() -> None:
    again = Opened(JOBS[0]._replace(version=2), "k", b"{}", "", 10_000)
    redriven = Redriven(again, ((0, 0),), origin=0, created_ms=1)
    fold = PartitionFold(POLICY)
    fold.final_seen(again.owner.job_id, 1, reopenable=False)
    fold.restore(redriven, CheckpointMark(first_offset=7, opened_ms=1, last_sign_ms=1, retries=0))
    fold.end_restore()
    assert [type(instruction) for instruction in fold.handle(redriven, offset=7, append_ms=1)] == [LoadInherited]


def test_a_checkpoint_ahead_of_what_is_folded_does_not_move_the_offset_past_jobs_that_are_not_folded_yet() -> None:
    fold = PartitionFold(POLICY)
    opened = Opened(JOBS[0], "bytes.digest", b"{}", "", deadline_ms=1000)
    fold.restore(opened, CheckpointMark(0, 1, 1, 0, next_offset=9))
    fold.end_restore()
    assert fold.low_offset(2) == 2
    fold.handle(Opened(JOBS[1], "bytes.digest", b"{}", "", deadline_ms=1000), offset=2, append_ms=2)
    assert fold.low_offset(3) == 2


def test_a_redriven_job_is_restored_with_what_its_base_has_left_and_with_its_seal() -> None:
    again = JOBS[0]._replace(version=2)
    redriven = Redriven(Opened(again, "bytes.digest", b"{}", "", deadline_ms=1000), ((0, 0),), 0, 1)
    shell = Shell([], {})
    (load,) = shell.fold.handle(redriven, offset=0, append_ms=1, size_bytes=1)
    assert isinstance(load, LoadInherited)
    shell.fold.advance(load.job, InheritedLoaded({1: Outcome(1, 1, 1, 0, 1, output=b"one")}))
    shell.fold.handle(Sealed(again, 2, 2, "d"), offset=1, append_ms=1, size_bytes=1)
    shell.next_offset = 2
    shell.save()
    heir = shell.restored()
    assert heir.finals == {}
    heir.feed([(redriven, 1), (Sealed(again, 2, 2, "d"), 1), (outcome(again, 0, "done"), 1)])
    status, result = heir.finals[again]
    assert (status.state, status.done, result) == (JobState.SUCCEEDED, 2, b"[0]one")
