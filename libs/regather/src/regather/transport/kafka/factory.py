"""Makes every Kafka client with every setting said: the client's own defaults are unsafe."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import errors as client_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from regather.core.errors import BrokerUnavailable, TransportError
from regather.transport.base import Consumer, Producer, TopicSpec, TransactionalProducer
from regather.transport.kafka.consumer import KafkaConsumer
from regather.transport.kafka.failures import Limits, limited, stopped
from regather.transport.kafka.producer import KafkaProducer, KafkaTransactionalProducer

KIB, MIB = 1024, 1024 * 1024
_BATCH_BYTES = 256 * KIB
_PARTITION_FETCH_BYTES = 2 * MIB
"""A larger record is still delivered, alone: the limit bounds what is prefetched per partition."""


class KafkaTransport:
    """Clients for one cluster. `session_timeout_ms`: a silent member is dropped from its group after so long."""

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

    def producer(self, *, max_record_bytes: int, linger_ms: int = 0) -> Producer:
        """An idempotent producer."""
        settings = self._producer_settings(max_record_bytes) | {"linger_ms": linger_ms}
        return KafkaProducer(
            lambda: AIOKafkaProducer(**settings), max_record_bytes=max_record_bytes, limits=self._limits
        )

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        """A fencing producer. The short retry pause lets it end an older owner's transaction in 20 ms instead of 110."""
        settings = self._producer_settings(max_record_bytes) | {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": 20_000,
            "retry_backoff_ms": 5,
        }
        return KafkaTransactionalProducer(
            lambda: AIOKafkaProducer(**settings), max_record_bytes=max_record_bytes, limits=self._limits
        )

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * MIB) -> Consumer:
        """A read_committed consumer that starts at the earliest record and commits only what it is told to."""
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
            "partition_assignment_strategy": [RoundRobinPartitionAssignor],
        }
        return KafkaConsumer(lambda: AIOKafkaConsumer(**settings), limits=self._limits)

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create what is missing; names of the topics created."""
        async with _Admin(self._shared, self._limits) as admin:
            existing = set(await limited(admin.list_topics(), timeout_s=self._limits.call_s))
            missing = [spec for spec in specs if spec.name not in existing]
            new = [
                NewTopic(spec.name, spec.partitions, self._replication, topic_configs=dict(spec.config))
                for spec in missing
            ]
            if new:
                _raise_for(await limited(admin.create_topics(new), timeout_s=self._limits.call_s))
            return [spec.name for spec in missing]

    async def partition_counts(self, topics: Iterable[str]) -> Mapping[str, int]:
        """Partitions of each topic that exists."""
        async with _Admin(self._shared, self._limits) as admin:
            found = await limited(admin.describe_topics(list(topics)), timeout_s=self._limits.call_s)
            return {topic["topic"]: len(topic["partitions"]) for topic in found if topic["error_code"] == 0}

    async def close(self) -> None:
        """Nothing is held between calls."""

    def _producer_settings(self, max_record_bytes: int) -> dict[str, Any]:
        return self._shared | {
            "enable_idempotence": True,
            "acks": "all",
            # A broker checks a topic's limit against the batch, so a batch is never larger than a record may be.
            "max_batch_size": min(_BATCH_BYTES, max_record_bytes),
            "max_request_size": max_record_bytes + 64 * KIB,  # room for key and headers, which the client counts in
            "request_timeout_ms": self._limits.request_ms,
        }


class _Admin:
    """An admin client for the length of a block."""

    def __init__(self, settings: Mapping[str, Any], limits: Limits) -> None:
        self._client = AIOKafkaAdminClient(**settings, request_timeout_ms=limits.request_ms)
        self._limits = limits

    async def __aenter__(self) -> AIOKafkaAdminClient:
        try:
            await limited(self._client.start(), timeout_s=self._limits.call_s)
        except TransportError as error:
            await stopped(self._client.close(), timeout_s=self._limits.stop_s)
            raise BrokerUnavailable(f"no broker answered: {error}") from error
        return self._client

    async def __aexit__(self, *_error: object) -> None:
        await stopped(self._client.close(), timeout_s=self._limits.stop_s)


def _raise_for(response: Any) -> None:
    for name, code, *message in response.topic_errors:
        error = client_errors.for_code(code)
        if error not in (client_errors.NoError, client_errors.TopicAlreadyExistsError):
            raise BrokerUnavailable(f"topic {name} could not be created: {error.__name__} {message}")
