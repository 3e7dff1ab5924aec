"""Who does what harm, and when: drawn once from the seed, so that some runs have all sorts of faults and some only one."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from regather.testing.simulation.network import FaultProfile
from regather.transport.base import TopicPartition
from simulation.commits import CommitWatch
from simulation.installation import Installation, Service

_SORTS = ("kill", "kill-soon", "stop", "freeze", "zombie", "expel", "outage", "offsets-back", "redeliver")


@dataclass
class Nemesis:
    """The faults of one run besides those of the network."""

    installation: Installation
    chance: random.Random
    sorts: tuple[str, ...]
    commits: CommitWatch

    def schedule(self, count: int, until_s: float) -> None:
        """Set so many faults at times before `until_s`."""
        for _ in range(count if self.sorts else 0):
            sort = self.chance.choice(self.sorts)
            self.installation.later(self.chance.random() * until_s, self._strike, sort)

    def _strike(self, sort: str) -> None:
        strikes: dict[str, Callable[[], None]] = {
            "kill": lambda: self._victim().kill(),
            "kill-soon": self._light_fuse,
            "stop": lambda: self._victim().restart(),
            "freeze": lambda: self._victim().freeze(self.chance.random() * 5),
            "zombie": lambda: self._victim().freeze(6 + self.chance.random() * 25),
            "expel": self._expel,
            "outage": self._outage,
            "offsets-back": self._move_offsets_back,
            "redeliver": self._redeliver,
        }
        strikes[sort]()

    def _victim(self) -> Service:
        return self.chance.choice(self.installation.services)

    def _light_fuse(self) -> None:
        """Kill at some callback, so that the end may come between any two steps of the process."""
        process = self._victim().process
        process.fuse = process.steps + 1 + int(self.chance.expovariate(1 / 60))

    def _expel(self) -> None:
        service = self._victim()
        self.installation.history.fault(service.process.name, "expelled")
        service.transport.expire()

    def _outage(self) -> None:
        duration_s = self.chance.expovariate(1 / 4)
        self.installation.history.fault("broker", "outage", round(duration_s, 3))
        self.installation.broker.network.outage(duration_s)

    def _move_offsets_back(self) -> None:
        """Let a group's offset of one partition be what it was some commits ago."""
        places = [place for place, commits in self.commits.past.items() if len(commits) > 1]
        if not places:
            return
        name, tp = self.chance.choice(places)
        committed = self.chance.choice(self.commits.past[name, tp])
        self.installation.history.fault("broker", "offset-moved-back", name, *tp, committed.offset)
        self.installation.broker.group(name).committed[tp] = committed
        self.commits.moved_back = True

    def _redeliver(self) -> None:
        """Append a copy of an earlier record, as a producer without idempotence does."""
        logs, topics = self.installation.broker.logs, self.installation.topics
        topic = self.chance.choice((topics.job_events, topics.shards_small, topics.shards_retry))
        records = logs.committed(topic)
        if not records:
            return
        record = self.chance.choice(records)
        self.installation.history.fault("broker", "redelivered", topic, record.partition, record.offset)
        content = (record.key, record.value, record.headers)
        logs.append(TopicPartition(topic, record.partition), content, None, lambda _: None)


def draw_sorts(chance: random.Random) -> tuple[str, ...]:
    """The sorts of faults of one run."""
    return tuple(sort for sort in _SORTS if chance.random() < 0.5)


def draw_fault_profile(chance: random.Random) -> FaultProfile:
    """The network of one run: some things go wrong often, others never."""

    def often(most: float) -> float:
        return most * chance.random() if chance.random() < 0.5 else 0.0

    return FaultProfile(
        slow=often(0.05),
        request_lost=often(0.02),
        reply_lost=often(0.03),
        request_late=often(0.02),
        record_refused=often(0.02),
        commit_ignored=often(0.1),
        markers_slow=often(0.2),
        poll_raises=often(0.01),
        fetch_stalls=often(0.02),
    )
