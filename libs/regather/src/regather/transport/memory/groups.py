"""Consumer groups with Kafka's classic, eager protocol: all members give up everything, then get their new share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from regather.core.errors import CommitRejected
from regather.transport.base import Committed, TopicPartition


@dataclass(slots=True, eq=False)
class Member:
    """One consumer in a group. `generation` is the one of its assignment; it rejoins before it gets another."""

    topics: tuple[str, ...]
    generation: int = 0
    rejoined: bool = True
    assignment: tuple[TopicPartition, ...] = ()


@dataclass(slots=True, eq=False)
class Group:
    """Members in the order of their joining, the generation, and the committed offsets."""

    members: list[Member] = field(default_factory=list)
    generation: int = 0
    committed: dict[TopicPartition, Committed] = field(default_factory=dict)
    balanced: bool = True

    def join(self, member: Member) -> None:
        """A new member: everybody has to rejoin."""
        self.members.append(member)
        self._rebalance(besides=member)

    def leave(self, member: Member) -> None:
        """A member goes, by itself or because its session expired."""
        if member in self.members:
            self.members.remove(member)
            self._rebalance()

    def must_rejoin(self, member: Member) -> bool:
        """Whether a rebalance waits for this member to give up what it has."""
        return member in self.members and not member.rejoined

    def rejoin(self, member: Member) -> None:
        """The member gave up its partitions and waits for its share."""
        member.rejoined = True
        member.assignment = ()

    def balance(self, partitions: Mapping[str, int]) -> None:
        """Hand out the shares once all have rejoined: round robin over all partitions."""
        if self.balanced or not all(member.rejoined for member in self.members):
            return
        self.generation += 1
        self.balanced = True
        shares: dict[int, list[TopicPartition]] = {id(member): [] for member in self.members}
        topics = sorted({topic for member in self.members for topic in member.topics})
        everything = [TopicPartition(topic, n) for topic in topics for n in range(partitions.get(topic, 0))]
        for turn, tp in enumerate(everything):
            takers = [member for member in self.members if tp.topic in member.topics]
            shares[id(takers[turn % len(takers)])].append(tp)
        for member in self.members:
            member.assignment = tuple(shares[id(member)])
            member.generation = self.generation

    def commit(self, member: Member, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit offsets of partitions that the member owns in this generation; CommitRejected otherwise."""
        if member not in self.members or member.generation != self.generation:
            raise CommitRejected(f"generation {member.generation} is over; the group is at {self.generation}")
        foreign = [tp for tp in offsets if tp not in member.assignment]
        if foreign:
            raise CommitRejected(f"partitions are not owned: {foreign}")
        self.committed.update(offsets)

    def _rebalance(self, besides: Member | None = None) -> None:
        self.balanced = False
        for member in self.members:
            if member is not besides:
                member.rejoined = False
