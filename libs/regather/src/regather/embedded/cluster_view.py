"""Reads a cluster's state through the admin client: leaders, in-sync replicas, coordinators, committed offsets."""

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
    """One partition. `leader` is a broker's id, -1 for none. The first of `replicas` is the preferred leader."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: frozenset[int]


class ClusterView:
    """Queries the cluster with a new client each time, so that no connection or metadata of a dead broker remains.

    It calls `bootstrap_servers` before each query to get the brokers to ask. Every method raises BrokerUnavailable if
    no broker answers within about ten seconds.
    """

    def __init__(self, bootstrap_servers: Callable[[], str]) -> None:
        self._bootstrap_servers = bootstrap_servers

    async def partitions(self) -> Mapping[TopicPartition, PartitionState]:
        """Return all partitions, including those of internal topics, as one broker sees them."""
        found = await self._ask(lambda admin: admin.describe_topics())
        return _states(found)

    async def agreed_partitions(self) -> Mapping[TopicPartition, PartitionState]:
        """Return all partitions once all answering brokers agree: a new topic reaches them one after the other."""
        return await self._ask(_agreed_partitions)

    async def leaderships(self) -> Counter[int]:
        """Return how many partitions each broker leads, including those of internal topics."""
        return Counter(state.leader for state in (await self.partitions()).values())

    async def out_of_sync(self) -> int:
        """Return the number of partitions without a leader, or with a replica out of sync."""
        states = (await self.partitions()).values()
        return sum(len(state.in_sync) < len(state.replicas) or state.leader < 0 for state in states)

    async def group_coordinator(self, group: str) -> int:
        """Return the broker that leads the group's partition of `__consumer_offsets`."""
        return int(await self._ask(lambda admin: admin.find_coordinator(group, _GROUP)))

    async def transaction_coordinator(self, transactional_id: str) -> int:
        """Return the broker that leads the id's partition of `__transaction_state`."""
        return int(await self._ask(lambda admin: admin.find_coordinator(transactional_id, _TRANSACTION)))

    async def committed(self, group: str) -> Mapping[TopicPartition, int]:
        """Return every committed offset of a group."""
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
    """Return the state that all brokers report that answer within 1 s; BrokerUnavailable if none does or two differ."""
    brokers = [broker["node_id"] for broker in (await admin.describe_cluster())["brokers"]]
    answers = await asyncio.gather(*(_partitions_by(admin, broker) for broker in brokers), return_exceptions=True)
    states = [answer for answer in answers if not isinstance(answer, BaseException)]
    if not states or any(state != states[0] for state in states):
        raise BrokerUnavailable(f"{len(states)} of {len(brokers)} brokers answered; they do not report the same state")
    return states[0]


async def _partitions_by(admin: Any, broker: int) -> Mapping[TopicPartition, PartitionState]:
    """Return all partitions as this broker reports them; the client's public calls choose the broker themselves."""
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
