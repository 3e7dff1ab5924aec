"""I6, at the moment of each commit: nothing below a committed offset, or named as settled above it, is open."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from regather.core.model import Identity
from regather.topics.layout import Topics
from regather.transport.base import Committed, TopicPartition
from regather.wire.commits import decode_commit
from simulation.invariants import Invariants
from simulation.ledger import Ledger


@dataclass
class CommitWatch:
    """Sees every commit that the broker takes. `past` keeps them all."""

    topics: Topics
    ledger: Ledger
    invariants: Invariants
    past: dict[tuple[str, TopicPartition], list[Committed]] = field(default_factory=dict)
    events_passed: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    """For each partition of job-events when its offset moved on, and where to."""
    named_alone: set[tuple[str, Identity, int, int]] = field(default_factory=set)
    """Worker, owner, number and attempt of each shard that a worker said it would run alone."""
    moved_back: bool = False
    """Whether an offset was set back, by a commit that was long on its way or by the nemesis."""
    _checked: dict[TopicPartition, int] = field(default_factory=dict)

    def committed(self, group: str, offsets: Mapping[TopicPartition, Committed]) -> None:
        """A commit was taken."""
        for tp, committed in offsets.items():
            past = self.past.setdefault((group, tp), [])
            self.moved_back |= bool(past) and past[-1].offset > committed.offset
            past.append(committed)
            if tp.topic == self.topics.job_events:
                self._check_events(tp, committed)
            else:
                self._check_shards(tp, committed)

    def _check_shards(self, tp: TopicPartition, committed: Committed) -> None:
        checked = self._checked.get(tp, 0)
        below = range(checked, committed.offset)
        handover, settled = decode_commit(committed.offset, committed.metadata)
        for offset in handover.running if handover.alone_since_ms is not None else ():
            shard = self.ledger.shards[tp].get(offset)
            if shard is not None and shard.owner is not None:
                self.named_alone.add((handover.worker, shard.owner, shard.seq, shard.attempt))
        for offset in (*below, *settled):
            shard = self.ledger.shards[tp].get(offset)
            self.invariants.check(
                "I6",
                self.ledger.settled(tp, offset),
                f"{tp.topic}-{tp.partition}@{offset} was committed while it was open: {shard}",
            )
        self._checked[tp] = max(checked, committed.offset)

    def _check_events(self, tp: TopicPartition, committed: Committed) -> None:
        passed = self.events_passed.setdefault(tp.partition, [])
        if passed and passed[-1][1] >= committed.offset:
            return
        passed.append((self.ledger.now_s(), committed.offset))
        checked = self._checked.get(tp, 0)
        for entry in self.ledger.first_opened[tp.partition]:
            if checked <= entry.offset < committed.offset:
                owner = entry.event.owner
                done = (owner.job_id, owner.version) in self.ledger.finals
                self.invariants.check(
                    "I6",
                    done or self.ledger.saved_to.get(owner, 0) >= committed.offset,
                    f"job-events-{tp.partition} was committed at {committed.offset} past the open job {owner}",
                )
        self._checked[tp] = max(checked, committed.offset)
