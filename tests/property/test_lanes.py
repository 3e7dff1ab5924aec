"""Lanes and micro-batches: nothing lost, nothing mixed, priority first, the regular lane not starved, jobs in turn."""

from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from regather.core.batch_sizer import MAX_BATCH_ITEMS
from regather.core.lanes import MAX_BATCH_BYTES, REGULAR_TURN, Lane, LaneQueue

T = TypeVar("T")
shards = st.tuples(st.sampled_from(Lane), st.sampled_from("abc"), st.integers(0, 2 * MAX_BATCH_BYTES))


def drain(queue: LaneQueue[T], idle_slots: int = 1) -> list[list[T]]:
    batches = []
    while batch := queue.pop_batch(idle_slots=idle_slots):
        batches.append(batch)
    return batches


@given(st.lists(shards, max_size=300), st.integers(1, 4))
def test_every_shard_comes_out_once_in_batches_of_one_group_within_the_limits(
    queued: list[tuple[Lane, str, int]], idle_slots: int
) -> None:
    queue: LaneQueue[int] = LaneQueue()
    for number, (lane, group, size_bytes) in enumerate(queued):
        queue.push(lane, group, number, size_bytes)
    batches = drain(queue, idle_slots)
    assert sorted(number for batch in batches for number in batch) == list(range(len(queued)))
    assert len(queue) == 0
    for batch in batches:
        assert len({queued[number][:2] for number in batch}) == 1
        assert len(batch) <= MAX_BATCH_ITEMS
        assert len(batch) == 1 or sum(queued[number][2] for number in batch) <= MAX_BATCH_BYTES


@given(st.lists(shards, max_size=200))
def test_the_order_within_a_group_is_kept(queued: list[tuple[Lane, str, int]]) -> None:
    queue: LaneQueue[int] = LaneQueue()
    for number, (lane, group, size_bytes) in enumerate(queued):
        queue.push(lane, group, number, size_bytes)
    out = [number for batch in drain(queue) for number in batch]
    for key in {entry[:2] for entry in queued}:
        numbers = [number for number in out if queued[number][:2] == key]
        assert numbers == sorted(numbers)


def test_the_priority_lane_goes_first_and_the_regular_one_is_not_starved() -> None:
    queue: LaneQueue[str] = LaneQueue()
    for number in range(20):
        queue.push(Lane.REGULAR, f"big-{number}", "regular", 1)
        queue.push(Lane.PRIORITY, f"job-{number}", "priority", 1)
    first = [queue.pop_batch()[0] for _ in range(2 * REGULAR_TURN)]
    assert first.count("regular") == 2
    assert first[: REGULAR_TURN - 1] == ["priority"] * (REGULAR_TURN - 1)


def test_a_small_job_does_not_wait_behind_a_big_one_of_its_lane() -> None:
    queue: LaneQueue[str] = LaneQueue()
    for _ in range(1000):
        queue.push(Lane.REGULAR, "big", "big", 1024)
    queue.push(Lane.REGULAR, "small", "small", 1024)
    assert [queue.pop_batch()[0] for _ in range(2)] == ["big", "small"]


def test_few_shards_are_shared_out_among_idle_slots() -> None:
    queue: LaneQueue[int] = LaneQueue()
    for number in range(10):
        queue.push(Lane.PRIORITY, "job", number, 1024)
    assert len(queue.pop_batch(idle_slots=2)) == 5
    assert len(queue.pop_batch(idle_slots=1)) == 5


def test_a_shard_above_the_batch_limit_goes_alone() -> None:
    queue: LaneQueue[str] = LaneQueue()
    queue.push(Lane.PRIORITY, "job", "tiny", 10)
    queue.push(Lane.PRIORITY, "job", "huge", MAX_BATCH_BYTES + 1)
    queue.push(Lane.PRIORITY, "job", "tiny", 10)
    assert drain(queue) == [["tiny"], ["huge"], ["tiny"]]
