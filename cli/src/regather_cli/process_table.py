"""Lists the descendants of this process from /proc, so that a stack can prove that it left none behind."""

import ctypes
import os
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make orphaned descendants children of this process from now on, instead of children of init (Linux only)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)


def descendants(root_pid: int | None = None) -> set[int]:
    """Return the pids of all descendants of `root_pid` (default: this process) but zombies; empty without /proc."""
    parents = dict(_living())
    found: set[int] = set()
    wave = {os.getpid() if root_pid is None else root_pid}
    while wave:
        wave = {pid for pid, parent in parents.items() if parent in wave} - found
        found |= wave
    return found


def _living() -> list[tuple[int, int]]:
    """Return pid and parent's pid of every process that is not a zombie."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may itself hold spaces and parentheses.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found.append((int(entry.name), int(parent)))
    return found
