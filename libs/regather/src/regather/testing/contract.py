"""Tools for contract cases of a transport: topics, clients that are stopped at the end, group members that poll."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from regather.core.errors import TransportError
from regather.testing.waiting import eventually
from regather.topics.rules import TopicSpec
from regather.transport.base import (
    Committed,
    Consumer,
    Producer,
    Record,
    TopicPartition,
    TransactionalProducer,
    Transport,
)

RECORD_BYTES = 100_000
CLIENT_BYTES = 200_000
ClientT = TypeVar("ClientT", Producer, TransactionalProducer, Consumer)
DeleteRecords = Callable[[TopicPartition, int], Awaitable[None]]


class Member:
    """A consumer in a group, with its listener; polls in a task and keeps the records it gets."""

    def __init__(self, consumer: Consumer, topics: Sequence[str]) -> None:
        self.consumer = consumer
        self.topics = topics
        self.records: list[Record] = []
        self.assigned: list[list[TopicPartition]] = []
        self.revoked: list[list[TopicPartition]] = []
        self.generations: list[int | None] = []
        self.commit_on_revoke: dict[TopicPartition, Committed] = {}
        self.pause_when_assigned = False
        self._owned: frozenset[TopicPartition] = frozenset()
        self._task: asyncio.Task[None] | None = None

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Note the assigned partitions."""
        self._owned = frozenset(partitions)
        self.assigned.append(sorted(partitions))
        self.generations.append(self.consumer.generation)
        if self.pause_when_assigned:
            self.consumer.pause(partitions)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Note the revoked partitions; commit `commit_on_revoke`."""
        self._owned = frozenset()
        self.revoked.append(sorted(partitions))
        if self.commit_on_revoke:
            await self.consumer.commit(self.commit_on_revoke)

    async def join(self) -> "Member":
        """Connect, join the group and start polling."""
        await self.consumer.start()
        self.consumer.subscribe(self.topics, self)
        self.poll()
        return self

    def poll(self) -> None:
        """Start polling in a task."""
        self._task = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            for records in (await self.consumer.poll(0.05)).values():
                self.records += records

    async def hold(self) -> None:
        """Stop polling, like a process that hangs."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, TransportError):
                await self._task
            self._task = None

    async def leave(self) -> None:
        """Leave the group."""
        await self.hold()
        await self.consumer.stop()

    @property
    def owned(self) -> frozenset[TopicPartition]:
        """Partitions that it owns now."""
        return self._owned

    def values(self) -> list[bytes | None]:
        """Return the values of the records so far."""
        return [record.value for record in self.records]


MemberT = TypeVar("MemberT", bound=Member)


class World:
    """Creates a case's topics and clients on a transport, and stops every client at the end."""

    def __init__(self, transport: Transport, delete_records: DeleteRecords) -> None:
        self.transport = transport
        self.delete_records = delete_records
        self._ends: list[Callable[[], Awaitable[None]]] = []

    async def topic(self, partitions: int = 1, *, max_record_bytes: int = RECORD_BYTES) -> str:
        """Create a topic with a unique name, and wait until its metadata is available.

        A broker may report a topic as unknown for a moment after it has created it.
        """
        name = f"t-{uuid.uuid4().hex[:12]}"
        config = {"max.message.bytes": str(max_record_bytes), "message.timestamp.type": "LogAppendTime"}
        await self.transport.create_topics([TopicSpec(name, partitions, max_record_bytes, config)])

        async def known() -> bool:
            return (await self.transport.partition_counts([name])).get(name) == partitions

        await eventually(known, what=f"the new topic {name}")
        return name

    async def producer(self, *, max_record_bytes: int = CLIENT_BYTES) -> Producer:
        """Start a producer."""
        return await self._start(self.transport.producer(max_record_bytes=max_record_bytes))

    async def transactional(self, name: str, *, max_record_bytes: int = CLIENT_BYTES) -> TransactionalProducer:
        """Start a transactional producer, which fences older ones of that name."""
        return await self._start(self.transport.transactional_producer(name, max_record_bytes=max_record_bytes))

    async def reader(self, *tps: TopicPartition) -> Consumer:
        """Start a reader of these partitions from offset 0."""
        consumer = await self._start(self.transport.consumer())
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        return consumer

    async def member(self, group: str, *topics: str) -> Member:
        """Start a member of a group."""
        return await self.adopt(Member(self.transport.consumer(group=group), topics))

    async def adopt(self, member: MemberT) -> MemberT:
        """Let a member that the case has made join."""
        self._ends.append(member.leave)
        await member.join()
        return member

    async def write(self, topic: str, *values: bytes, partition: int = 0) -> None:
        """Send values to one partition and await their acks."""
        producer = await self.producer()
        for acked in [await producer.send(topic, value=value, partition=partition) for value in values]:
            await acked

    async def read(self, consumer: Consumer, count: int, **arguments: Any) -> list[Record]:
        """Poll until at least `count` records have arrived; AssertionError after 20 s."""
        found: list[Record] = []

        async def enough() -> bool:
            for records in (await consumer.poll(0.05, **arguments)).values():
                found.extend(records)
            return len(found) >= count

        await eventually(enough, timeout_s=20, what=f"{count} records")
        return found

    async def quiet(self, consumer: Consumer, polls: int = 3) -> bool:
        """Return whether `polls` polls in a row return no record."""
        return not any([await consumer.poll(0.05) for _ in range(polls)])

    async def stop(self) -> None:
        """Stop every client."""
        for end in reversed(self._ends):
            await end()

    async def _start(self, client: ClientT) -> ClientT:
        self._ends.append(client.stop)
        await client.start()
        return client
