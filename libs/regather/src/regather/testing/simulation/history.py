"""What happened in a run, in order: the whole of it gives a hash, and for people it becomes a trace."""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple


class Moment(NamedTuple):
    """One thing that happened: when (virtual seconds), in which process, what, and its particulars."""

    at_s: float
    process: str
    what: str
    details: tuple[object, ...]


class History:
    """Everything that happened so far, and how often each sort of fault did."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.moments: list[Moment] = []
        self.faults: Counter[str] = Counter()

    def note(self, process: str, what: str, *details: object) -> None:
        """Add one thing; its details must have a repr() that does not depend on addresses."""
        self.moments.append(Moment(self._now_s(), process, what, details))

    def fault(self, process: str, kind: str, *details: object) -> None:
        """A fault happened."""
        self.faults[kind] += 1
        self.note(process, "fault", kind, *details)

    def digest(self) -> str:
        """Return a hash of all that happened, with its times."""
        digest = hashlib.blake2b(digest_size=16)
        for moment in self.moments:
            digest.update(repr(moment).encode())
        return digest.hexdigest()
