"""Chained shards: each is released once the one before it is done, with the winner's carry, whatever is repeated."""

from hypothesis import given
from hypothesis import strategies as st

from regather.core.model import (
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
    Sealed,
    SubmissionId,
)
from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather.core.reassembly import EmitFinal, Instruction, Release

OWNER = Identity(JobId("00000000-0000-7000-8000-000000000001"), SubmissionId("00" * 8))


def opened(on_error: OnError = OnError.FAIL) -> Opened:
    return Opened(OWNER, "frames.track", b"{}", "", deadline_ms=3_600_000, on_error=on_error, chained=True)


def parked(seq: int) -> Parked:
    return Parked(OWNER, seq, RecordPlace("shards.bulk", seq % 3, 100 + seq), 15_000, b"meta")


def done(seq: int, mark: str = "") -> Outcomes:
    return Outcomes(OWNER, "w", [Outcome(seq, 1, 10, 0, 5, output=b"x", carry=f"after {seq}{mark}".encode())])


class Fold:
    def __init__(self, on_error: OnError = OnError.FAIL) -> None:
        self.fold = PartitionFold(FoldPolicy())
        self.offset = 0
        self.instructions: list[Instruction] = []
        self.feed(opened(on_error))

    def feed(self, event: Event) -> list[Release]:
        new = self.fold.handle(event, offset=self.offset, append_ms=1)
        self.offset += 1
        self.instructions += new
        return [instruction for instruction in new if isinstance(instruction, Release)]


@given(st.permutations(range(1, 8)), st.data())
def test_shards_are_released_one_by_one_in_order(arrivals: list[int], data: st.DataObject) -> None:
    """The parked ones come in any order and any number of times, and so do outcomes."""
    fold = Fold()
    waiting = [parked(seq) for seq in arrivals] + [parked(seq) for seq in data.draw(st.lists(st.integers(1, 7)))]
    released: list[int] = []
    ready = [0]  # shards that run now
    while waiting or ready:
        if ready and (not waiting or data.draw(st.booleans())):
            event: Event = done(ready.pop())
            new = fold.feed(event)
            new += fold.feed(event) if data.draw(st.booleans()) else []
        else:
            new = fold.feed(waiting.pop())
        for release in new:
            seq = release.shard.seq
            assert release.shard.carry == f"after {seq - 1}".encode()
            assert release.shard.source == RecordPlace("shards.bulk", seq % 3, 100 + seq)
            assert release.shard.meta == b"meta"
            released.append(seq)
            ready.append(seq)
    assert released == [1, 2, 3, 4, 5, 6, 7]


def test_the_first_outcome_of_a_shard_decides_what_the_next_one_begins_with() -> None:
    fold = Fold()
    fold.feed(done(0, " first"))
    fold.feed(done(0, " second"))
    (release,) = fold.feed(parked(1))
    assert release.shard.carry == b"after 0 first"


def test_a_dead_shard_of_a_chain_ends_the_job_even_where_gaps_are_allowed() -> None:
    fold = Fold(OnError.SKIP)
    fold.feed(parked(1))
    fold.feed(Sealed(OWNER, 3, 30, ""))
    fold.feed(Outcomes(OWNER, "w", [Outcome(0, 4, 10, 0, 5, failure=Failure(Reason.RAISED, "boom"))]))
    (final,) = fold.instructions
    assert isinstance(final, EmitFinal)
    assert final.job.state is JobState.FAILED
    assert not fold.feed(parked(2))


def test_a_job_that_is_no_chain_releases_nothing() -> None:
    fold = PartitionFold(FoldPolicy())
    fold.handle(Opened(OWNER, "k", b"{}", "", deadline_ms=1000), offset=0, append_ms=1)
    assert fold.handle(done(0), offset=1, append_ms=1) == []
    assert fold.handle(parked(1), offset=2, append_ms=1) == []
