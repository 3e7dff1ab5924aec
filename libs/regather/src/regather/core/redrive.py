"""Redrive: which version of a job has the say about each shard, and what the earlier ones have left behind.

Source: docs/protocol.md#redrive (ADR 0012): outcomes of earlier versions are read again from
job-events instead of from segments.
"""

from collections.abc import Mapping

from regather.core.model import Event, Identity, Opened, Outcome, Outcomes, Redriven, Sealed
from regather.core.seq_ranges import contains


class ShardVersions:
    """Of each shard the version whose outcome counts: the newest one that runs it again, else the first one."""

    def __init__(self, first: int = 1) -> None:
        self.newest = first
        self._first = first
        self._redrives: list[Redriven] = []

    def take(self, event: Redriven) -> bool:
        """Note a redrive in log order; False for one that is not the next version: another one came first."""
        if event.owner.version != self.newest + 1:
            return False
        self.newest += 1
        self._redrives.append(event)
        return True

    def of(self, seq: int, *, at: int | None = None) -> int:
        """The version that has the say about this shard; of those up to version `at`, if that is given."""
        for event in reversed(self._redrives):
            if contains(event.seqs, seq) and (at is None or event.owner.version <= at):
                return event.owner.version
        return self._first


class VersionHistory:
    """Folds the events of one submission over all its versions, in log order and from `opened` on.

    `outcomes` are those that count now, the first of each shard; without their output if `keep_outputs` is False.
    """

    def __init__(self, owner: Identity, *, keep_outputs: bool) -> None:
        self._submission = (owner.job_id, owner.submission)
        self._keep_outputs = keep_outputs
        self._versions: ShardVersions | None = None
        self._outcomes: dict[int, Outcome] = {}
        self.opened: Opened | None = None
        self.sealed: Sealed | None = None
        """Of the first version, whose records are everybody's."""

    @property
    def newest(self) -> int:
        """The newest version; 0 if there is none."""
        return self._versions.newest if self._versions else 0

    @property
    def outcomes(self) -> Mapping[int, Outcome]:
        """By sequence number."""
        return self._outcomes

    def take(self, event: Event) -> None:
        """Fold one event; those of other submissions, and those that have no say, are ignored."""
        owner = getattr(event, "owner", None)
        if owner is None or (owner.job_id, owner.submission) != self._submission:
            return
        if isinstance(event, Opened):
            self._open(event)
        elif self._versions is None:
            return
        elif isinstance(event, Redriven):
            self._redrive(event, self._versions)
        elif isinstance(event, Sealed):
            self.sealed = self.sealed or event
        elif isinstance(event, Outcomes):
            self._settle(event, self._versions)

    def to_run(self) -> list[int]:
        """Shards that have no whole outcome: failed, never run, or done but for bad rows."""
        total = self.sealed.shards if self.sealed else 0
        return [seq for seq in range(total) if not _whole(self._outcomes.get(seq))]

    def never_ran(self) -> list[int]:
        """Shards without any outcome: a version that leaves one of them out can never be whole."""
        return [seq for seq in range(self.sealed.shards if self.sealed else 0) if seq not in self._outcomes]

    def _open(self, event: Opened) -> None:
        if self.opened is None:
            self.opened = event
            self._versions = ShardVersions(event.owner.version)

    def _redrive(self, event: Redriven, versions: ShardVersions) -> None:
        if versions.take(event):
            for seq in [seq for seq in self._outcomes if contains(event.seqs, seq)]:
                del self._outcomes[seq]

    def _settle(self, event: Outcomes, versions: ShardVersions) -> None:
        for outcome in event.outcomes:
            if outcome.seq not in self._outcomes and versions.of(outcome.seq) == event.owner.version:
                self._outcomes[outcome.seq] = outcome if self._keep_outputs else outcome._replace(output=b"", carry=b"")


def _whole(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.failure is None and not outcome.bad_rows
