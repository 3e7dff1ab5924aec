"""Creates the clients of one simulated process."""

from collections.abc import Iterable, Mapping, Sequence

from regather.core.errors import BrokerUnavailable
from regather.testing.simulation.broker import Broker
from regather.testing.simulation.consumers import SimulatedConsumer
from regather.testing.simulation.event_loop import Process
from regather.testing.simulation.network import Wire
from regather.testing.simulation.producers import SimulatedProducer, SimulatedTransactionalProducer
from regather.topics.rules import VERIFICATION, BrokerSettings, TopicSpec, TopicState
from regather.transport.base import Consumer, Producer, TransactionalProducer


class SimulatedTransport:
    """Transport of one process. `commit_awaits`: see SimulatedTransactionalProducer."""

    def __init__(self, broker: Broker, process: Process, *, commit_awaits: bool = True) -> None:
        self._broker = broker
        self._process = process
        self._commit_awaits = commit_awaits
        self._wires: list[Wire] = []
        self._consumers: list[SimulatedConsumer] = []
        self._severed = False

    def sever(self) -> None:
        """Cut off every present and future client, as the death of its process does: none leaves its group."""
        self._severed = True
        for wire in self._wires:
            wire.severed = True
        for consumer in self._consumers:
            consumer.sever()

    def expire(self) -> None:
        """Let the broker expel every consumer of this process from its group."""
        for consumer in self._consumers:
            consumer.expire()

    def producer(self, *, max_record_bytes: int) -> Producer:
        """Return an idempotent producer."""
        return SimulatedProducer(self._broker, self._wire("producer"), max_record_bytes)

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        """Return a fencing producer."""
        return SimulatedTransactionalProducer(
            self._broker,
            self._wire(transactional_id),
            transactional_id,
            max_record_bytes,
            commit_awaits=self._commit_awaits,
        )

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        """Return a read_committed consumer that starts at the earliest record."""
        found = self._broker.group(group) if group else None
        consumer = SimulatedConsumer(self._broker, self._wire(group or "reader"), found)
        self._consumers.append(consumer)
        return consumer

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create missing topics; return their names."""
        return [spec.name for spec in specs if self._broker.logs.create(spec)]

    async def partition_counts(self, topics: Iterable[str]) -> Mapping[str, int]:
        """Return the partition count of each topic that exists."""
        wanted, logs = list(topics), self._broker.logs

        def count() -> Mapping[str, int]:
            counts = logs.counts()
            return {topic: counts[topic] for topic in wanted if topic in counts}

        found: Mapping[str, int] = await self._wire("admin").call("ask", lambda answer: answer(count()))
        return found

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Raise BrokerUnavailable: topics of a simulation cannot grow."""
        raise BrokerUnavailable(f"{topic} cannot grow to {partitions} partitions in a simulation")

    async def topic_states(self, topics: Iterable[str]) -> Mapping[str, TopicState]:
        """Return the topics' partitions, each with one replica and without settings."""
        return {topic: TopicState([[1]] * n, {}) for topic, n in (await self.partition_counts(topics)).items()}

    async def broker_settings(self, names: Iterable[str]) -> BrokerSettings:
        """Return the one broker's settings: the required value of the verification setting, if asked for."""
        return {1: {VERIFICATION: "true"} if VERIFICATION in set(names) else {}}

    async def close(self) -> None:
        """Do nothing: the transport holds nothing between calls."""

    def _wire(self, name: str) -> Wire:
        wire = Wire(self._broker.network, self._process, name)
        wire.severed = self._severed
        self._wires.append(wire)
        return wire
