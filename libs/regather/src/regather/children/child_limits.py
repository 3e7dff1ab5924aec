"""Operating system settings of a child: it dies with its parent, stays within limits, and is killed first."""

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_OUT_OF_MEMORY_SCORE = "500"
_PAGE_BYTES = resource.getpagesize()
_GROWTH_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class ChildRules:
    """Rules for all children, whatever they run.

    A child is replaced between two pieces of work after `recycle_after_items` items, or when its peak memory has grown
    by more than `recycle_growth_bytes`. `file_bytes` is the largest file it may write, `open_files` how many files it
    may have open. `processes` limits the processes of its user on the whole machine (RLIMIT_NPROC; the kernel does not
    apply it to root). Leave it None, the default, unless the workers' user runs nothing else. A child that moves no
    byte of a request or a reply for `transfer_s` is killed. The zygote and each child may take `start_s` to be ready.
    """

    recycle_after_items: int = 10_000
    recycle_growth_bytes: int = 512 * 1024 * 1024
    file_bytes: int = 1024 * 1024 * 1024
    open_files: int = 1024
    processes: int | None = None
    transfer_s: float = 10.0
    start_s: float = 60.0

    def to_json(self) -> str:
        """Return the rules as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, document: str) -> "ChildRules":
        """Read what to_json() wrote."""
        return cls(**json.loads(document))


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    """Call prctl if the system has it (Linux); raise OSError if the call fails."""
    prctl = getattr(_libc, "prctl", None)
    if prctl is not None and prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def die_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Request a signal for when the parent dies; exit at once if it is dead already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none can escape."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def apply(rules: ChildRules) -> None:
    """Set the limits for a child's whole life, and make the kernel kill it first when memory runs out."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, rules.file_bytes)
    _lower(resource.RLIMIT_NOFILE, rules.open_files)
    if rules.processes is not None:
        _lower(resource.RLIMIT_NPROC, rules.processes)
    with contextlib.suppress(OSError):  # not essential, and missing outside Linux
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)


def _lower(limit: int, value: int) -> None:
    """Set soft and hard limit, never above the present hard limit."""
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


@contextlib.contextmanager
def memory_limit(above_now_bytes: int | None) -> Iterator[None]:
    """Let the process grow by at most this many bytes of address space inside the block; None: no limit."""
    if above_now_bytes is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = _address_space_bytes() + above_now_bytes
    resource.setrlimit(resource.RLIMIT_AS, (ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def cpu_limit(seconds: int | None) -> Iterator[None]:
    """Let the kernel end the process (SIGXCPU) once it has used this much CPU time inside the block; None: no limit."""
    if seconds is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    ceiling = math.ceil(usage.ru_utime + usage.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * _PAGE_BYTES


def peak_bytes() -> int:
    """Return the largest resident size this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _GROWTH_UNIT_BYTES


def kill_group(pid: int) -> None:
    """Send SIGKILL to the process and its group; processes that have ended already are no error.

    The pid must not have been reaped long ago: the kernel may reuse it once all members of the group have ended.
    """
    for kill in (os.killpg, os.kill):  # the group does not exist yet if the child was forked a moment ago
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
