"""Starts child processes that cannot outlive this one: brokers and services of tests and of the command line."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Runs in the new process before it executes the program: asks the kernel for SIGKILL at the parent's death, and exits
# if the parent has died already. A `preexec_fn` would run Python between fork and exec, which is unsafe with threads.
_BIND_AND_EXEC = """
import ctypes, os, sys
parent, program = int(sys.argv[1]), sys.argv[2:]
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None and prctl(1, 9) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG) was refused")
if os.getppid() != parent:
    sys.exit("the parent is gone")
os.execve(program[0], program, os.environ)
"""

# The kernel sends the death signal when the *thread* that forked ends, so every child is started from this one thread,
# which lives as long as the process.
_spawner: dict[int, ThreadPoolExecutor] = {}


def spawn_bound(
    argv: Sequence[str],
    *,
    log_file: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` (absolute program path) in a new session, with its output in `log_file`; it ends with this process.

    On a system without prctl (macOS) the child is not bound to this process; only `end()` ends it.
    """
    spawner = _spawner.setdefault(os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="spawner"))
    command = [sys.executable, "-I", "-S", "-c", _BIND_AND_EXEC, str(os.getpid()), *argv]

    def start() -> subprocess.Popen[bytes]:
        with log_file.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if env is None else env),
                cwd=cwd,
                start_new_session=True,
            )

    return spawner.submit(start).result()


def end(process: subprocess.Popen[bytes], *, grace_s: float) -> int:
    """Send SIGTERM, after `grace_s` SIGKILL, reap the process and return its exit code. Signals only this pid."""
    if process.poll() is None and grace_s > 0:
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    elif process.poll() is None:
        process.kill()
    return process.wait()


def tail(log_file: Path, lines: int = 20) -> str:
    """Return the last lines of a log, for error messages."""
    try:
        text = log_file.read_text(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(empty log)"
