"""Redrive: which version of a job is authoritative for each shard, and which outcomes the earlier versions left.

The outcomes of earlier versions are read again from job-events, not from segments (ADR 0012).
Source: docs/protocol.md#redrive.
"""

from collections.abc import Mapping

from regather.core.model import Event, Identity, Opened, Outcome, Outcomes, Redriven, Sealed
from regather.core.seq_ranges import contains


class ShardVersions:
    """The authoritative version of each shard: the latest one that re-ran it, else the first one."""

    def __init__(self, first: int = 1) -> None:
        self.newest = first
        self._first = first
        self._redrives: list[Redriven] = []

    def apply(self, event: Redriven) -> bool:
        """Apply a redrive, in log order; return False if it is not the next version, because another one came first."""
        if event.owner.version != self.newest + 1:
            return False
        self.newest += 1
        self._redrives.append(event)
        return True

    def of(self, seq: int, *, at: int | None = None) -> int:
        """Return the authoritative version of this shard; with `at`, among the versions up to this one."""
        for event in reversed(self._redrives):
            if contains(event.seqs, seq) and (at is None or event.owner.version <= at):
                return event.owner.version
        return self._first


class VersionHistory:
    """Folds the events of one submission over all its versions, in log order and from `opened` on.

    `outcomes` holds the first outcome of each shard's authoritative version. With `keep_outputs` False, they have no
    output and no carry.
    """

    def __init__(self, owner: Identity, *, keep_outputs: bool) -> None:
        self._submission = (owner.job_id, owner.submission)
        self._keep_outputs = keep_outputs
        self._versions: ShardVersions | None = None
        self._outcomes: dict[int, Outcome] = {}
        self.opened: Opened | None = None
        self.sealed: Sealed | None = None
        """The seal of the first version. All versions share its shard records."""

    @property
    def newest(self) -> int:
        """The newest version; 0 if there is none."""
        return self._versions.newest if self._versions else 0

    @property
    def outcomes(self) -> Mapping[int, Outcome]:
        """The outcomes that count, by sequence number."""
        return self._outcomes

    def apply(self, event: Event) -> None:
        """Fold one event; ignore those of other submissions and outcomes of versions that are not authoritative."""
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
        """Return the shards that have no whole outcome: failed, never run, or done except for bad rows."""
        total = self.sealed.shards if self.sealed else 0
        return [seq for seq in range(total) if not _whole(self._outcomes.get(seq))]

    def never_ran(self) -> list[int]:
        """Return the shards without any outcome. A version that leaves one of them out can never be whole."""
        return [seq for seq in range(self.sealed.shards if self.sealed else 0) if seq not in self._outcomes]

    def _open(self, event: Opened) -> None:
        if self.opened is None:
            self.opened = event
            self._versions = ShardVersions(event.owner.version)

    def _redrive(self, event: Redriven, versions: ShardVersions) -> None:
        if versions.apply(event):
            for seq in [seq for seq in self._outcomes if contains(event.seqs, seq)]:
                del self._outcomes[seq]

    def _settle(self, event: Outcomes, versions: ShardVersions) -> None:
        for outcome in event.outcomes:
            if outcome.seq not in self._outcomes and versions.of(outcome.seq) == event.owner.version:
                self._outcomes[outcome.seq] = outcome if self._keep_outputs else outcome._replace(output=b"", carry=b"")


def _whole(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.failure is None and not outcome.bad_rows
