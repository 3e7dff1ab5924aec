"""What runs in the slots: one task for all peers, which behaves or goes wrong in one of six ways."""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from peers.journal import Journal

HANGS = ("sleep", "busy", "deaf", "fork")
FAULTS = (*HANGS, "segfault", "exit")
INNOCENT = "echo"
HANG_S, GRANDCHILD_S, ECHO_S = 60.0, 600.0, 0.02


def busy() -> None:
    sum(range(4_000_000_000))  # one call into C, which lets no Python signal handler run and holds the GIL


def deaf() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):  # the C library keeps two for itself
            signal.signal(number, signal.SIG_IGN)
    time.sleep(HANG_S)


def fork(journal: Journal) -> None:
    if os.fork() == 0:
        journal.write("grandchild")
        time.sleep(GRANDCHILD_S)
        os._exit(0)
    time.sleep(HANG_S)


def execute(path: str, number: int, action: str) -> int:
    """The one task of all peers; a bad one never answers."""
    journal = Journal(Path(path))
    journal.write("start", number=number, action=action)
    if action == INNOCENT:
        time.sleep(ECHO_S)
        return number
    faults: dict[str, Callable[[], object]] = {
        "sleep": lambda: time.sleep(HANG_S),
        "busy": busy,
        "deaf": deaf,
        "fork": lambda: fork(journal),
        "segfault": lambda: ctypes.string_at(0),
        "exit": lambda: os._exit(7),
    }
    faults[action]()
    return -1
