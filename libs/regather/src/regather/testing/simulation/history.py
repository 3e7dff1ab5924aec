"""The events of a run in order: a hash compares two runs, a trace shows a run to people."""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple


class Moment(NamedTuple):
    """One event: the virtual time in seconds, the process, the event's name and its details."""

    at_s: float
    process: str
    what: str
    details: tuple[object, ...]


class History:
    """All events so far, and the number of faults of each kind."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.moments: list[Moment] = []
        self.faults: Counter[str] = Counter()

    def note(self, process: str, what: str, *details: object) -> None:
        """Add an event; the repr() of its details must not depend on addresses."""
        self.moments.append(Moment(self._now_s(), process, what, details))

    def fault(self, process: str, kind: str, *details: object) -> None:
        """Add a fault and count it."""
        self.faults[kind] += 1
        self.note(process, "fault", kind, *details)

    def digest(self) -> str:
        """Return a hash of all events with their times."""
        digest = hashlib.blake2b(digest_size=16)
        for moment in self.moments:
            digest.update(repr(moment).encode())
        return digest.hexdigest()
