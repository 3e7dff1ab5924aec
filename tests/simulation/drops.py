"""I11: whatever an event log brings that has no effect is counted, and nothing else is."""

from collections import Counter
from collections.abc import Iterable

from regather.core.job_events import Assembled, InheritedLoaded
from regather.core.model import Abandoned, Event, Identity, Opened, Outcomes, Redriven, Sealed, Tick, Uploading
from regather.core.partition_fold import FoldPolicy, PartitionFold, reopenable
from regather.core.reassembly import Assemble, EmitFinal, LoadInherited
from regather.core.redrive import VersionHistory
from regather.core.seq_ranges import numbers
from simulation.invariants import Invariants


def check_drops(invariants: Invariants, policy: FoldPolicy, log: Iterable[tuple[int, Event]]) -> None:
    """Fold a whole log once more, each end read back at once, beside a book of what has to be dropped."""
    dropped: Counter[str] = Counter()
    fold, book, whole = PartitionFold(policy, dropped), _Book(), list(log)
    for offset, (append_ms, event) in enumerate(whole):
        book.total += book.drops(event)
        instructions = fold.handle(event, offset=offset, append_ms=append_ms)
        while instructions:
            instruction = instructions.pop()
            if isinstance(instruction, Assemble):
                instructions += fold.advance(instruction.job, Assembled(b"", ""))
            elif isinstance(instruction, LoadInherited):
                stretch = (event for _, event in whole[instruction.first : instruction.end])
                instructions += fold.advance(instruction.job, base_of(instruction.job.owner, stretch))
            elif isinstance(instruction, EmitFinal):
                job = instruction.job
                again = reopenable(job.broken.reason if job.broken else None)
                fold.final_seen(job.owner.job_id, job.owner.version, reopenable=again, submission=job.owner.submission)
                book.ended(job.owner, again)
    invariants.check("I10", fold.open_jobs == 0, fold.open_jobs, "jobs are still open")
    counted = sum(dropped.values())
    invariants.check("I11", counted == book.total, counted, "drops are counted, not", book.total, dropped)


def base_of(owner: Identity, events: Iterable[Event]) -> InheritedLoaded:
    """What the events before a redrive have left, as an aggregator reads them."""
    versions = VersionHistory(owner, keep_outputs=True)
    for event in events:
        versions.apply(event)
    return InheritedLoaded(versions.outcomes, versions.sealed)


class _Book:
    """How many drops each event ought to cause."""

    def __init__(self) -> None:
        self.total = 0
        self._owner: dict[str, Identity | None] = {}
        self._done: dict[str, tuple[int, bool]] = {}
        self._last: dict[str, Identity] = {}
        """Who ended last."""
        self._sealed: dict[Identity, int] = {}
        """How many shards each one has."""
        self._outcomes: set[tuple[Identity, int]] = set()
        self._runs: dict[Identity, set[int]] = {}
        """The shards that a redriven version runs."""

    def ended(self, owner: Identity, again: bool) -> None:
        """A job ended; its next version may be opened or not."""
        self._owner[owner.job_id] = None
        self._last[owner.job_id] = owner
        self._done[owner.job_id] = (owner.version, again)

    def drops(self, event: Event) -> int:
        """Take the next event; how many drops it causes."""
        if isinstance(event, Tick):
            return 0
        owner = event.owner
        present = self._owner.get(owner.job_id)
        if isinstance(event, Opened):
            return self._open(owner, present)
        if isinstance(event, Redriven):
            return self._redrive(event, present)
        if present != owner:
            return 1
        if isinstance(event, Outcomes):
            return self._settle(event)
        if isinstance(event, Sealed) and owner not in self._sealed:
            return self._seal(event)
        return int(isinstance(event, Sealed | Uploading | Abandoned) and owner in self._sealed)

    def _settle(self, event: Outcomes) -> int:
        runs = self._runs.get(event.owner)
        shards = self._sealed.get(event.owner)
        seqs = {outcome.seq for outcome in event.outcomes if shards is None or outcome.seq < shards}
        new = {(event.owner, seq) for seq in seqs if runs is None or seq in runs}
        new -= self._outcomes
        self._outcomes |= new
        return len(event.outcomes) - len(new)

    def _seal(self, event: Sealed) -> int:
        """Outcomes of shards that do not exist go."""
        self._sealed[event.owner] = event.shards
        beyond = {(owner, seq) for owner, seq in self._outcomes if owner == event.owner and seq >= event.shards}
        self._outcomes -= beyond
        return len(beyond)

    def _redrive(self, event: Redriven, present: Identity | None) -> int:
        owner = event.owner
        done = self._done.get(owner.job_id)
        last = self._last.get(owner.job_id)
        if present is not None or (done is not None and owner.version != done[0] + 1):
            return 1
        if last is not None and last.submission != owner.submission:
            return 1
        self._owner[owner.job_id] = owner
        self._runs[owner] = set(numbers(event.seqs))
        return 0

    def _open(self, owner: Identity, present: Identity | None) -> int:
        if present is not None:
            return 1
        done = self._done.get(owner.job_id)
        if done is not None and not (done[1] and owner.version == done[0] + 1):
            return 1
        self._owner[owner.job_id] = owner
        return 0
