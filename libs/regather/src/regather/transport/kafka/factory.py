"""Makes every Kafka client with explicit settings, because the client's own defaults are unsafe."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from regather.topics.rules import BrokerSettings, TopicSpec, TopicState
from regather.transport.base import TRANSACTION_TIMEOUT_S, Consumer, Producer, TransactionalProducer
from regather.transport.kafka.administration import configs_of, connected_admin, create_missing, replicas_of
from regather.transport.kafka.consumer import KafkaConsumer
from regather.transport.kafka.failures import Limits, limited
from regather.transport.kafka.producer import KafkaProducer, KafkaTransactionalProducer

KIB, MIB = 1024, 1024 * 1024
_BATCH_BYTES = 256 * KIB
_PARTITION_FETCH_BYTES = 2 * MIB
"""Bounds the prefetch of each partition. A larger record is still delivered, alone."""


class KafkaTransport:
    """Clients for one cluster. A group drops a member that sends no heartbeat for `session_timeout_ms`."""

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        client_id: str,
        session_timeout_ms: int = 20_000,
        replication: int = 1,
        limits: Limits | None = None,
    ) -> None:
        self._shared: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, "client_id": client_id}
        self._session_timeout_ms = session_timeout_ms
        self._replication = replication
        self._limits = limits or Limits()

    def producer(self, *, max_record_bytes: int) -> Producer:
        """Return a new idempotent producer."""
        settings = self._producer_settings(max_record_bytes)
        return KafkaProducer(
            lambda: AIOKafkaProducer(**settings), max_record_bytes=max_record_bytes, limits=self._limits
        )

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        """Return a new fencing producer.

        With its short retry pause it ends the transaction of an older owner in 20 ms instead of 110.
        """
        settings = self._producer_settings(max_record_bytes) | {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": int(TRANSACTION_TIMEOUT_S * 1000),
            "retry_backoff_ms": 5,
        }
        return KafkaTransactionalProducer(
            lambda: AIOKafkaProducer(**settings), max_record_bytes=max_record_bytes, limits=self._limits
        )

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * MIB) -> Consumer:
        """Return a new read_committed consumer that starts at the earliest record and commits only explicitly."""
        settings = self._shared | {
            "group_id": group,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "session_timeout_ms": self._session_timeout_ms,
            "heartbeat_interval_ms": min(3_000, self._session_timeout_ms // 3),
            "rebalance_timeout_ms": 60_000,
            "max_poll_interval_ms": 300_000,
            "max_partition_fetch_bytes": min(_PARTITION_FETCH_BYTES, fetch_max_bytes),
            "fetch_max_bytes": fetch_max_bytes,
            "metadata_max_age_ms": int(self._limits.metadata_s * 1000),  # else new partitions wait for five minutes
            "partition_assignment_strategy": [RoundRobinPartitionAssignor],
        }
        return KafkaConsumer(lambda: AIOKafkaConsumer(**settings), limits=self._limits)

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the missing topics and return their names."""
        async with connected_admin(self._shared, self._limits) as admin:
            return await create_missing(admin, specs, self._replication)

    async def partition_counts(self, topics: Iterable[str]) -> Mapping[str, int]:
        """Return the number of partitions of each existing topic."""
        async with connected_admin(self._shared, self._limits) as admin:
            replicas = await replicas_of(admin, topics)
            return {topic: len(partitions) for topic, partitions in replicas.items()}

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic, up to `partitions`."""
        async with connected_admin(self._shared, self._limits) as admin:
            await limited(admin.create_partitions({topic: NewPartitions(partitions)}))

    async def topic_states(self, topics: Iterable[str]) -> Mapping[str, TopicState]:
        """Return replicas and settings of each existing topic."""
        async with connected_admin(self._shared, self._limits) as admin:
            replicas = await replicas_of(admin, topics)
            configs = await configs_of(admin, ConfigResourceType.TOPIC, replicas)
            return {topic: TopicState(brokers, configs[topic]) for topic, brokers in replicas.items()}

    async def broker_settings(self, names: Iterable[str]) -> BrokerSettings:
        """Return these settings of every broker."""
        async with connected_admin(self._shared, self._limits) as admin:
            cluster = await limited(admin.describe_cluster())
            brokers = [str(broker["node_id"]) for broker in cluster["brokers"]]
            configs = await configs_of(admin, ConfigResourceType.BROKER, brokers, names)
            return {int(broker): settings for broker, settings in configs.items()}

    async def close(self) -> None:
        """Do nothing: the factory holds no resources between calls."""

    def _producer_settings(self, max_record_bytes: int) -> dict[str, Any]:
        return self._shared | {
            "enable_idempotence": True,
            "acks": "all",
            # A broker compares a topic's record limit with the batch, so a batch must not exceed it, either.
            "max_batch_size": min(_BATCH_BYTES, max_record_bytes),
            "max_request_size": max_record_bytes + 64 * KIB,  # room for key and headers, which the client counts, too
            "request_timeout_ms": self._limits.request_ms,
        }
