"""What a cluster says of itself through the admin client: leaders, replicas in sync, coordinators, committed offsets."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.metadata import MetadataRequest

from regather.core.errors import BrokerUnavailable
from regather.transport.base import TopicPartition

_CALL_S = 4.0
_LIMIT_S = 10.0
_PAUSE_S = 0.3
_ONE_BROKER_S = 1.0
_GROUP, _TRANSACTION = 0, 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartitionState:
    """`leader` is a broker's id, -1 for none. The first of the `replicas` is the one that is to lead."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: frozenset[int]


class ClusterView:
    """Asks with a client of its own each time, so that it never holds what a broker took along.

    `bootstrap_servers` is called before each question, for the brokers that are known to be there. Every method raises
    BrokerUnavailable where nobody answers within some seconds.
    """

    def __init__(self, bootstrap_servers: Callable[[], str]) -> None:
        self._bootstrap_servers = bootstrap_servers

    async def partitions(self) -> Mapping[TopicPartition, PartitionState]:
        """All partitions, those of internal topics included, as some broker sees them."""
        found = await self._ask(lambda admin: admin.describe_topics())
        return _states(found)

    async def agreed_partitions(self) -> Mapping[TopicPartition, PartitionState]:
        """The same as soon as all brokers say the same: a new topic reaches them one after the other."""
        return await self._ask(_agreed_partitions)

    async def leaderships(self) -> Counter[int]:
        """How many partitions each broker leads, internal topics included."""
        return Counter(state.leader for state in (await self.partitions()).values())

    async def out_of_sync(self) -> int:
        """Partitions that lack a replica in sync, or a leader."""
        states = (await self.partitions()).values()
        return sum(len(state.in_sync) < len(state.replicas) or state.leader < 0 for state in states)

    async def group_coordinator(self, group: str) -> int:
        """The broker that leads the group's partition of `__consumer_offsets`."""
        return int(await self._ask(lambda admin: admin.find_coordinator(group, _GROUP)))

    async def transaction_coordinator(self, transactional_id: str) -> int:
        """The broker that leads the id's partition of `__transaction_state`."""
        return int(await self._ask(lambda admin: admin.find_coordinator(transactional_id, _TRANSACTION)))

    async def committed(self, group: str) -> Mapping[TopicPartition, int]:
        """Every committed offset of a group."""
        found = await self._ask(lambda admin: admin.list_consumer_group_offsets(group))
        return {TopicPartition(*tp): entry.offset for tp, entry in found.items()}

    async def _ask(self, question: Callable[[Any], Awaitable[T]]) -> T:
        end_s = time.monotonic() + _LIMIT_S
        while True:
            try:
                return await self._ask_once(question)
            except Exception as error:  # the client raises Kafka, OS and time-out errors alike
                if time.monotonic() > end_s:
                    raise BrokerUnavailable(f"the cluster did not answer: {error!r}") from error
                await asyncio.sleep(_PAUSE_S)

    async def _ask_once(self, question: Callable[[Any], Awaitable[T]]) -> T:
        client = AIOKafkaAdminClient(
            bootstrap_servers=self._bootstrap_servers(),
            client_id="regather-view",
            request_timeout_ms=int(_CALL_S * 1000),
        )
        try:
            async with asyncio.timeout(_CALL_S):
                await client.start()
                return await question(client)
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_CALL_S):
                    await client.close()


async def _agreed_partitions(admin: Any) -> Mapping[TopicPartition, PartitionState]:
    """What every broker says that answers within `_ONE_BROKER_S`; BrokerUnavailable where two of them differ."""
    brokers = [broker["node_id"] for broker in (await admin.describe_cluster())["brokers"]]
    answers = await asyncio.gather(*(_partitions_by(admin, broker) for broker in brokers), return_exceptions=True)
    states = [answer for answer in answers if not isinstance(answer, BaseException)]
    if not states or any(state != states[0] for state in states):
        raise BrokerUnavailable(f"{len(states)} of {len(brokers)} brokers answered, and do not say the same")
    return states[0]


async def _partitions_by(admin: Any, broker: int) -> Mapping[TopicPartition, PartitionState]:
    """What this broker says of all topics. The client's public calls ask a broker of the client's choice."""
    async with asyncio.timeout(_ONE_BROKER_S):
        response = await admin._send_request_to_node(broker, MetadataRequest(None))
    return _states(response.to_object()["topics"])


def _states(topics: Iterable[Mapping[str, Any]]) -> Mapping[TopicPartition, PartitionState]:
    return {
        TopicPartition(topic["topic"], entry["partition"]): PartitionState(
            entry["leader"], tuple(entry["replicas"]), frozenset(entry["isr"])
        )
        for topic in topics
        for entry in topic["partitions"]
    }
