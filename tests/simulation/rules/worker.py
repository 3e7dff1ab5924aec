"""A worker as simple code around its rules: watermark, crash attribution, lanes, retry, batch sizer, bisection."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from regather.core.batch_sizer import MAX_BATCH_ITEMS, BatchSizer
from regather.core.bisection import Bisection, SearchResult
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
class InFlight:
    """One partition that a worker owns; `epoch` tells one ownership from the next."""

    partition: int
    epoch: int
    watermark: Watermark
    crash_tracker: CrashTracker
    next_offset: int


@dataclass(slots=True, eq=False)
class Queued:
    """A shard that was delivered; `queued_at` is how many batches had been begun then, `ahead` how many waited."""

    shard: Shard
    in_flight: InFlight
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
    owned: dict[int, InFlight] = field(default_factory=dict)
    queue: LaneQueue[Queued] = field(default_factory=LaneQueue)
    batch_sizer: BatchSizer = field(default_factory=BatchSizer)
    exclusive: list[Queued] = field(default_factory=list)
    running: list[Queued] = field(default_factory=list)
    finished: list[tuple[Queued, bool]] = field(default_factory=list)
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
        in_flight = InFlight(partition, self.epochs[partition], watermark, crash_tracker, offset)
        self.owned[partition] = in_flight
        self._commit(in_flight)
        model.say(self.name, "owns", partition, "from", offset)

    def owns(self, in_flight: InFlight) -> bool:
        """Whether nobody took this partition over meanwhile."""
        return self.epochs[in_flight.partition] == in_flight.epoch

    def commit(self) -> None:
        """Commit every partition that is still owned; commits of the others are refused."""
        for in_flight in self.owned.values():
            self._commit(in_flight)

    def leave(self, partition: int) -> None:
        """Give a partition up in order, with the clean-shutdown flag."""
        in_flight = self.owned.pop(partition, None)
        if in_flight is not None:
            self._commit(in_flight, clean_shutdown=True)
            self.epochs[partition] += 1

    def _commit(self, in_flight: InFlight, *, clean_shutdown: bool = False) -> None:
        model = self.model
        if not self.owns(in_flight):
            return
        offset, settled = in_flight.watermark.committable()
        before = model.committed[in_flight.partition]
        for passed in (*range(before.offset, offset), *settled):
            settled_there = model.settled(in_flight.partition, passed)
            model.invariants.check(
                "I6", settled_there, self.name, "committed an open shard:", in_flight.partition, passed
            )
        attribution = in_flight.crash_tracker.attribution(offset, clean_shutdown=clean_shutdown)
        model.say(self.name, "commits", in_flight.partition, offset, sorted(settled), attribution)
        model.committed[in_flight.partition] = Committed(offset, attribution, frozenset(settled))

    # Shards.

    def deliver(self, partition: int) -> bool:
        """Deliver the next records of a partition; a zombie reads on in what it once owned."""
        in_flight = self.owned[partition]
        log = self.model.shards[partition]
        if in_flight.next_offset >= len(log):
            return False
        end = min(len(log), in_flight.next_offset + self.polled_most)
        for offset in range(in_flight.next_offset, end):
            if in_flight.watermark.deliver(offset):
                self._route(Queued(log[offset], in_flight, offset))
        in_flight.next_offset = end
        return True

    def deliver_any(self) -> bool:
        """Deliver the next records of some partition."""
        delivered = [self.deliver(partition) for partition in self.owned]
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
            if any(in_flight.crash_tracker.unblamed and self.owns(in_flight) for in_flight in self.owned.values()):
                return False  # losses have to be charged and committed first
            alone.in_flight.crash_tracker.begin(alone.offset, self.model.now_ms)
            self.commit()
            if self.owns(alone.in_flight):
                self.model.named_alone.add((alone.shard.owner, alone.shard.seq, alone.shard.attempt))
            self._begin(alone)
            return True
        batch = self.queue.pop_batch(most_items=lambda queued: self.batch_sizer.batch_items("kind"))
        self.begun += 1
        self._check_lanes(batch)
        for queued in batch:
            self._check_turn(queued)
            if queued.in_flight.crash_tracker.is_watched(queued.offset):
                queued.in_flight.crash_tracker.begin(queued.offset)
                self._commit(queued.in_flight)
            self._begin(queued)
        self.model.invariants.check("I9", len(batch) <= MAX_BATCH_ITEMS, "a batch is too large")
        return bool(batch)

    def finish(self) -> bool:
        """Let something that runs end, and publish what it came to; the ack may be lost, then it is sent again."""
        if not self.running:
            return False
        queued = self.running.pop(int(self.model.chance.random() * len(self.running)))
        if queued in self.exclusive:
            self.exclusive.remove(queued)
        destiny = self.model.destinies[queued.shard.owner, queued.shard.seq]
        if destiny.fate is Fate.DEADLY and queued.shard.attempt < destiny.times:
            self.model.faults["worker-killed-by-shard"] += 1
            self.model.say(
                self.name, "is killed by", queued.in_flight.partition, queued.offset, "attempt", queued.shard.attempt
            )
            self.dead = True
            return True
        self.batch_sizer.saw("kind", 1, 3_000)
        twice = self.model.chance.random() < 0.05
        if twice:
            self.model.faults["lost-ack"] += 1
        for _ in range(1 + twice):
            self._publish(queued)
        self._ack(queued)
        return True

    def drop_ended(self) -> None:
        """Forget what waits of jobs that are over."""
        ended = self.model.ended
        for queued in self.queue.remove(lambda queued: queued.shard.owner in ended):
            self.regular_waits -= _lane(queued) is Lane.REGULAR
            self._ack(queued)
        for queued in [
            queued for queued in self.exclusive if queued.shard.owner in ended and queued not in self.running
        ]:
            self.exclusive.remove(queued)
            self._ack(queued)

    def _route(self, queued: Queued) -> None:
        model, shard, crash_tracker = self.model, queued.shard, queued.in_flight.crash_tracker
        if shard.owner in model.ended:
            self._ack(queued)
        elif shard.chained and shard.source is None and shard.seq > 0:
            place = RecordPlace("shards", queued.in_flight.partition, queued.offset)
            model.append(Parked(shard.owner, shard.seq, place, shard.timeout_ms))
            model.parked.add((shard.owner, shard.seq))
            self._ack(queued)
        elif (crash := crash_tracker.crash_at(queued.offset)) is not None:
            self._fail(queued, Reason.WORKER_LOST, crash.worker)
            self._ack(queued)
        elif crash_tracker.is_suspect(queued.offset) or (
            shard.history and shard.history[-1].reason is Reason.WORKER_LOST
        ):
            self.exclusive.append(queued)
        else:
            queued.queued_at, queued.ahead = self.begun, len(self.queue)
            self.regular_waits += _lane(queued) is Lane.REGULAR
            self.queue.push(_lane(queued), shard.owner, queued, len(shard.payload))

    def _check_lanes(self, batch: Sequence[Queued]) -> None:
        """However many small jobs there are, the regular lane gets its turn."""
        regular = sum(_lane(queued) is Lane.REGULAR for queued in batch)
        self.priority_turns = self.priority_turns + 1 if self.regular_waits and batch and not regular else 0
        self.regular_waits -= regular
        fair = self.priority_turns <= MOST_PRIORITY_TURNS
        self.model.invariants.check(
            "I9", fair, "the regular lane has waited for", self.priority_turns, "turns of the other"
        )

    def _check_turn(self, queued: Queued) -> None:
        """No group waits for longer than a round of all groups, eight turns each, for every item before it."""
        waited = self.begun - queued.queued_at
        most = (queued.ahead + 2) * _JOBS * REGULAR_TURN
        self.model.invariants.check("I9", waited <= most, "a shard waited for", waited, "turns behind", queued.ahead)

    def _begin(self, queued: Queued) -> None:
        shard = queued.shard
        key = (shard.owner, shard.seq, shard.attempt)
        self.model.executed.add(key)
        self.model.executions[key] += 1
        self.running.append(queued)

    def _publish(self, queued: Queued) -> None:
        shard = queued.shard
        destiny = self.model.destinies[shard.owner, shard.seq]
        if destiny.fate is Fate.FAILS and shard.attempt < destiny.times:
            self._fail(queued, Reason.RAISED, self.name)
        elif destiny.fate is Fate.BAD_ROWS:
            self._find_rows(queued, destiny.bad_rows)
        else:
            self._report(shard, Outcome(shard.seq, shard.attempt + 1, 1, 0, 1, output=_output(shard), carry=b"c"))

    def _fail(self, queued: Queued, reason: Reason, worker: str) -> None:
        model, shard = self.model, queued.shard
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

    def _find_rows(self, queued: Queued, bad_rows: frozenset[int]) -> None:
        """Search a shard that failed for good; its job skips errors."""
        model, shard = self.model, queued.shard
        search: Bisection[str] = Bisection(range(ROWS), most_bad=ROWS, budget_us=10**9)
        while search.result is None:
            bad = any(row in bad_rows for run in search.next_run for row in run)
            search.apply("bad" if bad else None, 1)
        model.invariants.check("I2", search.result is SearchResult.FOUND, "a search ended with", search.result)
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

    def _ack(self, queued: Queued) -> None:
        queued.in_flight.watermark.ack(queued.offset)
        queued.in_flight.crash_tracker.ack(queued.offset)


def _lane(queued: Queued) -> Lane:
    return Lane.REGULAR if queued.in_flight.partition == 1 else Lane.PRIORITY


def _output(shard: Shard) -> bytes:
    return b"<%s %d>" % (shard.owner.submission.encode(), shard.seq)
