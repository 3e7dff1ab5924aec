"""What is checked when a run of the rules has ended."""

from collections import Counter
from collections.abc import Iterator

from regather.core.model import (
    Abandoned,
    Event,
    Identity,
    JobState,
    Opened,
    Outcomes,
    Reason,
    Sealed,
    Tick,
    Uploading,
)
from regather.core.partition_fold import PartitionFold, reopenable
from regather.core.reassembly import Assemble, Assembled, EmitFinal
from regather.core.status import newer
from simulation.oracle import Account
from simulation.rules.model import POLICY, SILENCE_MS, Fate, Final, Model


def judge(model: Model) -> None:
    """Check every job, every promise, every charge and every drop."""
    finals = model.finals()
    by_key: dict[tuple[str, int], Final] = {}
    check = model.invariants.check
    for final in finals:
        key = (final.owner.job_id, final.owner.version)
        check("I1", key not in by_key, "a second final for", key)
        by_key[key] = final
    opened = {entry.event.owner: entry.event for entry in reversed(model.events) if type(entry.event) is Opened}
    for job_id, first in model.owners().items():
        final = by_key.get((job_id, first.owner.version))
        check("I1", final is not None and final.owner == first.owner, "no final of", first.owner, "but", final)
    for owner in model.sealed:
        check("I1", (owner.job_id, owner.version) in by_key, "no final of", owner, "which was promised")
    for final in finals:
        order = opened.get(final.owner)
        if check("I3", order is not None, "a final of", final.owner, "which nobody opened") and order is not None:
            _check_end(model, final, order)
    _check_view(model, by_key)
    _check_charges(model)
    _check_drops(model)


def _check_end(model: Model, final: Final, order: Opened) -> None:
    job = model.jobs[final.owner]
    account = Account(order, SILENCE_MS).read(_with_log_time(model))
    end, ends = (final.state, final.reason), account.ends()
    check = model.invariants.check
    check("I2", end in ends, final.owner, "ended as", end, "not one of", ends)
    failed = account.failed
    if final.state in (JobState.SUCCEEDED, JobState.PARTIAL):
        seqs = [seq for seq in range(len(job.destinies)) if seq not in failed]
        right = b"".join(b"<%s %d>" % (final.owner.submission.encode(), seq) for seq in seqs)
        check("I2", final.result == right, final.owner, "has the result", final.result, "not", right)
        gaps = [seq for low, high in final.status.gaps for seq in range(low, high + 1)]
        check("I4", gaps == failed, final.owner, "names the gaps", gaps, "not", failed)
        check("I2", final.status.frontier == len(job.destinies), final.owner, "ends at", final.status.frontier)
    else:
        check("I3", not final.result, final.owner, "failed and has a result")
    for error in final.status.errors:
        there = error.dead_letter is not None and model.letters[error.dead_letter[1]] == (
            final.owner, error.seq, error.row,
        )  # fmt: skip
        check("I4", there, final.owner, "has no letter for", error)
        destiny = job.destinies[error.seq]
        guilty = destiny.fate is not Fate.FINE or error.reason is Reason.WORKER_LOST
        check("I4", guilty, final.owner, "blames the innocent", error)


def _with_log_time(model: Model) -> Iterator[tuple[int, Event]]:
    log_ms = 0
    for event, append_ms in model.events:
        log_ms = max(log_ms, append_ms)
        yield log_ms, event


def _check_view(model: Model, by_key: dict[tuple[str, int], Final]) -> None:
    """Whatever the order in which statuses reach a view, it shows the end."""
    statuses = [status for status in model.statuses if (status.owner.job_id, status.owner.version) in by_key]
    model.chance.shuffle(statuses)
    shown: dict[str, Final | object] = {}
    for status in statuses:
        known = shown.get(status.owner.job_id)
        shown[status.owner.job_id] = newer(known, status)  # type: ignore[arg-type]
    for job_id, status in shown.items():
        ended = status.state.ended  # type: ignore[attr-defined]
        model.invariants.check("VIEW", ended, job_id, "is shown as", status)


def _check_charges(model: Model) -> None:
    check = model.invariants.check
    for event, _ in model.events:
        if type(event) is not Outcomes:
            continue
        for outcome in event.outcomes:
            if outcome.failure is not None:
                attempts = [error.attempt for error in outcome.failure.history]
                check("I5", attempts == list(range(len(attempts))) and len(attempts) <= 4, event.owner, attempts)
                for attempt in attempts:
                    executed = (event.owner, outcome.seq, attempt) in model.executed
                    check("I5", executed, event.owner, outcome.seq, "was charged for attempt", attempt)
    disturbances = sum(model.faults.values())
    most = max(model.executions.values(), default=0)
    # Whoever runs a copy publishes a copy of its retry: one more with each attempt and each disturbance.
    check("I5", most <= 4 * (1 + disturbances) ** 2, "an attempt ran", most, "times")


def _check_drops(model: Model) -> None:
    """I11: fold the whole log once more; whatever had no effect is counted, and nothing else is."""
    dropped: Counter[str] = Counter()
    fold = PartitionFold(POLICY, dropped)
    book = _Book()
    for offset, (event, append_ms) in enumerate(model.events):
        expected = book.drops(event)
        instructions = fold.handle(event, offset=offset, append_ms=append_ms)
        while instructions:
            instruction = instructions.pop()
            if isinstance(instruction, Assemble):
                instructions += fold.advance(instruction.job, Assembled(b"", ""))
            elif isinstance(instruction, EmitFinal):
                owner = instruction.job.owner
                again = reopenable(instruction.job.broken.reason if instruction.job.broken else None)
                fold.final_seen(owner.job_id, owner.version, reopenable=again)
                book.ended(owner, again)
        book.total += expected
    model.invariants.check("I10", fold.open_jobs == 0, fold.open_jobs, "jobs are still open")
    counted = sum(dropped.values())
    model.invariants.check("I11", counted == book.total, counted, "drops are counted, not", book.total, dropped)


class _Book:
    """How many drops each event ought to cause."""

    def __init__(self) -> None:
        self.total = 0
        self._owner: dict[str, Identity | None] = {}
        self._done: dict[str, tuple[int, bool]] = {}
        self._sealed: set[Identity] = set()
        self._outcomes: set[tuple[Identity, int]] = set()

    def ended(self, owner: Identity, again: bool) -> None:
        self._owner[owner.job_id] = None
        self._done[owner.job_id] = (owner.version, again)

    def drops(self, event: object) -> int:
        sort = type(event)
        if sort is Tick:
            return 0
        owner: Identity = event.owner  # type: ignore[attr-defined]
        present = self._owner.get(owner.job_id)
        if sort is Opened:
            return self._open(owner, present)
        if present != owner:
            return 1
        if sort is Outcomes:
            new = {(owner, outcome.seq) for outcome in event.outcomes} - self._outcomes  # type: ignore[attr-defined]
            self._outcomes |= new
            return len(event.outcomes) - len(new)  # type: ignore[attr-defined]
        if sort is Sealed and owner not in self._sealed:
            self._sealed.add(owner)
            return 0
        return int(sort in (Sealed, Uploading, Abandoned) and owner in self._sealed)

    def _open(self, owner: Identity, present: Identity | None) -> int:
        if present is not None:
            return 1
        done = self._done.get(owner.job_id)
        if done is not None and not (done[1] and owner.version == done[0] + 1):
            return 1
        self._owner[owner.job_id] = owner
        return 0
