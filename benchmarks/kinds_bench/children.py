"""CPU of the killable children of services, from /proc: of those that live, and of those that have ended and were reaped.

A child that ends moves its seconds into its parent's account (cutime, cstime), and the parent of all children is the
zygote, which lives as long as its service. So the sum over all descendants loses nothing but what a dead zygote had.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from regather_cli.process_table import descendants

_TICKS_S = os.sysconf("SC_CLK_TCK")


def child_seconds(service_pids: Iterable[int]) -> float:
    """User and system seconds of everything below these services, without the services themselves."""
    return sum(_seconds(pid, ended=True) for service in service_pids for pid in descendants(service))


def own_seconds(service_pids: Iterable[int]) -> float:
    """User and system seconds of the services themselves."""
    return sum(_seconds(pid, ended=False) for pid in service_pids)


def _seconds(pid: int, *, ended: bool) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    user, system, ended_user, ended_system = map(int, fields[11:15])
    return (user + system + (ended_user + ended_system) * ended) / _TICKS_S
