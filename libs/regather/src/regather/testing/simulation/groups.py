"""The broker's group coordinator: the classic, eager protocol, with all its ways of losing a member.

A member learns of a rebalance or of its expulsion only with its next heartbeat. Until then it goes on with partitions
that may already have another owner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from regather.core.errors import CommitRejected
from regather.testing.simulation.logs import Logs
from regather.testing.simulation.network import Answer, Network
from regather.transport.base import Committed, TopicPartition
from regather.transport.memory.groups import shares_of

HEARTBEAT_S = 2.0
SESSION_S = 8.0
REBALANCE_LIMIT_S = 60.0

Observer = Callable[[str, Mapping[TopicPartition, Committed]], None]
"""Called with the group and the offsets of every accepted commit."""


class News(StrEnum):
    """What the answer to a heartbeat reports."""

    REBALANCE = "rebalance"
    EXPELLED = "expelled"


@dataclass(slots=True, eq=False)
class Membership:
    """The coordinator's record of one consumer in a group; `hear` runs in the consumer's process."""

    name: str
    topics: tuple[str, ...]
    hear: Callable[[News], None]
    generation: int = -1
    assignment: tuple[TopicPartition, ...] = ()
    joining: Answer | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A member's assignment: the generation and its partitions."""

    generation: int
    partitions: tuple[TopicPartition, ...]


@dataclass(slots=True, eq=False)
class Group:
    """One consumer group."""

    network: Network
    logs: Logs
    name: str
    members: dict[Membership, None] = field(default_factory=dict)
    generation: int = 0
    committed: dict[TopicPartition, Committed] = field(default_factory=dict)
    observers: list[Observer] = field(default_factory=list)
    preparing: bool = False
    rebalances: int = 0

    def join(self, member: Membership, answer: Answer) -> None:
        """Let a member join: all others must join again as well, and then every member gets its assignment."""
        self.members[member] = None
        member.joining = answer
        if not self.preparing:
            self._prepare()
        self._complete_if_all_joined()

    def leave(self, member: Membership, answer: Answer) -> None:
        """Remove a member and rebalance the others."""
        if member in self.members:
            del self.members[member]
            self._without()
        answer(None)

    def expel(self, member: Membership) -> None:
        """Remove a member whose session has expired; it learns of that with its next heartbeat."""
        if member in self.members:
            del self.members[member]
            self.network.history.note("broker", "expelled", self.name, member.name)
            member.hear(News.EXPELLED)
            self._without()

    def commit(
        self, member: Membership | None, generation: int, offsets: Mapping[TopicPartition, Committed], answer: Answer
    ) -> None:
        """Accept offsets of the current generation; without a member only while the group is empty."""
        outsider = member is None and not self.members
        if not outsider and (member not in self.members or generation != self.generation):
            answer(CommitRejected(f"generation {generation} is over; the group is at {self.generation} (simulated)"))
            return
        self.committed.update(offsets)
        self.network.history.note(
            "broker", "commit", self.name, *((*tp, at.offset, at.metadata) for tp, at in offsets.items())
        )
        for observer in self.observers:
            observer(self.name, offsets)
        answer(None)

    def _without(self) -> None:
        if self.members and not self.preparing:
            self._prepare()
        self._complete_if_all_joined()

    def _prepare(self) -> None:
        self.preparing = True
        self.rebalances += 1
        for member in self.members:
            if member.joining is None:
                member.hear(News.REBALANCE)
        self.network.at_broker(REBALANCE_LIMIT_S, self._expire, self.rebalances)

    def _expire(self, rebalance: int) -> None:
        if self.preparing and self.rebalances == rebalance:
            for member in [member for member in self.members if member.joining is None]:
                self.expel(member)

    def _complete_if_all_joined(self) -> None:
        if not self.preparing or any(member.joining is None for member in self.members):
            return
        self.preparing = False
        self.generation += 1
        members = list(self.members)
        self.network.chance.shuffle(members)
        shares = shares_of([member.topics for member in members], self.logs.counts())
        for member, share in zip(members, shares, strict=True):
            member.generation, member.assignment = self.generation, share
            answer, member.joining = member.joining, None
            assert answer is not None
            answer(Share(self.generation, member.assignment))
