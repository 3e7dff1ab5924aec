"""Sees children of other processes go: an outside observer, who shares neither clock nor code with the supervisor."""

import threading
import time
from collections import defaultdict
from pathlib import Path

_LOOK_S = 0.001


class DeathObserver(threading.Thread):
    """Looks once a millisecond at who the children of `parents` are; a child that was reaped is there no more."""

    def __init__(self, parents: list[int]) -> None:
        super().__init__(name="death-observer", daemon=True)
        self._lists = [Path(f"/proc/{pid}/task/{pid}/children") for pid in parents]
        self._gone_s: dict[int, list[float]] = defaultdict(list)
        self._done = threading.Event()

    def run(self) -> None:
        """Look until done() is called."""
        known: set[int] = set()
        while not self._done.wait(_LOOK_S):
            present = {int(pid) for path in self._lists for pid in path.read_text().split()}
            now_s = time.monotonic()
            for pid in known - present:
                self._gone_s[pid].append(now_s)
            known = present

    def done(self) -> None:
        """Stop looking."""
        self._done.set()
        self.join()

    def gone_after(self, pid: int, since_s: float) -> float | None:
        """When the process of this number that lived at `since_s` was gone, on the monotonic clock."""
        return min((at_s for at_s in self._gone_s.get(pid, ()) if at_s >= since_s), default=None)
