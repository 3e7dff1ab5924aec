"""Makes the clients of one broker in memory."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from regather.topics.rules import BrokerSettings, TopicSpec, TopicState
from regather.transport.base import Consumer, Producer, TransactionalProducer
from regather.transport.memory.broker import MemoryBroker
from regather.transport.memory.clients import MemoryConsumer, MemoryProducer, MemoryTransactionalProducer

ClientT = TypeVar("ClientT", bound=MemoryProducer | MemoryConsumer)


class MemoryTransport:
    """Clients of one broker in memory."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._made: list[MemoryProducer | MemoryConsumer] = []
        self._severed = False

    def sever(self) -> None:
        """Cut off every client, present and future, as the death of their process would: without any clean shutdown."""
        self._severed = True
        for client in self._made:
            client.sever()

    def producer(self, *, max_record_bytes: int) -> Producer:
        """Return a new idempotent producer."""
        return self._remembered(MemoryProducer(self._broker, max_record_bytes))

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        """Return a new producer that fences older ones of this id."""
        return self._remembered(MemoryTransactionalProducer(self._broker, transactional_id, max_record_bytes))

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        """Return a new read_committed consumer that starts at the earliest record."""
        return self._remembered(MemoryConsumer(self._broker, self._broker.group(group) if group else None))

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the missing topics and return their names."""
        self._broker.check_available()
        return [spec.name for spec in specs if self._broker.create(spec)]

    async def partition_counts(self, topics: Iterable[str]) -> Mapping[str, int]:
        """Return the number of partitions of each existing topic."""
        self._broker.check_available()
        counts = self._broker.partition_counts()
        return {topic: counts[topic] for topic in topics if topic in counts}

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic, up to `partitions`."""
        self._broker.check_available()
        self._broker.grow(topic, partitions)

    async def topic_states(self, topics: Iterable[str]) -> Mapping[str, TopicState]:
        """Return replicas and settings of each existing topic."""
        self._broker.check_available()
        states = self._broker.topic_states()
        return {topic: states[topic] for topic in topics if topic in states}

    async def broker_settings(self, names: Iterable[str]) -> BrokerSettings:
        """Return these settings of the only broker."""
        self._broker.check_available()
        return {1: {name: self._broker.settings[name] for name in names if name in self._broker.settings}}

    async def close(self) -> None:
        """Do nothing: the factory holds no resources between calls."""

    def _remembered(self, client: ClientT) -> ClientT:
        if self._severed:
            client.sever()
        self._made.append(client)
        return client
