"""Level `rules`: one seed through the pure rules, thousands of them a minute."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from regather.core.model import OnError, Redriven
from regather.core.redrive import VersionHistory
from regather.core.seq_ranges import ranges
from simulation.invariants import Invariants
from simulation.rules.gateway import SMALL_SHARDS, Redrive, Submission, identity
from simulation.rules.model import FINE, PARTITIONS, ROWS, Destiny, Fate, Job, Model
from simulation.rules.owner import Owner
from simulation.rules.verdict import judge
from simulation.rules.worker import MOST_PRIORITY_TURNS, Worker

_DRAIN_ROUNDS = 400


@dataclass
class Outcome:
    """What one run came to."""

    invariants: Invariants
    faults: Counter[str]
    crashes: int
    steps: int


class Run:
    """One run of one seed."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.chance = chance = random.Random(seed)
        self.model = Model(chance, trace=[] if traced else None)
        self.epochs = [0] * PARTITIONS
        self.workers: list[Worker] = []
        self.zombies: list[Worker] = []
        self.owners: list[Owner] = []
        self.submissions: list[Submission | Redrive] = []
        self.crashes = 0
        self.steps = 0
        self._names = 0
        self._save_bytes = chance.choice((1, 500, 10**9))
        rare = random.Random(f"rare {seed}")  # of its own, so that the others' histories stay what they were
        self._crowded = rare.random() < 0.05
        if rare.random() < 0.05:
            self.model.strays = rare

    def go(self) -> Outcome:
        """Run some random steps, then all that is left in turn, and judge."""
        chance = self.chance
        self._draw_jobs()
        self.workers = [self._new_worker() for _ in range(chance.choice((1, 2)))]
        for partition in range(PARTITIONS):
            chance.choice(self.workers).take_over(partition)
        self._new_owner_takes_over()
        actions = self._actions()
        count, weights = len(actions), [action[0] for action in actions]
        steps = chance.choice((30, 60, 120))
        for at in chance.choices(range(count), weights, k=steps):
            self.model.now_ms += int(chance.random() * 400)
            actions[at][1]()
            self._bury_dead()
        self.steps = steps
        self._drain()
        while chance.random() < 0.3:
            self._redrive()
            self._drain()
        judge(self.model)
        return Outcome(self.model.invariants, self.model.faults, self.crashes, self.steps)

    def _draw_jobs(self) -> None:
        chance = self.chance
        for number in range(chance.choice((1, 1, 2, 3))):
            on_error = OnError.SKIP if chance.random() < 0.5 else OnError.FAIL
            chained = chance.random() < 0.15
            rows = on_error is OnError.SKIP and not chained
            destinies = tuple(_draw_destiny(chance, rows=rows) for _ in range(chance.randrange(1, 6)))
            most = chance.randrange(2) if on_error is OnError.SKIP and chance.random() < 0.2 else None
            deadline_ms = 3_600_000 if chance.random() < 0.9 else chance.randrange(1_000, 15_000)
            job = Job(number, destinies, on_error, most, deadline_ms, chained)
            for submission in range(1 + (chance.random() < 0.3)):
                self.submissions.append(Submission(self.model, job, identity(job, 16 * number + submission)))

        if self._crowded:
            self._draw_crowd()

    def _draw_crowd(self) -> None:
        """Many tiny jobs at once, and one that has shards in both lanes."""
        for number in range(100, 100 + 3 * MOST_PRIORITY_TURNS):
            destinies = (FINE,) * (SMALL_SHARDS + 3 if number == 100 else 1)
            job = Job(number, destinies, OnError.FAIL, None, 3_600_000, chained=False)
            self.submissions.append(Submission(self.model, job, identity(job, 16 * number)))

    def _actions(self) -> list[tuple[float, Callable[[], object]]]:
        harm = self.chance.random() * 2
        return [
            (12, self._send),
            (8, lambda: self._some_worker().deliver_any()),
            (8, lambda: self._some_worker().start()),
            (8, lambda: self._some_worker().finish()),
            (4, lambda: self._some_worker().commit()),
            (10, lambda: self._owner().fold_next()),
            (4, lambda: self._owner().assemble()),
            (4, lambda: self._owner().emit()),
            (4, lambda: self._owner().read_back()),
            (1, lambda: self._owner().miss()),
            (2, lambda: self._owner().commit()),
            (1, self._tick),
            (0.5 * harm, self._zombie_step),
            (0.4 * harm, self._crash_worker),
            (0.4 * harm, self._move_partition),
            (0.4 * harm, self._new_owner_takes_over),
            (0.3 * harm, self._redeliver),
            (0.2, self._cancel),
            (0.2, self._resubmit),
            (0.8, self._redrive),
            (2, lambda: self._owner().save()),
        ]

    # Steps.

    def _send(self) -> None:
        open_ones = [submission for submission in self.submissions if not submission.over]
        if open_ones:
            self.chance.choice(open_ones).step()

    def _some_worker(self) -> Worker:
        return self.workers[int(self.chance.random() * len(self.workers))]

    def _owner(self) -> Owner:
        """Mostly the present one; else one of those before, which is still alive."""
        if len(self.owners) > 1 and self.chance.random() < 0.2:
            return self.owners[int(self.chance.random() * len(self.owners))]
        return self.owners[-1]

    def _tick(self) -> None:
        self.model.now_ms += int(self.chance.random() * 20_000)
        self.owners[-1].tick()

    def _zombie_step(self) -> None:
        for zombie in self.zombies:
            if self.chance.random() < 0.2:
                zombie.deliver_any()
            zombie.start()
            zombie.finish()
            zombie.commit()

    def _crash_worker(self) -> None:
        """A worker dies without a word, or everybody believes that it did and it goes on."""
        at = int(self.chance.random() * len(self.workers))
        worker = self.workers[at]
        if self.chance.random() < 0.4:
            self.model.faults["zombie"] += 1
            self.zombies.append(worker)
        else:
            self.model.faults["killed"] += 1
            self.crashes += 1
        self._replace(at)

    def _replace(self, at: int) -> None:
        lost, self.workers[at] = self.workers[at], self._new_worker()
        for partition in [partition for partition, in_flight in lost.owned.items() if lost.owns(in_flight)]:
            self.chance.choice(self.workers).take_over(partition)

    def _bury_dead(self) -> None:
        for at, worker in enumerate(self.workers):
            if worker.dead:
                self.crashes += 1
                self._replace(at)
        self.zombies = [zombie for zombie in self.zombies if not zombie.dead]

    def _move_partition(self) -> None:
        """A rebalance, with the clean-shutdown flag or, because the coordinator did not hear it, without."""
        partition = int(self.chance.random() * PARTITIONS)
        self.model.faults["rebalance"] += 1
        for worker in self.workers:
            in_flight = worker.owned.get(partition)
            if in_flight is not None and worker.owns(in_flight):
                if self.chance.random() < 0.7:
                    worker.leave(partition)
                break
        self.chance.choice(self.workers).take_over(partition)

    def _new_owner_takes_over(self) -> None:
        if self.owners:
            self.model.faults["owner-lost"] += 1
            self.crashes += 1
        owner = self._new_owner()
        self.model.group_owner = owner
        owner.take_over()
        self.owners.append(owner)

    def _redeliver(self) -> None:
        model, log = self.model, self.model.events
        if log:
            model.faults["redelivered"] += 1
            model.append(log[int(self.chance.random() * len(log))].event)

    def _cancel(self) -> None:
        begun = [submission for submission in self.submissions if submission.at]
        if begun:
            self.chance.choice(begun).cancel()

    def _resubmit(self) -> None:
        """Send a job again: as the next version if its end was seen and may be followed by one."""
        submission = self.chance.choice([one for one in self.submissions if isinstance(one, Submission)])
        version = 1
        for final in self.model.finals():
            if final.owner.job_id == submission.owner.job_id:
                if final.reason is None or final.reason.value != "not-sealed":
                    return
                version = max(version, final.owner.version + 1)
        self._names += 1
        owner = identity(submission.job, 4096 + self._names, version)
        self.submissions.append(Submission(self.model, submission.job, owner))

    def _redrive(self) -> None:
        """Run what is missing of a job that has ended, or some shard of it by name, as its next version."""
        finals = [final for final in self.model.finals() if final.status.events_offset is not None]
        if not finals:
            return
        final = self.chance.choice(finals)
        if self.model.strays is not None:
            return
        versions = VersionHistory(final.owner, keep_outputs=False)
        for entry in self.model.events:
            versions.apply(entry.event)
        opened, sealed = versions.opened, versions.sealed
        if opened is None or sealed is None or versions.newest != final.owner.version:
            return
        named = [self.chance.randrange(sealed.shards)] if self.chance.random() < 0.3 else versions.to_run()
        seqs = ((named[0], sealed.shards - 1),) if opened.chained and named else ranges(named)
        if seqs:
            again = replace(opened, owner=final.owner._replace(version=final.owner.version + 1))
            redriven = Redriven(again, seqs, final.status.events_offset or 0, final.status.created_ms)
            self.submissions.append(Redrive(self.model, self.model.jobs[final.owner], redriven))

    def _new_worker(self) -> Worker:
        self._names += 1
        return Worker(self.model, f"w{self._names}", self.epochs, polled_most=100 if self._crowded else 3)

    def _new_owner(self) -> Owner:
        self._names += 1
        return Owner(self.model, f"a{self._names}", self._save_bytes)

    # The end.

    def _drain(self) -> None:
        """No more harm: everybody does what is to be done, in turn, until nothing is."""
        model = self.model
        for rounds in range(_DRAIN_ROUNDS):
            if not self._round(rounds):
                break
        undone = self._undone()
        model.invariants.check("I7", not undone, "not drained after", rounds, "rounds:", undone)
        model.invariants.check("I10", all(not len(worker.queue) for worker in self.workers), "shards are still queued")

    def _round(self, number: int) -> bool:
        """One round; False if nothing was left to do."""
        model, owner = self.model, self.owners[-1]
        busy = False
        for submission in self.submissions:
            while not submission.over:
                submission.step()
                busy = True
        for worker in self.workers:
            busy |= worker.work()
        for zombie in self.zombies:  # they know by now that they own nothing any more
            while not zombie.dead and (zombie.start() or zombie.finish()):
                busy = True
        self._bury_dead()
        while owner.fold_next() or owner.assemble():
            busy = True
        busy |= owner.save()
        busy |= owner.emit()
        busy |= owner.read_back()
        busy |= owner.miss()
        owner.commit()
        self.steps += 1
        if not busy and owner.fold.open_jobs:  # only time can end what is left
            model.now_ms += 4_000_000 if number > 50 else 70_000
            owner.tick()
            busy = True
        return busy

    def _undone(self) -> list[str]:
        model = self.model
        undone = [f"lag in {p}" for p, at in enumerate(model.committed) if at.offset < len(model.shards[p])]
        if model.committed_events[0] < len(model.events):
            undone.append(f"lag in job-events at {model.committed_events} of {len(model.events)}")
        return undone


def _draw_destiny(chance: random.Random, *, rows: bool) -> Destiny:
    roll = chance.random()
    if roll < 0.75:
        return FINE
    if roll < 0.9 or (roll < 0.96 and not rows):
        return Destiny(Fate.FAILS, chance.choice((1, 2, 3, 9)))
    if roll < 0.96:
        return Destiny(Fate.BAD_ROWS, 0, frozenset(chance.sample(range(ROWS), chance.randrange(1, 4))))
    return Destiny(Fate.DEADLY, chance.choice((1, 2, 9)))
