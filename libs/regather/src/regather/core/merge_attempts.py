"""Counts merges that began and never ended, so that a merge that crashes its aggregator does not do so for ever.

A merge runs in a child with limits. This is the last resort for what these limits do not stop: a host that runs out of
memory, a container that is killed for the memory of the parent, a kind that kills its parent. After an aggregator
crashes, it is unknown which merge caused it. So its successor records each merge of an already open job in the commit
metadata before it starts the merge. A merge that was recorded three times and never ended is not started again. Source:
docs/protocol.md#barrier.
"""

from collections.abc import Mapping

from regather.core.job_events import JobBroken
from regather.core.model import Identity, JobId, Reason

MOST_BEGUN = 3
MOST_MARKS = 16
"""A commit has room for 4 KiB of metadata. Of more marks, those of running merges and the highest counts are kept."""

Marks = Mapping[tuple[JobId, int], int]
"""How often the merge of this job and version began and did not end."""


class MergeAttempts:
    """The marks of one partition. Mutable, without IO.

    `found` are the marks that the previous owner left. It may have crashed because of the jobs that began below the
    offset `suspects_below` of job-events.
    """

    def __init__(self, found: Marks | None = None, suspects_below: int = 0) -> None:
        self._begun = dict(found or {})
        self._running: set[tuple[JobId, int]] = set()
        self._suspects_below = suspects_below

    def suspects(self, first_offset: int) -> bool:
        """Whether the merge of a job with this first offset has to be marked before it begins."""
        return first_offset < self._suspects_below

    def refused(self, owner: Identity) -> JobBroken | None:
        """Return why the merge must not begin again; None if it may."""
        count = self._begun.get(_key(owner), 0)
        if count < MOST_BEGUN:
            return None
        text = (
            f"its merge began {count} times, and each time its aggregator was lost before the merge ended (killed, out "
            "of memory, disconnected): make the merge need less memory, give the aggregators more, or split the job"
        )
        return JobBroken(Reason.INTERNAL, text)

    def begin(self, owner: Identity) -> None:
        """Mark a merge that is about to begin. It may begin only after the marks are committed."""
        key = _key(owner)
        self._begun[key] = self._begun.get(key, 0) + 1
        self._running.add(key)

    def withdraw(self, owner: Identity) -> None:
        """Take back the mark of a merge that its owner ended itself. Earlier marks stay."""
        if _key(owner) in self._running:
            self._begun = dict(self.marks(withdrawn={_key(owner)}))
            self._running.discard(_key(owner))

    def ended(self, owner: Identity) -> None:
        """Drop the marks of a merge that ended, or whose job ended."""
        self._begun.pop(_key(owner), None)
        self._running.discard(_key(owner))

    def marks(self, *, withdrawn: "set[tuple[JobId, int]] | None" = None) -> Marks:
        """Return the marks for the next owner in case of a crash, not counting the present runs in `withdrawn`."""
        left = {key: count - (key in (withdrawn or ())) for key, count in self._begun.items()}
        most = sorted(
            (key for key, count in left.items() if count), key=lambda key: (key not in self._running, -left[key])
        )
        return {key: left[key] for key in most[:MOST_MARKS]}

    def clean_shutdown(self) -> Marks:
        """Return the marks for the next owner in case of an orderly stop, which ends the running merges."""
        return self.marks(withdrawn=self._running)


def _key(owner: Identity) -> tuple[JobId, int]:
    return owner.job_id, owner.version
