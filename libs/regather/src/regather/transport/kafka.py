"""Kafka through aiokafka; the only module that knows the client (thin first version)."""

import asyncio
from collections.abc import Awaitable, Generator, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka import TopicPartition as ClientPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.producer import sender
from aiokafka.structs import OffsetAndMetadata

from regather.core.errors import (
    BrokerUnavailable,
    CommitRejected,
    Fenced,
    OffsetOutOfRange,
    ProducerDead,
    RecordTooLarge,
    TransportError,
)
from regather.transport.base import (
    Committed,
    Consumer,
    Headers,
    Producer,
    RebalanceListener,
    Record,
    RecordAddress,
    TopicPartition,
    TopicSpec,
    TransactionalProducer,
)

sender.BACKOFF_OVERRIDE = 0.002
_CALL_S = 15.0
_STOP_S = 10.0


def translate(error: BaseException) -> TransportError:
    if isinstance(error, TransportError):
        return error
    if isinstance(error, (kafka_errors.ProducerFenced,)):
        return Fenced(str(error))
    if isinstance(error, (kafka_errors.MessageSizeTooLargeError,)):
        return RecordTooLarge(str(error))
    if isinstance(error, (kafka_errors.CommitFailedError, kafka_errors.IllegalGenerationError, kafka_errors.UnknownMemberIdError, kafka_errors.RebalanceInProgressError, kafka_errors.IllegalStateError)):
        return CommitRejected(str(error))
    if isinstance(error, (kafka_errors.KafkaConnectionError, kafka_errors.KafkaTimeoutError, TimeoutError)):
        return BrokerUnavailable(repr(error))
    return ProducerDead(repr(error))


class _Ack:
    __slots__ = ("_future", "_producer")

    def __init__(self, future: Any, producer: "KafkaProducer") -> None:
        self._future, self._producer = future, producer

    def __await__(self) -> Generator[Any, None, RecordAddress]:
        try:
            meta = yield from asyncio.shield(self._future).__await__()
        except kafka_errors.KafkaError as error:
            self._producer.dead = True
            raise translate(error) from error
        return RecordAddress(meta.topic, meta.partition, meta.offset, meta.timestamp)


class KafkaProducer:
    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._client: Any = None
        self.dead = False
        self._transaction: list[Any] = []

    async def start(self) -> None:
        self._client = AIOKafkaProducer(**self._settings)
        try:
            async with asyncio.timeout(_CALL_S):
                await self._client.start()
        except Exception as error:
            self.dead = True
            await self.stop()
            raise BrokerUnavailable(repr(error)) from error

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(_STOP_S):
                await client.stop()
        except Exception:
            return

    async def send(self, topic: str, *, value: bytes | None, key: bytes | None = None, headers: Headers = (), partition: int | None = None) -> Awaitable[RecordAddress]:
        if self._client is None or self.dead:
            raise ProducerDead("this producer is dead or was stopped")
        try:
            future = await self._client.send(topic, value=value, key=key, headers=headers, partition=partition)
        except Exception as error:
            self.dead = True
            raise translate(error) from error
        ack = _Ack(future, self)
        if "transactional_id" in self._settings:
            self._transaction.append(ack)
        return ack

    async def begin(self) -> None:
        await self._do(self._client.begin_transaction())
        self._transaction = []

    async def commit(self) -> None:
        for ack in self._transaction:
            await ack
        await self._do(self._client.commit_transaction())

    async def abort(self) -> None:
        try:
            await self._do(self._client.abort_transaction())
        finally:
            self.dead = True

    async def _do(self, call: Any) -> None:
        try:
            async with asyncio.timeout(_CALL_S):
                await call
        except Exception as error:
            self.dead = True
            found = translate(error)
            raise (found if isinstance(found, ProducerDead) else ProducerDead(repr(error))) from error


class _Listener(ConsumerRebalanceListener):
    def __init__(self, listener: RebalanceListener, owner: "KafkaConsumer") -> None:
        self._listener, self._owner = listener, owner

    async def on_partitions_revoked(self, revoked: Any) -> None:
        try:
            await self._listener.on_revoked([TopicPartition(*tp) for tp in revoked])
        except Exception as error:
            self._owner.broken = error

    async def on_partitions_assigned(self, assigned: Any) -> None:
        try:
            await self._listener.on_assigned([TopicPartition(*tp) for tp in assigned])
        except Exception as error:
            self._owner.broken = error


def _cp(partitions: Iterable[TopicPartition]) -> list[Any]:
    return [ClientPartition(*tp) for tp in partitions]


class KafkaConsumer:
    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._client: Any = None
        self.broken: BaseException | None = None

    async def start(self) -> None:
        self._client = AIOKafkaConsumer(**self._settings)
        try:
            async with asyncio.timeout(_CALL_S):
                await self._client.start()
        except Exception as error:
            await self.stop()
            raise BrokerUnavailable(repr(error)) from error

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(_STOP_S):
                await client.stop()
        except Exception:
            return

    def subscribe(self, topics: Iterable[str], listener: RebalanceListener) -> None:
        self._client.subscribe(list(topics), listener=_Listener(listener, self))

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        old = {}
        for tp in self._client.assignment():
            state = self._client._subscription.subscription.assignment.state_value(tp)
            if state is not None and state.has_valid_position:
                old[tp] = state.position
        new = _cp(partitions)
        self._client.assign(new)
        for tp in new:
            if tp in old:
                self._client.seek(tp, old[tp])

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(TopicPartition(*tp) for tp in self._client.assignment())

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Mapping[TopicPartition, list[Record]]:
        if self.broken is not None:
            raise TransportError("rebalance listener failed") from self.broken
        try:
            batches = await self._client.getmany(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        except kafka_errors.OffsetOutOfRangeError as error:
            raise OffsetOutOfRange(str(error)) from error
        except kafka_errors.KafkaError as error:
            raise translate(error) from error
        return {
            TopicPartition(*tp): [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]
            for tp, records in batches.items()
        }

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._client.pause(*_cp(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self._client.resume(*_cp(partitions))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._client.seek(ClientPartition(*partition), offset)

    async def _call(self, call: Any) -> Any:
        try:
            async with asyncio.timeout(_CALL_S):
                return await call
        except Exception as error:
            raise translate(error) from error

    async def position(self, partition: TopicPartition) -> int:
        return int(await self._call(self._client.position(ClientPartition(*partition))))

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        await self._call(self._client.commit({ClientPartition(*tp): OffsetAndMetadata(c.offset, c.metadata) for tp, c in offsets.items()}))

    async def committed(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Committed | None]:
        wanted = list(partitions)
        found = await self._call(self._client._coordinator.fetch_committed_offsets(_cp(wanted)))
        return {tp: Committed(*found[ClientPartition(*tp)]) if ClientPartition(*tp) in found else None for tp in wanted}

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {TopicPartition(*tp): o for tp, o in (await self._call(self._client.beginning_offsets(_cp(partitions)))).items()}

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {TopicPartition(*tp): o for tp, o in (await self._call(self._client.end_offsets(_cp(partitions)))).items()}

    async def offsets_for_time(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        raise NotImplementedError


class KafkaTransport:
    def __init__(self, bootstrap_servers: str, *, client_id: str) -> None:
        self._shared = {"bootstrap_servers": bootstrap_servers, "client_id": client_id}

    def producer(self, *, max_record_bytes: int, linger_ms: int = 0) -> Producer:
        return KafkaProducer(**self._shared, enable_idempotence=True, acks="all", linger_ms=linger_ms, max_batch_size=max(262144, max_record_bytes), max_request_size=max_record_bytes, request_timeout_ms=10000)

    def transactional_producer(self, transactional_id: str, *, max_record_bytes: int) -> TransactionalProducer:
        return KafkaProducer(**self._shared, transactional_id=transactional_id, transaction_timeout_ms=20000, retry_backoff_ms=5, enable_idempotence=True, acks="all", max_request_size=max_record_bytes, request_timeout_ms=10000)

    def consumer(self, *, group: str | None = None, fetch_max_bytes: int = 16 * 1024 * 1024) -> Consumer:
        return KafkaConsumer(**self._shared, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest", isolation_level="read_committed", session_timeout_ms=20000, heartbeat_interval_ms=3000, rebalance_timeout_ms=60000, max_poll_interval_ms=300000, max_partition_fetch_bytes=2 * 1024 * 1024, fetch_max_bytes=fetch_max_bytes, partition_assignment_strategy=[RoundRobinPartitionAssignor])

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        admin = AIOKafkaAdminClient(**self._shared)
        await admin.start()
        try:
            existing = set(await admin.list_topics())
            missing = [NewTopic(s.name, s.partitions, 1, topic_configs=dict(s.config)) for s in specs if s.name not in existing]
            if missing:
                await admin.create_topics(missing)
            return [t.name for t in missing]
        finally:
            await admin.close()

    async def partition_counts(self, topics: Iterable[str]) -> Mapping[str, int]:
        admin = AIOKafkaAdminClient(**self._shared)
        try:
            await admin.start()
            found = await admin.describe_topics(list(topics))
            return {t["topic"]: len(t["partitions"]) for t in found if t["error_code"] == 0}
        except kafka_errors.KafkaError as error:
            raise BrokerUnavailable(repr(error)) from error
        finally:
            await admin.close()

    async def close(self) -> None:
        return None
