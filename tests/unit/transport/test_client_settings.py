"""Traps 7, 20, 21: every setting of a client is said, and every error of a client becomes one of ours."""

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import errors as client_errors
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from regather.core.errors import (
    BrokerUnavailable,
    CommitRejected,
    Fenced,
    OffsetOutOfRange,
    ProducerDead,
    RecordTooLarge,
)
from regather.topics.layout import EVENT_RECORD_BYTES, MIB
from regather.transport.kafka import KafkaTransport, Limits
from regather.transport.kafka.failures import translate

SAID_OF_A_CONSUMER = {
    "_isolation_level": "read_committed",
    "_enable_auto_commit": False,
    "_auto_offset_reset": "none",
    "_session_timeout_ms": 20_000,
    "_heartbeat_interval_ms": 3_000,
    "_rebalance_timeout_ms": 60_000,
    "_max_poll_interval_ms": 300_000,
    "_max_partition_fetch_bytes": 2 * MIB,
    "_fetch_max_bytes": 16 * MIB,
    "_partition_assignment_strategy": [RoundRobinPartitionAssignor],
    "_group_instance_id": None,  # trap 21: half of static membership is not there
    "_key_deserializer": None,  # traps 5, 6: bytes only, parsed in our own code
    "_value_deserializer": None,
}


@pytest.fixture
def transport() -> KafkaTransport:
    return KafkaTransport("127.0.0.1:1", client_id="settings")


async def test_trap_7_every_setting_of_a_consumer(transport: KafkaTransport) -> None:
    client: AIOKafkaConsumer = transport.consumer(group="g")._make_client()  # type: ignore[attr-defined]
    try:
        assert {name: getattr(client, name) for name in SAID_OF_A_CONSUMER} == SAID_OF_A_CONSUMER
        assert client._client._metadata_max_age_ms == 30_000  # else new partitions are not read for five minutes
    finally:
        await client.stop()


async def test_trap_7_every_setting_of_a_producer(transport: KafkaTransport) -> None:
    made: Any = transport.producer(max_record_bytes=EVENT_RECORD_BYTES)
    fencing: Any = transport.transactional_producer("t", max_record_bytes=1_000)
    client: AIOKafkaProducer = made._make_client()
    other: AIOKafkaProducer = fencing._make_client()
    try:
        assert client._txn_manager is not None  # idempotent
        assert client._txn_manager.transactional_id is None
        assert (client._sender._acks, other._sender._acks) == (-1, -1)
        assert (client._max_request_size, other._max_request_size) == (
            EVENT_RECORD_BYTES + 64 * 1024,
            1_000 + 64 * 1024,
        )
        accumulators = client._message_accumulator, other._message_accumulator
        assert [accumulator._batch_size for accumulator in accumulators] == [256 * 1024, 1_000]
        assert client._request_timeout_ms == 10_000 < Limits().call_s * 1000
        manager = other._txn_manager
        assert (manager.transactional_id, manager.transaction_timeout_ms) == ("t", 20_000)
    finally:
        await client.stop()
        await other.stop()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (client_errors.ProducerFenced(), Fenced),
        (client_errors.for_code(47)(), Fenced),
        (client_errors.for_code(10)(), RecordTooLarge),
        (client_errors.for_code(1)(), OffsetOutOfRange),
        (client_errors.for_code(22)(), CommitRejected),
        (client_errors.for_code(25)(), CommitRejected),
        (client_errors.for_code(45)(), ProducerDead),
        (AssertionError("Invalid state transition"), ProducerDead),
        (client_errors.for_code(74)(), BrokerUnavailable),  # beyond what the client knows by name
        (client_errors.for_code(90)(), BrokerUnavailable),
        (TimeoutError(), BrokerUnavailable),
        (OSError("no route"), BrokerUnavailable),
    ],
)
def test_trap_20_every_error_becomes_one_of_ours_known_to_the_client_or_not(theirs: Exception, ours: type) -> None:
    assert type(translate(theirs)) is ours


async def test_the_client_knows_no_name_for_later_errors_yet() -> None:
    assert client_errors.for_code(74) is client_errors.UnknownError
