"""A merge that takes its aggregators along is found and given up; nobody else's merge ever is."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.core.errors import WireError
from regather.core.ids import uuid7
from regather.core.merge_attempts import MOST_BEGUN, MOST_MARKS, MergeAttempts
from regather.core.model import Identity, Reason, SubmissionId
from regather.wire.commits import MAX_METADATA_BYTES
from regather.wire.restart_point import RestartPoint, decode_restart_point, encode_restart_point


def identity(number: int) -> Identity:
    return Identity(uuid7(number, bytes(10)), SubmissionId("00" * 8))


@dataclass
class Partition:
    """Complete jobs, some of which kill whoever merges them; one owner after the other takes over what was committed."""

    killers: set[int]
    waiting: list[int]
    draw: random.Random
    metadata: str = ""
    deaths: int = 0
    orderly: int = 0
    given_up: list[int] = field(default_factory=list)

    def own(self, *, orderly_after: int | None) -> None:
        """One owner's time: until nothing waits, it dies, or it ends in order in the middle of a merge."""
        point = decode_restart_point(self.metadata)
        begun = MergeAttempts(point.merges, suspects_below=0 if point.clean_shutdown else 10**9)
        self.commit(begun)
        for step, number in enumerate(self.draw.sample(self.waiting, len(self.waiting))):
            owner = identity(number)
            refused = begun.refused(owner)
            if refused is not None:
                assert refused.reason is Reason.INTERNAL
                assert len(refused.error.encode()) < 1000
                self.given_up.append(number)
            else:
                if begun.suspects(number):
                    begun.begin(owner)
                    self.commit(begun)
                if step == orderly_after:
                    self.orderly += 1
                    self.commit(begun, clean_shutdown=True)
                    return
                if number in self.killers:
                    self.deaths += 1
                    return
            begun.ended(owner)
            self.waiting.remove(number)

    def commit(self, begun: MergeAttempts, *, clean_shutdown: bool = False) -> None:
        marks = begun.clean_shutdown() if clean_shutdown else begun.marks()
        self.metadata = encode_restart_point(RestartPoint(clean_shutdown=clean_shutdown, merges=marks))


@given(st.integers(1, 8), st.data())
def test_merges_that_kill_are_given_up_and_no_other(jobs: int, data: st.DataObject) -> None:
    killers = data.draw(st.sets(st.integers(0, jobs - 1)))
    partition = Partition(killers, list(range(jobs)), random.Random(data.draw(st.integers(0, 999))))
    partition.metadata = encode_restart_point(RestartPoint(clean_shutdown=True))
    for orderly_after in data.draw(st.lists(st.none() | st.integers(0, 3), max_size=6)):
        partition.own(orderly_after=orderly_after)
    for _ in range(len(killers) * MOST_BEGUN + 2):
        partition.own(orderly_after=None)
    assert partition.waiting == []
    assert set(partition.given_up) == killers
    unmarked = partition.deaths - MOST_BEGUN * len(killers)
    assert 0 <= unmarked <= 1 + partition.orderly  # of the first death, and of the first after a farewell, nobody knows


def test_a_merge_that_its_owner_ends_keeps_what_was_counted_before() -> None:
    begun = MergeAttempts({(identity(1).job_id, 1): 2}, suspects_below=9)
    begun.begin(identity(1))
    assert begun.marks() == {(identity(1).job_id, 1): 3}
    assert begun.clean_shutdown() == {(identity(1).job_id, 1): 2}
    begun.withdraw(identity(1))
    assert begun.marks() == begun.clean_shutdown() == {(identity(1).job_id, 1): 2}


def test_however_many_marks_there_are_a_commit_has_room_for_them_and_for_the_one_that_runs() -> None:
    begun = MergeAttempts({(identity(number).job_id, 65_535): 2 for number in range(500)}, suspects_below=9)
    begun.begin(identity(1000))
    point = RestartPoint(2**60, 2**60, clean_shutdown=True, merges=begun.marks())
    assert len(point.merges) == MOST_MARKS
    assert point.merges[identity(1000).job_id, 1] == 1
    metadata = encode_restart_point(point)
    assert len(metadata.encode()) < MAX_METADATA_BYTES
    assert decode_restart_point(metadata) == point


@pytest.mark.parametrize("metadata", ["{", "7", '{"results_from":"x"}', '{"merges":[1]}', '{"merges":[["a","b","c"]]}'])
def test_metadata_of_somebody_else_is_refused(metadata: str) -> None:
    with pytest.raises(WireError):
        decode_restart_point(metadata)
