"""Ends the process when its main loop hangs, such as in a Kafka client or a blocked event loop.

The supervisor of the service then starts the process again.
"""

import os
import threading
from collections.abc import Callable
from typing import Self

from regather.service.logs import get_logger

log = get_logger()
LIMIT_S = 180.0
"""Three times the longest rebalance."""

EXIT_HUNG = 70
_CHECKS = 4


class Watchdog:
    """A thread that reads the number of turns four times per limit. Four checks without a new turn end the process.

    It counts checks and not time, so that a process that was suspended and resumed (SIGSTOP, SIGCONT) gets its full
    limit.
    """

    def __init__(
        self, turns: Callable[[], int], *, limit_s: float = LIMIT_S, leave: Callable[[int], object] = os._exit
    ) -> None:
        self._turns = turns
        self._limit_s = limit_s
        self._leave = leave
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        seen, same = self._turns(), 0
        while not self._ended.wait(self._limit_s / _CHECKS):
            turns = self._turns()
            seen, same = turns, same + 1 if turns == seen else 0
            if same >= _CHECKS:
                log.critical("main-loop-hangs", limit_s=self._limit_s, turns=turns)
                self._leave(EXIT_HUNG)
                return
