"""A worker as simple code around the rules that it uses: watermark, custody, lanes, retry, pace, bisection."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from regather.core.batch_sizer import MAX_BATCH_ITEMS, BatchSizer
from regather.core.bisection import Bisection, Verdict
from regather.core.crash_attribution import CrashTracker
from regather.core.lanes import REGULAR_TURN, Lane, LaneQueue
from regather.core.model import (
    AttemptError,
    AttemptFailed,
    BadRow,
    DeadLetterAddress,
    Failure,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    RecordPlace,
    Shard,
)
from regather.core.retry import GiveUp, RetryPolicy
from regather.core.watermark import Watermark
from simulation.rules.model import RETRY, ROWS, Committed, Fate, Model

_POLICY = RetryPolicy(base_ms=100, cap_ms=1_000)
_JOBS = 24
"""At most so many groups share the lanes."""

MOST_PRIORITY_TURNS = 7
"""So many turns in a row may go to the priority lane while the other one waits: a number of its own, not that of core."""


@dataclass(slots=True, eq=False)
class Intake:
    """One partition that a worker owns; `epoch` tells one ownership from the next."""

    partition: int
    epoch: int
    watermark: Watermark
    crash_tracker: CrashTracker
    next_offset: int


@dataclass(slots=True, eq=False)
class Taken:
    """A shard that was taken in; `queued_at` is how many batches had been begun then, `ahead` how many waited."""

    shard: Shard
    intake: Intake
    offset: int
    queued_at: int = 0
    ahead: int = 0


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process."""

    model: Model
    name: str
    epochs: list[int]
    """Who owns which partition, shared by all: the epoch of its present owner."""
    polled_most: int = 3
    """So many records of a partition come with one poll."""
    intakes: dict[int, Intake] = field(default_factory=dict)
    queue: LaneQueue[Taken] = field(default_factory=LaneQueue)
    pace: BatchSizer = field(default_factory=BatchSizer)
    exclusive: list[Taken] = field(default_factory=list)
    running: list[Taken] = field(default_factory=list)
    finished: list[tuple[Taken, bool]] = field(default_factory=list)
    begun: int = 0
    regular_waits: int = 0
    priority_turns: int = 0
    """How many turns in a row have gone to the priority lane while the other one waited."""
    dead: bool = False

    # Ownership.

    def take_over(self, partition: int) -> None:
        """Become the owner of a partition, and say so before anything is read."""
        model = self.model
        self.epochs[partition] += 1
        offset, attribution, settled = model.committed[partition]
        crash_tracker = CrashTracker(self.name, attribution, end=len(model.shards[partition]), settled=settled)
        watermark = Watermark(offset, settled)
        intake = Intake(partition, self.epochs[partition], watermark, crash_tracker, offset)
        self.intakes[partition] = intake
        self._commit(intake)
        model.say(self.name, "owns", partition, "from", offset)

    def owns(self, intake: Intake) -> bool:
        """Whether nobody took this partition over meanwhile."""
        return self.epochs[intake.partition] == intake.epoch

    def commit(self) -> None:
        """Commit every partition that is still owned; commits of the others are refused."""
        for intake in self.intakes.values():
            self._commit(intake)

    def leave(self, partition: int) -> None:
        """Give a partition up in order, with a farewell."""
        intake = self.intakes.pop(partition, None)
        if intake is not None:
            self._commit(intake, clean_shutdown=True)
            self.epochs[partition] += 1

    def _commit(self, intake: Intake, *, clean_shutdown: bool = False) -> None:
        model = self.model
        if not self.owns(intake):
            return
        offset, settled = intake.watermark.committable()
        before = model.committed[intake.partition]
        for passed in (*range(before.offset, offset), *settled):
            settled_there = model.settled(intake.partition, passed)
            model.invariants.check("I6", settled_there, self.name, "committed an open shard:", intake.partition, passed)
        attribution = intake.crash_tracker.attribution(offset, clean_shutdown=clean_shutdown)
        model.say(self.name, "commits", intake.partition, offset, sorted(settled), attribution)
        model.committed[intake.partition] = Committed(offset, attribution, frozenset(settled))

    # Shards.

    def deliver(self, partition: int) -> bool:
        """Take in the next records of a partition; a zombie reads on in what it once owned."""
        intake = self.intakes[partition]
        log = self.model.shards[partition]
        if intake.next_offset >= len(log):
            return False
        end = min(len(log), intake.next_offset + self.polled_most)
        for offset in range(intake.next_offset, end):
            if intake.watermark.deliver(offset):
                self._take(Taken(log[offset], intake, offset))
        intake.next_offset = end
        return True

    def deliver_any(self) -> bool:
        """Take in the next records of some partition."""
        delivered = [self.deliver(partition) for partition in self.intakes]
        return any(delivered)

    def work(self) -> bool:
        """Do everything that is to be done now; whether there was anything."""
        busy = self.deliver_any()
        self.drop_ended()
        while not self.dead and (self.start() or self.finish()):
            busy = True
        if not self.dead:
            self.commit()
        return busy

    def start(self) -> bool:
        """Begin a batch, or alone what may take the worker along."""
        if self.running and self.running[0] in self.exclusive:
            return False
        if self.exclusive and not len(self.queue) and not self.running:
            alone = self.exclusive[0]
            if any(intake.crash_tracker.unblamed and self.owns(intake) for intake in self.intakes.values()):
                return False  # losses have to be charged and committed first
            alone.intake.crash_tracker.begin(alone.offset, self.model.now_ms)
            self.commit()
            if self.owns(alone.intake):
                self.model.named_alone.add((alone.shard.owner, alone.shard.seq, alone.shard.attempt))
            self._begin(alone)
            return True
        batch = self.queue.pop_batch(most_items=lambda taken: self.pace.batch_items("kind"))
        self.begun += 1
        self._check_lanes(batch)
        for taken in batch:
            self._check_turn(taken)
            if taken.intake.crash_tracker.is_watched(taken.offset):
                taken.intake.crash_tracker.begin(taken.offset)
                self._commit(taken.intake)
            self._begin(taken)
        self.model.invariants.check("I9", len(batch) <= MAX_BATCH_ITEMS, "a batch is too large")
        return bool(batch)

    def finish(self) -> bool:
        """Let something that runs end, and publish what it came to; the ack may be lost, then it is sent again."""
        if not self.running:
            return False
        taken = self.running.pop(int(self.model.chance.random() * len(self.running)))
        if taken in self.exclusive:
            self.exclusive.remove(taken)
        destiny = self.model.destinies[taken.shard.owner, taken.shard.seq]
        if destiny.fate is Fate.DEADLY and taken.shard.attempt < destiny.times:
            self.model.faults["worker-killed-by-shard"] += 1
            self.model.say(
                self.name, "is killed by", taken.intake.partition, taken.offset, "attempt", taken.shard.attempt
            )
            self.dead = True
            return True
        self.pace.saw("kind", 1, 3_000)
        twice = self.model.chance.random() < 0.05
        if twice:
            self.model.faults["lost-ack"] += 1
        for _ in range(1 + twice):
            self._publish(taken)
        self._settle(taken)
        return True

    def drop_ended(self) -> None:
        """Forget what waits of jobs that are over."""
        ended = self.model.ended
        for taken in self.queue.remove(lambda taken: taken.shard.owner in ended):
            self.regular_waits -= _lane(taken) is Lane.REGULAR
            self._settle(taken)
        for taken in [taken for taken in self.exclusive if taken.shard.owner in ended and taken not in self.running]:
            self.exclusive.remove(taken)
            self._settle(taken)

    def _take(self, taken: Taken) -> None:
        model, shard, crash_tracker = self.model, taken.shard, taken.intake.crash_tracker
        if shard.owner in model.ended:
            self._settle(taken)
        elif shard.chained and shard.source is None and shard.seq > 0:
            place = RecordPlace("shards", taken.intake.partition, taken.offset)
            model.append(Parked(shard.owner, shard.seq, place, shard.timeout_ms))
            model.parked.add((shard.owner, shard.seq))
            self._settle(taken)
        elif (crash := crash_tracker.crash_at(taken.offset)) is not None:
            self._fail(taken, Reason.WORKER_LOST, crash.worker)
            self._settle(taken)
        elif crash_tracker.is_suspect(taken.offset) or (
            shard.history and shard.history[-1].reason is Reason.WORKER_LOST
        ):
            self.exclusive.append(taken)
        else:
            taken.queued_at, taken.ahead = self.begun, len(self.queue)
            self.regular_waits += _lane(taken) is Lane.REGULAR
            self.queue.push(_lane(taken), shard.owner, taken, len(shard.payload))

    def _check_lanes(self, batch: Sequence[Taken]) -> None:
        """However many small jobs there are, the regular lane gets its turn."""
        regular = sum(_lane(taken) is Lane.REGULAR for taken in batch)
        self.priority_turns = self.priority_turns + 1 if self.regular_waits and batch and not regular else 0
        self.regular_waits -= regular
        fair = self.priority_turns <= MOST_PRIORITY_TURNS
        self.model.invariants.check(
            "I9", fair, "the regular lane has waited for", self.priority_turns, "turns of the other"
        )

    def _check_turn(self, taken: Taken) -> None:
        """No group waits for longer than a round of all groups, eight turns each, for every item before it."""
        waited = self.begun - taken.queued_at
        most = (taken.ahead + 2) * _JOBS * REGULAR_TURN
        self.model.invariants.check("I9", waited <= most, "a shard waited for", waited, "turns behind", taken.ahead)

    def _begin(self, taken: Taken) -> None:
        shard = taken.shard
        key = (shard.owner, shard.seq, shard.attempt)
        self.model.executed.add(key)
        self.model.executions[key] += 1
        self.running.append(taken)

    def _publish(self, taken: Taken) -> None:
        shard = taken.shard
        destiny = self.model.destinies[shard.owner, shard.seq]
        if destiny.fate is Fate.FAILS and shard.attempt < destiny.times:
            self._fail(taken, Reason.RAISED, self.name)
        elif destiny.fate is Fate.BAD_ROWS:
            self._find_rows(taken, destiny.bad_rows)
        else:
            self._report(shard, Outcome(shard.seq, shard.attempt + 1, 1, 0, 1, output=_output(shard), carry=b"c"))

    def _fail(self, taken: Taken, reason: Reason, worker: str) -> None:
        model, shard = self.model, taken.shard
        error = AttemptError(shard.attempt, reason, "failed", worker, 0, 0)
        verdict = _POLICY.decide(reason, shard.attempt, retryable=True, jitter=model.chance.random())
        history = (*shard.history, error)
        if isinstance(verdict, GiveUp):
            letter = self._letter(shard, None)
            failure = Failure(reason, "failed", history, DeadLetterAddress(0, letter))
            self._report(shard, Outcome(shard.seq, shard.attempt + 1, 1, 0, 1, failure=failure))
            return
        again = shard._replace(attempt=shard.attempt + 1, history=history, delay_ms=verdict.delay_ms)
        model.shards[RETRY].append(again)
        model.retried.add((shard.owner, shard.seq, again.attempt))
        model.append(AttemptFailed(shard.owner, shard.seq, error))

    def _find_rows(self, taken: Taken, bad_rows: frozenset[int]) -> None:
        """Search a shard that failed for good; its job skips errors."""
        model, shard = self.model, taken.shard
        search: Bisection[str] = Bisection(range(ROWS), most_bad=ROWS, budget_us=10**9)
        while search.verdict is None:
            bad = any(row in bad_rows for run in search.next_run for row in run)
            search.apply("bad" if bad else None, 1)
        model.invariants.check("I2", search.verdict is Verdict.FOUND, "a search ended with", search.verdict)
        model.invariants.check("I2", set(search.bad) == bad_rows, search.bad, "found,", bad_rows, "are bad")
        model.invariants.check("I10", search.runs <= 5 * len(bad_rows) + 1, search.runs, "runs for", bad_rows)
        found = tuple(
            BadRow(row, Reason.RAISED, "bad", DeadLetterAddress(0, self._letter(shard, row)))
            for row in sorted(bad_rows)
        )
        outcome = Outcome(shard.seq, shard.attempt + 1, 1, 0, 1, output=_output(shard), bad_rows=found)
        self._report(shard, outcome)

    def _letter(self, shard: Shard, row: int | None) -> int:
        self.model.letters.append((shard.owner, shard.seq, row))
        return len(self.model.letters) - 1

    def _report(self, shard: Shard, outcome: Outcome) -> None:
        self.model.append(Outcomes(shard.owner, self.name, [outcome]))

    def _settle(self, taken: Taken) -> None:
        taken.intake.watermark.ack(taken.offset)
        taken.intake.crash_tracker.ack(taken.offset)


def _lane(taken: Taken) -> Lane:
    return Lane.REGULAR if taken.intake.partition == 1 else Lane.PRIORITY


def _output(shard: Shard) -> bytes:
    return b"<%s %d>" % (shard.owner.submission.encode(), shard.seq)
