"""Which versions of a job there are and how each may end: written without the fold, from docs/protocol.md alone.

The log decides by its order. What may come either way is only what happens while a complete job is being joined or merged,
and of a version that a redrive began, while the outcomes of its base are being read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from regather.core.model import (
    Abandoned,
    Cancel,
    Event,
    Identity,
    JobState,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Reason,
    Redriven,
    Sealed,
    Tick,
    Uploading,
)

End = tuple[JobState, Reason | None]
EXPIRED: End = (JobState.EXPIRED, Reason.DEADLINE)
NOT_SEALED: End = (JobState.FAILED, Reason.NOT_SEALED)
CANCELLED: End = (JobState.CANCELLED, Reason.CANCELLED)
SHARD_FAILED: End = (JobState.FAILED, Reason.SHARD_FAILED)
TOO_MANY: End = (JobState.FAILED, Reason.TOO_MANY_FAILED)
NOBODY_RUNS: End = (JobState.FAILED, Reason.INTERNAL)


@dataclass
class Account:
    """One version of a job, as the log tells it.

    `decided` is the end that some record brought about; else, when the job is `complete`, its shards decide, and `may`
    holds what could still interrupt that. `first` are the first outcomes of its shards up to then; with a `redriven`
    they begin with those of its base.
    """

    order: Opened
    heartbeat_timeout_ms: int
    opened_ms: int
    redriven: Redriven | None = None
    first: dict[int, Outcome] = field(default_factory=dict)
    sealed: Sealed | None = None
    decided: End | None = None
    complete: bool = False
    may: set[End] = field(default_factory=set)
    late: dict[int, Outcome] = field(default_factory=dict)
    """Of a version that its base has decided already: its own outcomes, which may be there before the base is read."""

    def __post_init__(self) -> None:
        self._sign_ms = self.opened_ms
        if self.first:
            self._decide()

    @property
    def owner(self) -> Identity:
        return self.order.owner

    @property
    def failed(self) -> list[int]:
        """Shards that failed for good."""
        return sorted(seq for seq, outcome in self.first.items() if outcome.failure is not None)

    @property
    def damaged(self) -> list[int]:
        """Shards that are done without some rows."""
        return sorted(seq for seq, outcome in self.first.items() if outcome.bad_rows)

    def ends(self) -> set[End]:
        """Every end that is right."""
        if self.redriven is not None and self._nobody_runs():
            return {NOBODY_RUNS, *self._may_come_first()} | self.may
        if self.decided is not None:
            return {self.decided} | self.may
        if not self.complete:
            return set(self.may)
        bad = self.failed or self.damaged
        return {(JobState.PARTIAL if bad else JobState.SUCCEEDED, None)} | self.may

    def take(self, event: Event, log_ms: int) -> None:
        """Take one of its own records, or a tick; `log_ms` is the highest append time up to it."""
        if isinstance(event, Tick):
            self._tick(log_ms)
        elif isinstance(event, Cancel):
            self._interrupt(CANCELLED)
        elif self.decided is None and not self.complete:
            self._take_open(event, log_ms)
        elif isinstance(event, Outcomes) and self.redriven is not None:
            for outcome in event.outcomes:
                if self._runs(outcome.seq) and self._exists(outcome.seq):
                    self.late.setdefault(outcome.seq, outcome)
        elif isinstance(event, Abandoned) and self.redriven is not None:  # it may be there before the base is read
            self.may.add(NOT_SEALED)

    def outcome(self, seq: int) -> Outcome | None:
        """What a final may name of this shard."""
        return self.first.get(seq) or self.late.get(seq)

    def _take_open(self, event: Event, log_ms: int) -> None:
        if isinstance(event, Outcomes):
            for outcome in event.outcomes:
                if self._runs(outcome.seq) and self._exists(outcome.seq):
                    self.first.setdefault(outcome.seq, outcome)
            self._decide()
        elif self.sealed is not None:
            return
        elif isinstance(event, Uploading):
            self._sign_ms = log_ms
        elif isinstance(event, Sealed):
            self.sealed = event
            self.first = {seq: outcome for seq, outcome in self.first.items() if self._exists(seq)}
            self._decide()
        elif isinstance(event, Abandoned):
            self.decided = NOT_SEALED

    def _runs(self, seq: int) -> bool:
        return self.redriven is None or any(low <= seq <= high for low, high in self.redriven.seqs)

    def _exists(self, seq: int) -> bool:
        """Whether the seal, once it is there, says that there is such a shard."""
        return self.sealed is None or seq < self.sealed.shards

    def _tick(self, log_ms: int) -> None:
        if log_ms >= self.opened_ms + self.order.deadline_ms:
            self._interrupt(EXPIRED)
        elif self.sealed is None and self.decided is None and log_ms - self._sign_ms >= self.heartbeat_timeout_ms:
            self._interrupt(NOT_SEALED)

    def _interrupt(self, end: End) -> None:
        if self.complete or self.redriven is not None:
            self.may.add(end)
        elif self.decided is None:
            self.decided = end

    def _nobody_runs(self) -> bool:
        """Whether a shard has neither an outcome from before nor one to come."""
        if self.sealed is None:
            return False
        return any(not self._runs(seq) and seq not in self.first for seq in range(self.sealed.shards))

    def _may_come_first(self) -> set[End]:
        """Its own outcomes may decide before those of its base were read, which show that nobody runs the rest."""
        return {self.decided} if self.decided is not None else set()

    def _decide(self) -> None:
        order, bad = self.order, len(self.failed) + len(self.damaged)
        if bad and (order.on_error is OnError.FAIL or order.chained):
            self.decided = SHARD_FAILED
        elif order.max_failed is not None and bad > order.max_failed:
            self.decided = TOO_MANY
        else:
            self.complete = self.sealed is not None and len(self.first) >= self.sealed.shards


class Chain:
    """All versions of one job, in the order in which the log accepts them."""

    def __init__(self, job_id: str, heartbeat_timeout_ms: int) -> None:
        self.accounts: list[Account] = []
        self._job_id = job_id
        self._silence_ms = heartbeat_timeout_ms
        self._outcomes: dict[int, Outcome] = {}
        """Of each shard the outcome that counts for the next redrive."""
        self._say: dict[int, int] = {}
        """The version that has the say about a shard, where it is not the submission's first."""
        self._first_version = 0

    def read(self, log: Iterable[tuple[int, Event]]) -> "Chain":
        """Go through a partition's records, each with the highest append time up to it."""
        for log_ms, event in log:
            if isinstance(event, Tick):
                if self.accounts:
                    self.accounts[-1].take(event, log_ms)
            elif event.owner.job_id == self._job_id:
                self._take(event, log_ms)
        return self

    def of(self, version: int) -> Account | None:
        """The account of one version."""
        return next((account for account in self.accounts if account.owner.version == version), None)

    def _take(self, event: Event, log_ms: int) -> None:
        present = self.accounts[-1] if self.accounts else None
        if isinstance(event, Opened):
            if present is None or (event.owner.version == present.owner.version + 1 and self._reopens(present)):
                self._outcomes, self._say, self._first_version = {}, {}, event.owner.version
                self.accounts.append(Account(event, self._silence_ms, log_ms))
        elif isinstance(event, Redriven):
            if present is not None and event.owner == present.owner._replace(version=present.owner.version + 1):
                self._redrive(event, log_ms)
        elif present is not None and not isinstance(event, Tick):
            if event.owner == present.owner:
                present.take(event, log_ms)
            if isinstance(event, Outcomes):
                self._note(event, present.owner)

    @staticmethod
    def _reopens(account: Account) -> bool:
        return account.decided == NOT_SEALED or NOT_SEALED in account.may

    def _redrive(self, event: Redriven, log_ms: int) -> None:
        base: Mapping[int, Outcome] = dict(self._outcomes)
        for low, high in event.seqs:
            for seq in range(low, high + 1):
                self._outcomes.pop(seq, None)
                self._say[seq] = event.owner.version
        stays = {seq: outcome for seq, outcome in base.items() if seq in self._outcomes}
        self.accounts.append(Account(event.opened, self._silence_ms, log_ms, event, stays))

    def _note(self, event: Outcomes, owner: Identity) -> None:
        if event.owner.submission != owner.submission:
            return
        for outcome in event.outcomes:
            if self._say.get(outcome.seq, self._first_version) == event.owner.version:
                self._outcomes.setdefault(outcome.seq, outcome)
