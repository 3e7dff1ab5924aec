"""A jump of the log's time is told from confirmations that are late."""

from hypothesis import given
from hypothesis import strategies as st

from regather.core.clock_jump import MOST_JUMP_MS, ClockJumpDetector

STEPS = st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, MOST_JUMP_MS)), min_size=1)


@given(STEPS)
def test_confirmations_that_are_late_by_up_to_a_minute_are_no_jump(steps: list[tuple[int, int]]) -> None:
    clock, time_ms = ClockJumpDetector(), 0
    for gap_ms, late_ms in steps:
        time_ms += gap_ms
        assert clock.jump_ms(1_767_225_600_000 + time_ms, time_ms + late_ms) == 0
        time_ms += late_ms


@given(STEPS, st.integers(2 * MOST_JUMP_MS + 1, 10**9))
def test_a_jump_is_told_once(steps: list[tuple[int, int]], jump_ms: int) -> None:
    clock, time_ms = ClockJumpDetector(), 0
    for gap_ms, late_ms in steps:
        time_ms += gap_ms
        clock.jump_ms(time_ms, time_ms + late_ms)
        time_ms += late_ms
    assert jump_ms <= clock.jump_ms(time_ms + jump_ms, time_ms) <= jump_ms + MOST_JUMP_MS
    assert clock.jump_ms(time_ms + jump_ms + 5_000, time_ms + 5_000) == 0
    assert clock.jump_ms(time_ms + 10_000, time_ms + 10_000) == 0  # another leader, whose time is right
    assert clock.jump_ms(time_ms + jump_ms + 15_000, time_ms + 15_000) == 0
