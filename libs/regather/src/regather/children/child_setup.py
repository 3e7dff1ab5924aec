"""Prepares a process that the zygote has forked: it dies with the zygote, with limits, output and signals of its own."""

import faulthandler
import os
import signal
import sys

from regather.children import child_limits
from regather.children.child_limits import ChildRules
from regather.children.child_protocol import STACK_SIGNAL
from regather.service.memory_tuning import CHILD_KEEPS_BYTES, keep_freed_memory


def prepare(printed_fd: int, rules: ChildRules) -> None:
    """Make the forked process a child in a session of its own; what it prints goes to `printed_fd`."""
    child_limits.die_with(os.getppid())
    os.setsid()
    child_limits.adopt_orphans()
    _redirect_output(printed_fd)
    _default_signals()
    _reseed()
    child_limits.apply(rules)
    keep_freed_memory(CHILD_KEEPS_BYTES)


def _redirect_output(printed_fd: int) -> None:
    """Send everything that Python or C code prints to the supervisor's pipe, and make stdin empty."""
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.dup2(printed_fd, 1)
    os.dup2(printed_fd, 2)
    for fd in {null_fd, printed_fd} - {0, 1, 2}:
        os.close(fd)
    sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - by number
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - by number
    faulthandler.enable(file=2)
    faulthandler.register(STACK_SIGNAL, file=2, all_threads=False)


def _default_signals() -> None:
    """Survive a SIGTERM or SIGINT that a service manager sends to all processes: only the supervisor ends children.

    A handler, not SIG_IGN: programs that user code starts would inherit SIG_IGN.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


def _reseed() -> None:
    """Seed numpy: children of one zygote must not draw the same numbers. The random module reseeds itself at a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
