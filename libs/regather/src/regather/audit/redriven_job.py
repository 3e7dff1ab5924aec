"""The outcomes of a job over all its versions, which a redrive builds on."""

from regather.audit.version_log import Base, RunVersions, ShardOutcomes
from regather.core.model import Identity, Opened, Outcomes, Redriven


class RedrivenJob:
    """One submission over all its versions, from its `opened` on. Mutable, without IO. Pass events in log order.

    For each shard, the latest version that re-ran it is authoritative, and of that version the first outcome. An
    outcome counts even after its version has ended, until a redrive begins that runs the shard again.
    """

    def __init__(self, opened: Opened, *, joined: bool | None) -> None:
        self._owner = opened.owner
        self._runs = RunVersions(opened.owner.version)
        self._outcomes = ShardOutcomes(joined=joined)

    @property
    def newest(self) -> int:
        """The newest version."""
        return self._runs.newest

    def apply(self, event: Outcomes) -> None:
        """Fold outcomes of any version."""
        if not self._is_mine(event.owner):
            return
        for outcome in event.outcomes:
            if outcome.seq not in self._outcomes and self._runs.latest(outcome.seq) == event.owner.version:
                self._outcomes.apply(outcome)

    def redrive(self, event: Redriven) -> Base | None:
        """Begin the next version; return None if the event is of another submission, or not of the next version."""
        if not self._is_mine(event.owner) or not self._runs.add(event):
            return None
        self._outcomes = self._outcomes.without(event.seqs)
        return Base(event, self._outcomes, self._runs)

    def _is_mine(self, owner: Identity) -> bool:
        return (owner.job_id, owner.submission) == (self._owner.job_id, self._owner.submission)
