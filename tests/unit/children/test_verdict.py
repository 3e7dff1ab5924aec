"""Who is charged when a child dies: the item that was executing, nobody else."""

import signal
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.children.child_protocol import CHANNEL_LOST, ProgressCell
from regather.children.verdict import Cause, Death, judge
from regather.children.work import Call, Work, WorkItem, WorkLimits
from regather.core.execution import Done, Failed, NotRun, Result
from regather.core.model import Reason

DONE = Done(b"out", 1, 2)
TWO_SECONDS = WorkLimits(wall_s=2)
SEGFAULT = int(signal.SIGSEGV)
LIMITED = WorkLimits(wall_s=2, memory_bytes=1)


def batch(count: int, limits: WorkLimits = TWO_SECONDS) -> Work:
    return Work(Call.PROCESS, "k", b"", [WorkItem(seq, b"") for seq in range(count)], limits)


def the_failure(death: Death, limits: WorkLimits = TWO_SECONDS) -> Failed:
    results = judge(batch(1, limits), [None], death)
    assert results is not None
    (failed,) = results
    assert isinstance(failed, Failed)
    return failed


def test_the_executing_item_is_charged_and_what_arrived_is_kept() -> None:
    judged = judge(batch(5), [DONE, DONE, None, None, None], Death(Cause.OVERDUE, 3, started_ms=7, duration_us=9))
    assert judged is not None
    assert judged[:3] == [DONE, DONE, NotRun()]
    assert judged[4] == NotRun()
    assert judged[3] == Failed(Reason.TIMED_OUT, "the shard did not end within 2 s and was killed", 7, 9)


@pytest.mark.parametrize(
    ("status", "limits", "reason", "word"),
    [
        (SEGFAULT, WorkLimits(), Reason.CRASHED, "SIGSEGV"),
        (SEGFAULT | 0x80, WorkLimits(), Reason.CRASHED, "SIGSEGV"),
        (63, WorkLimits(), Reason.CRASHED, "signal 63"),
        (int(signal.SIGKILL), WorkLimits(), Reason.CRASHED, "SIGKILL; perhaps the machine ran out of memory"),
        (int(signal.SIGKILL), LIMITED, Reason.OUT_OF_MEMORY, "memory"),
        (7 << 8, WorkLimits(), Reason.EXITED, "exit code 7"),
        (0, WorkLimits(), Reason.EXITED, "exit code 0"),
        (CHANNEL_LOST << 8, WorkLimits(), Reason.CRASHED, "closed the channel"),
    ],
)
def test_a_death_by_itself_is_explained_by_its_wait_status(
    status: int, limits: WorkLimits, reason: Reason, word: str
) -> None:
    failed = the_failure(Death(Cause.ITSELF, 0, status=status), limits)
    assert failed.reason is reason
    assert word in failed.error
    assert failed.retryable


@pytest.mark.parametrize(
    "head", ["Stack (most recent call first):", "Current thread 0x00007f (most recent call first):"]
)
def test_the_stack_of_a_built_in_kind_that_hangs_is_for_the_log(head: str) -> None:
    frames = [f"{head}", *(f'  File "{sys.path[-1]}/regather/kinds/model/{name}.py", line 3 in run' for name in "ab")]
    failed = the_failure(Death(Cause.OVERDUE, 0, printed="\n".join(["said", *frames])))
    assert failed.error == "the shard did not end within 2 s and was killed\nlast printed:\nsaid"
    assert head in failed.trace


def test_what_was_printed_is_told_without_frames_below_user_code() -> None:
    printed = (
        'Fatal Python error\n  File "/x/plugin.py", line 3 in f\n  File "/x/regather/children/child.py", line 9 in g'
    )
    error = the_failure(Death(Cause.ITSELF, 0, status=SEGFAULT, printed=printed)).error
    assert "plugin.py" in error
    assert "child.py" not in error
    assert len(the_failure(Death(Cause.ITSELF, 0, status=SEGFAULT, printed="x" * 9000)).error) == 4096


def test_a_bad_reply_is_charged_to_a_single_item_only() -> None:
    death = Death(Cause.BAD_REPLY, 1, detail="sent garbage", reason=Reason.RETURNED_TOO_MUCH)
    assert judge(batch(3), [None, None, None], death) is None
    failed = the_failure(death)
    assert failed.reason is Reason.RETURNED_TOO_MUCH
    assert not failed.retryable
    assert "ask for a smaller shard_size" in failed.error
    assert "sent garbage" in failed.error


def test_a_merge_is_one_unit() -> None:
    work = Work(Call.MERGE, "k", b"", [WorkItem(seq, b"") for seq in range(4)], WorkLimits(wall_s=1))
    judged = judge(work, [None], Death(Cause.OVERDUE, 0))
    assert judged is not None
    assert isinstance(judged[0], Failed)
    assert "merge()" in judged[0].error


@pytest.mark.parametrize("cause", [Cause.ITSELF, Cause.STUCK])
@pytest.mark.parametrize("count", [1, 3])
def test_work_that_never_reached_the_child_is_not_run(cause: Cause, count: int) -> None:
    assert (
        judge(batch(count), [None] * count, Death(cause, ProgressCell.WAITING, status=SEGFAULT)) == [NotRun()] * count
    )


def test_of_a_batch_whose_child_was_lost_the_executing_item_alone_was_begun() -> None:
    judged = judge(batch(4), [DONE, None, None, None], Death(Cause.LOST, 1))
    assert judged == [DONE, NotRun(begun=True), NotRun(), NotRun()]


@pytest.mark.parametrize("index", [ProgressCell.READING, ProgressCell.ANSWERING])
def test_a_death_between_items_is_charged_to_a_single_item_only(index: int) -> None:
    assert judge(batch(3), [None] * 3, Death(Cause.ITSELF, index, status=SEGFAULT)) is None
    assert the_failure(Death(Cause.ITSELF, index, status=SEGFAULT)).reason is Reason.CRASHED


known_results = st.lists(st.sampled_from([None, DONE]), min_size=1, max_size=6)


@given(
    known_results,
    st.sampled_from(Cause),
    st.integers(-3, 5),
    st.sampled_from([None, 0, 9, SEGFAULT, CHANNEL_LOST << 8]),
)
def test_one_result_each_at_most_one_charged_and_nothing_known_is_lost(
    known: list[Result | None], cause: Cause, index: int, status: int | None
) -> None:
    judged = judge(batch(len(known)), known, Death(cause, index, status=status))
    if judged is None:
        assert len(known) > 1
        assert cause is not Cause.LOST
        return
    assert len(judged) == len(known)
    charged = [at for at, result in enumerate(judged) if isinstance(result, Failed)]
    assert len(charged) <= 1
    assert cause is not Cause.LOST or not charged
    assert len(known) == 1 or charged in ([], [index])
    assert all(was is None or is_ == was for was, is_ in zip(known, judged, strict=True))
