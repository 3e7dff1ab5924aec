"""A main loop that turns is left alone; one that does not ends the process."""

import threading
from itertools import count

from regather.service.watchdog import EXIT_HUNG, Watchdog


def test_a_loop_that_stops_turning_ends_the_process() -> None:
    left: list[int] = []
    gone = threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        gone.set()

    with Watchdog(lambda: 7, limit_s=0.04, leave=leave):
        assert gone.wait(10)
    assert left == [EXIT_HUNG]


def test_a_loop_that_turns_is_left_alone() -> None:
    turns, enough, left = count(), threading.Event(), []

    def turn() -> int:
        number = next(turns) // 3  # slow, yet it turns
        if number > 20:
            enough.set()
        return number

    with Watchdog(turn, limit_s=0.04, leave=left.append):
        assert enough.wait(10)
    assert left == []
