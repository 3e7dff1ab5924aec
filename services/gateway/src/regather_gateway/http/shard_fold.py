"""The states of a job's shards, folded on demand from the job's own events."""

from pydantic import BaseModel, Field

from regather.core.errors import WireError
from regather.core.model import AttemptError, AttemptFailed, Identity, Outcome, Outcomes, Redriven, Tick
from regather.core.redrive import ShardVersions
from regather.core.seq_ranges import contains
from regather.transport.base import Record
from regather.wire.events import decode_event
from regather.wire.identity import belongs_to


class AttemptDocument(BaseModel):
    """One failed execution of a shard."""

    attempt: int
    reason: str
    error: str
    worker: str
    started_ms: int
    duration_ms: int


class ShardDocument(BaseModel):
    """One shard. `state` is waiting (no event yet), retrying, done or failed."""

    seq: int
    state: str
    attempts: int = 0
    worker: str | None = None
    started_ms: int | None = None
    duration_us: int | None = None
    input_bytes: int | None = None
    failures: list[AttemptDocument] = []
    bad_rows: list[int] = Field(default=[], description="rows that are missing in the output of a done shard")
    reason: str | None = None
    error: str | None = None


class ShardFold:
    """Folds one job's events into the states of shards `first` to `first + limit - 1`.

    The first outcome of a shard counts. After a redrive that is its outcome in the latest version that runs the shard.
    """

    def __init__(self, owner: Identity, total: int | None, *, first: int, limit: int) -> None:
        self._is_mine = belongs_to(owner, any_version=True)
        self._newest = owner.version
        self._versions: ShardVersions | None = None
        self._total = total
        self._window = range(first, first + limit)
        self._shards: dict[int, ShardDocument] = {}
        self._settled = 0
        self.highest = -1

    def fold(self, record: Record) -> bool:
        """Fold one record of job-events; False once every shard in the window is settled."""
        if self._is_mine(record.headers):
            self._apply(record)
        if self._versions is not None and self._versions.newest < self._newest:
            return True  # the event of a later redrive is still ahead in the log
        end = self._window.stop if self._total is None else min(self._total, self._window.stop)
        return self._settled < end - self._window.start

    def shards(self) -> list[ShardDocument]:
        """Return the shards of the window that are known to exist, in order."""
        end = self.highest + 1 if self._total is None else self._total
        known = range(self._window.start, min(end, self._window.stop))
        return [self._shards.get(seq) or ShardDocument(seq=seq, state="waiting") for seq in known]

    def _apply(self, record: Record) -> None:
        try:
            event = decode_event(record.headers, record.value)
        except WireError:  # the aggregator folds the same record, and counts and logs the error
            return
        if isinstance(event, Tick):
            return
        versions = self._versions = self._versions or ShardVersions(event.owner.version)
        if isinstance(event, Redriven):
            if versions.apply(event):
                self._reset(event)
        elif isinstance(event, Outcomes):
            for outcome in event.outcomes:
                if versions.of(outcome.seq) == event.owner.version:
                    self._end(outcome, event.worker)
        elif isinstance(event, AttemptFailed) and versions.of(event.seq) == event.owner.version:
            self._retry(event)

    def _reset(self, event: Redriven) -> None:
        """Forget the states of the shards that run again."""
        for seq in [seq for seq in self._shards if contains(event.seqs, seq)]:
            self._settled -= self._shards.pop(seq).state in ("done", "failed")

    def _end(self, outcome: Outcome, worker: str) -> None:
        self.highest = max(self.highest, outcome.seq)
        before = self._shards.get(outcome.seq)
        if outcome.seq not in self._window or (before and before.state in ("done", "failed")):
            return
        failure = outcome.failure
        known = before.failures if before else []
        self._settled += 1
        self._shards[outcome.seq] = ShardDocument(
            seq=outcome.seq,
            state="failed" if failure else "done",
            attempts=outcome.attempts,
            worker=worker,
            started_ms=outcome.started_ms,
            duration_us=outcome.duration_us,
            input_bytes=outcome.input_bytes,
            failures=[_attempt(error) for error in failure.history] if failure else known,
            bad_rows=[bad.row for bad in outcome.bad_rows],
            reason=failure.reason.value if failure else None,
            error=failure.error if failure else None,
        )

    def _retry(self, event: AttemptFailed) -> None:
        self.highest = max(self.highest, event.seq)
        if event.seq not in self._window:
            return
        shard = self._shards.setdefault(event.seq, ShardDocument(seq=event.seq, state="retrying"))
        attempts = {failure.attempt for failure in shard.failures}
        if event.error.attempt not in attempts:
            shard.failures = [*shard.failures, _attempt(event.error)]
        if shard.state == "retrying":
            shard.attempts = len(shard.failures)
            shard.worker, shard.error, shard.reason = event.error.worker, event.error.error, event.error.reason.value


def _attempt(error: AttemptError) -> AttemptDocument:
    return AttemptDocument(
        attempt=error.attempt,
        reason=error.reason.value,
        error=error.error,
        worker=error.worker,
        started_ms=error.started_ms,
        duration_ms=error.duration_ms,
    )
