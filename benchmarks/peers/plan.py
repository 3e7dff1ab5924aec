"""One peer's part of the benchmark, as its processes pass it on."""

import sys
from dataclasses import dataclass

LATE_S = 3.0  # a bad task that still runs so long after its limit is late
POLL_S = 0.005  # between two looks of the driver, and of what waits beside it


@dataclass(frozen=True)
class Plan:
    """What both the benchmark and the process that drives a peer are told."""

    peer: str
    kills: int
    limit_s: float
    slots: int
    seed: int

    @property
    def grace_s(self) -> float:
        """How long after its limit a task may run on before this benchmark kills it.

        Pebble waits 3 s between SIGTERM and SIGKILL, for one process after the other: with less than that for each slot
        it would be charged with never ending what it does end.
        """
        return LATE_S * self.slots + 1.0 if self.peer == "pebble" else LATE_S

    def command(self, *more: str) -> list[str]:
        """This very program once more, as one of the peer's own processes."""
        values = ("--kills", self.kills, "--limit-s", self.limit_s, "--slots", self.slots, "--seed", self.seed)
        return [sys.executable, sys.argv[0], "--peer", self.peer, *map(str, values), *more]
