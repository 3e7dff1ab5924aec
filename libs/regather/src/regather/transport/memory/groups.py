"""Consumer groups with Kafka's classic, eager protocol: all members give up all partitions, then get a new share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from regather.core.errors import CommitRejected
from regather.transport.base import Committed, TopicPartition


@dataclass(slots=True, eq=False)
class Member:
    """One consumer in a group. `generation` is that of its assignment; it must rejoin before it gets another one."""

    topics: tuple[str, ...]
    generation: int = 0
    rejoined: bool = True
    assignment: tuple[TopicPartition, ...] = ()


@dataclass(slots=True, eq=False)
class Group:
    """The members in the order in which they joined, the generation, and the committed offsets."""

    members: list[Member] = field(default_factory=list)
    generation: int = 0
    committed: dict[TopicPartition, Committed] = field(default_factory=dict)
    balanced: bool = True

    def join(self, member: Member) -> None:
        """Add a member; all others have to rejoin."""
        self.members.append(member)
        self._rebalance(besides=member)

    def leave(self, member: Member) -> None:
        """Remove a member that left or whose session expired; all others have to rejoin."""
        if member in self.members:
            self.members.remove(member)
            self._rebalance()

    def must_rejoin(self, member: Member) -> bool:
        """Whether a rebalance waits for this member to give up its partitions."""
        return member in self.members and not member.rejoined

    def rejoin(self, member: Member) -> None:
        """Note that the member gave up its partitions and waits for its share."""
        member.rejoined = True
        member.assignment = ()

    def balance(self, partitions: Mapping[str, int]) -> None:
        """Assign the partitions once all members have rejoined: round robin over all partitions."""
        if self.balanced or not all(member.rejoined for member in self.members):
            return
        self.generation += 1
        self.balanced = True
        shares = shares_of([member.topics for member in self.members], partitions)
        for member, share in zip(self.members, shares, strict=True):
            member.assignment, member.generation = share, self.generation

    def commit(self, member: Member, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit offsets of partitions that the member owns in this generation; raise CommitRejected for others."""
        if member not in self.members or member.generation != self.generation:
            raise CommitRejected(f"generation {member.generation} has ended; the group is at {self.generation}")
        foreign = [tp for tp in offsets if tp not in member.assignment]
        if foreign:
            raise CommitRejected(f"partitions are not owned: {foreign}")
        self.committed.update(offsets)

    def _rebalance(self, besides: Member | None = None) -> None:
        self.balanced = False
        for member in self.members:
            if member is not besides:
                member.rejoined = False


def shares_of(
    topics_of_members: Sequence[Sequence[str]], partitions: Mapping[str, int]
) -> list[tuple[TopicPartition, ...]]:
    """Return each member's share, in the order of the members: round robin over all partitions of its topics."""
    shares: list[list[TopicPartition]] = [[] for _ in topics_of_members]
    topics = sorted({topic for topics in topics_of_members for topic in topics})
    everything = [TopicPartition(topic, n) for topic in topics for n in range(partitions.get(topic, 0))]
    for turn, tp in enumerate(everything):
        takers = [share for share, wanted in zip(shares, topics_of_members, strict=True) if tp.topic in wanted]
        takers[turn % len(takers)].append(tp)
    return [tuple(share) for share in shares]
