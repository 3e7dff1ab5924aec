"""Which ends of a job its log allows: written without the fold, from the rules of the delivery protocol alone.

The log decides by its order. What may come either way is only what happens while a complete job is being joined or merged.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from regather.core.model import (
    Abandoned,
    Cancel,
    Event,
    JobState,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Reason,
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


@dataclass
class Account:
    """One submission that owns its job, as the log tells it.

    `decided` is the end that some record brought about; else, when the job is `complete`, its shards decide, and `may`
    holds what could still interrupt that. `first` are the first outcomes of its shards up to then.
    """

    order: Opened
    silence_ms: int
    first: dict[int, Outcome] = field(default_factory=dict)
    sealed: Sealed | None = None
    decided: End | None = None
    complete: bool = False
    may: set[End] = field(default_factory=set)
    _opened_ms: int | None = None
    _sign_ms: int = 0

    def read(self, log: Iterable[tuple[int, Event]]) -> "Account":
        """Go through a partition's records, each with the highest append time up to it."""
        owner = self.order.owner
        for log_ms, event in log:
            if self._opened_ms is None:
                if type(event) is Opened and event.owner == owner:
                    self._opened_ms = self._sign_ms = log_ms
            elif type(event) is Tick:
                self._tick(log_ms)
            elif event.owner == owner:
                self._take(event, log_ms)
            if self.decided is not None:
                break
        return self

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
        if self.decided is not None:
            return {self.decided}
        if not self.complete:
            return set()
        bad = self.failed or self.damaged
        return {(JobState.PARTIAL if bad else JobState.SUCCEEDED, None)} | self.may

    def _tick(self, log_ms: int) -> None:
        assert self._opened_ms is not None
        if log_ms >= self._opened_ms + self.order.deadline_ms:
            self._interrupt(EXPIRED)
        elif self.sealed is None and log_ms - self._sign_ms >= self.silence_ms:
            self.decided = NOT_SEALED

    def _interrupt(self, end: End) -> None:
        if self.complete:
            self.may.add(end)
        else:
            self.decided = end

    def _take(self, event: Event, log_ms: int) -> None:
        if isinstance(event, Cancel):
            self._interrupt(CANCELLED)
        elif self.complete:
            return
        elif isinstance(event, Outcomes):
            for outcome in event.outcomes:
                self.first.setdefault(outcome.seq, outcome)
            self._decide()
        elif self.sealed is not None:
            return
        elif isinstance(event, Uploading):
            self._sign_ms = log_ms
        elif isinstance(event, Sealed):
            self.sealed = event
            self._decide()
        elif isinstance(event, Abandoned):
            self.decided = NOT_SEALED

    def _decide(self) -> None:
        order, bad = self.order, len(self.failed) + len(self.damaged)
        if bad and (order.on_error is OnError.FAIL or order.chained):
            self.decided = SHARD_FAILED
        elif order.max_failed is not None and bad > order.max_failed:
            self.decided = TOO_MANY
        else:
            self.complete = self.sealed is not None and len(self.first) >= self.sealed.shards
