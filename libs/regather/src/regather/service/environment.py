"""What a service needs from its machine: clock, randomness, names, memory, load. A simulation passes in its own."""

import os
import random
import resource
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NowMs = Callable[[], int]
"""Milliseconds since 1970 by this machine's clock. It may be wrong, so only what people read may depend on it."""

_PAGE_BYTES = resource.getpagesize()


def wall_ms() -> int:
    """Milliseconds since 1970 by the real clock."""
    return time.time_ns() // 1_000_000


def own_rss_bytes() -> int:
    """Return the resident size of this process; 0 on a system without /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _process_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment of a process: its name, the wall clock, random numbers in [0, 1), random bytes, memory and load.

    Durations are not part of it: the clock of the running event loop measures them.
    """

    process: str = field(default_factory=_process_name)
    hostname: str = field(default_factory=socket.gethostname)
    now_ms: NowMs = wall_ms
    chance: Callable[[], float] = random.random
    random_bytes: Callable[[int], bytes] = os.urandom
    rss_bytes: Callable[[], int] = own_rss_bytes
    load: Callable[[], float] = _load
