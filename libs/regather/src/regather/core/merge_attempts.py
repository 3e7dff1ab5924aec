"""Merges that began and of which no end is known: one that takes its whole aggregator along must not do so for ever.

A merge runs in a child with limits, so this is the last resort: the host's memory, the aggregator's own, the supervisor
of its children. After a death nobody knows which merge it was. So the next owner marks every merge of a job that was
there at that time in the commit's metadata before it begins, and a merge that was marked and whose end was not seen
three times is not begun again. Source: docs/protocol.md#barrier.
"""

from collections.abc import Mapping

from regather.core.job_events import JobBroken
from regather.core.model import Identity, JobId, Reason

MOST_BEGUN = 3
MOST_MARKS = 16
"""A commit's metadata has room for 4 KiB. Of more marks those that count most are kept."""

Marks = Mapping[tuple[JobId, int], int]
"""How often the merge of this job and version began without an end."""


class MergeAttempts:
    """The marks of one partition. Mutable, without IO.

    `found` are those that the owner before left; jobs that began below the offset `suspects_below` of job-events are what
    it may have died of.
    """

    def __init__(self, found: Marks | None = None, suspects_below: int = 0) -> None:
        self._begun = dict(found or {})
        self._running: set[tuple[JobId, int]] = set()
        self._suspects_below = suspects_below

    def suspects(self, first_offset: int) -> bool:
        """Whether the merge of a job that began there has to be marked before it begins."""
        return first_offset < self._suspects_below

    def refused(self, owner: Identity) -> JobBroken | None:
        """Why the merge must not begin once more, if so."""
        count = self._begun.get(_key(owner), 0)
        if count < MOST_BEGUN:
            return None
        text = (
            f"its merge began {count} times, and each time the aggregator that ran it was gone before it ended (killed, "
            "out of memory, cut off): make the merge need less memory, give the aggregators more, or cut the job in parts"
        )
        return JobBroken(Reason.INTERNAL, text)

    def begin(self, owner: Identity) -> None:
        """The merge is going to begin; it must not before the marks are committed."""
        key = _key(owner)
        self._begun[key] = self._begun.get(key, 0) + 1
        self._running.add(key)

    def withdraw(self, owner: Identity) -> None:
        """The merge was ended by its owner: that is nobody's fault, and what was counted before stands."""
        if _key(owner) in self._running:
            self._begun = dict(self.marks(withdrawn={_key(owner)}))
            self._running.discard(_key(owner))

    def ended(self, owner: Identity) -> None:
        """The merge came to an end, or its job did: nothing is counted any more."""
        self._begun.pop(_key(owner), None)
        self._running.discard(_key(owner))

    def marks(self, *, withdrawn: "set[tuple[JobId, int]] | None" = None) -> Marks:
        """What the next owner has to know if this one dies now; without the present run of those that are `withdrawn`."""
        left = {key: count - (key in (withdrawn or ())) for key, count in self._begun.items()}
        most = sorted(
            (key for key, count in left.items() if count), key=lambda key: (key not in self._running, -left[key])
        )
        return {key: left[key] for key in most[:MOST_MARKS]}

    def clean_shutdown(self) -> Marks:
        """What the next owner has to know when this one ends in order, which ends what runs, too."""
        return self.marks(withdrawn=self._running)


def _key(owner: Identity) -> tuple[JobId, int]:
    return owner.job_id, owner.version
