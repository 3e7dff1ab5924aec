"""The fault proxy before a real broker: clients never leave it, and each fault is what the client sees."""

import asyncio
import os
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CorruptRecordException, KafkaError

from regather.embedded.embedded_kafka import EmbeddedKafka, EmbeddedKafkaError
from regather.testing.fault_proxy import FaultProxy, Rule

pytestmark = pytest.mark.kafka


async def create_topic(kafka: EmbeddedKafka, partitions: int = 1, **config: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        name = f"proxied-{os.urandom(4).hex()}"
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        return name
    finally:
        await admin.close()


async def send(servers: str, topic: str, *values: bytes, partition: int = 0, **settings: Any) -> None:
    settings = {"enable_idempotence": True, "acks": "all", "client_id": "sender"} | settings
    async with AIOKafkaProducer(bootstrap_servers=servers, **settings) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=partition)


async def read(servers: str, topic: str, count: int, partitions: int = 1) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=servers, client_id="reader") as consumer:
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        found: list[bytes] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [record.value for record in records]
        return found


async def test_clients_that_come_through_the_proxy_stay_there_and_others_stay_outside(
    proxied_kafka: EmbeddedKafka, fault_proxy: FaultProxy
) -> None:
    topic = await create_topic(proxied_kafka)
    await send(proxied_kafka.bootstrap_servers, topic, b"direct", client_id="outside")
    assert fault_proxy.passed("Produce", "request").frames == 0
    await send(proxied_kafka.proxied_servers, topic, b"proxied", client_id="inside")
    assert fault_proxy.passed("Produce", "reply", "inside").frames == 1
    assert await read(proxied_kafka.bootstrap_servers, topic, 2) == [b"direct", b"proxied"]
    assert fault_proxy.passed("Fetch", "request").frames == 0
    assert await read(proxied_kafka.proxied_servers, topic, 2) == [b"direct", b"proxied"]
    assert fault_proxy.passed("Fetch", "reply", "reader").frames >= 1


async def test_twelve_mebibytes_pass_both_ways(proxied_kafka: EmbeddedKafka, fault_proxy: FaultProxy) -> None:
    topic = await create_topic(proxied_kafka, **{"max.message.bytes": str(13 * 1024**2)})
    value = os.urandom(12 * 1024**2)
    await send(proxied_kafka.proxied_servers, topic, value, max_request_size=13 * 1024**2)
    assert await read(proxied_kafka.proxied_servers, topic, 1) == [value]
    assert fault_proxy.passed("Fetch", "reply").largest_bytes > len(value)


async def test_a_held_produce_is_acked_late(proxied_kafka: EmbeddedKafka, fault_proxy: FaultProxy) -> None:
    topic = await create_topic(proxied_kafka)
    held = fault_proxy.arm(Rule("Produce", "request", "hold", hold_s=0.5, count=1))
    began_s = time.monotonic()
    await send(proxied_kafka.proxied_servers, topic, b"late")
    assert time.monotonic() - began_s >= 0.5
    assert held.fired == 1


async def test_a_lost_ack_makes_the_client_send_again_and_the_broker_keep_one(
    proxied_kafka: EmbeddedKafka, fault_proxy: FaultProxy
) -> None:
    topic = await create_topic(proxied_kafka)
    lost = fault_proxy.arm(Rule("Produce", "reply", "drop", count=1))
    await send(proxied_kafka.proxied_servers, topic, b"one", b"two", request_timeout_ms=1_000)
    assert lost.fired == 1
    assert fault_proxy.passed("Produce", "request").frames == 3
    assert await read(proxied_kafka.bootstrap_servers, topic, 2) == [b"one", b"two"]


async def test_after_a_reset_of_a_reply_the_record_is_there_whatever_its_client_believes(
    proxied_kafka: EmbeddedKafka, fault_proxy: FaultProxy
) -> None:
    topic = await create_topic(proxied_kafka)
    producer = AIOKafkaProducer(bootstrap_servers=proxied_kafka.proxied_servers, acks="all")  # it does not send again
    await producer.start()
    try:
        fault_proxy.arm(Rule("Produce", "reply", "reset", count=1))
        await (await producer.send(topic, b"written all the same", partition=0))
    except KafkaError:
        pass  # a plain producer retries until its time is over: either way is the client's own
    finally:
        await producer.stop()
    assert (await read(proxied_kafka.bootstrap_servers, topic, 1))[0] == b"written all the same"
    assert fault_proxy.idle == ()


async def test_a_garbled_batch_is_refused_by_the_client_and_whole_at_the_next_fetch(
    proxied_kafka: EmbeddedKafka, fault_proxy: FaultProxy
) -> None:
    topic = await create_topic(proxied_kafka)
    await send(proxied_kafka.bootstrap_servers, topic, b"whole")
    garbled = fault_proxy.arm(Rule("Fetch", "reply", "garble", count=1))
    with pytest.raises(CorruptRecordException):
        await read(proxied_kafka.proxied_servers, topic, 1)
    assert garbled.fired == 1
    assert await read(proxied_kafka.proxied_servers, topic, 1) == [b"whole"]


def test_a_broker_without_a_proxy_has_no_way_through_one() -> None:
    with pytest.raises(EmbeddedKafkaError, match="proxy_port"):
        _ = EmbeddedKafka().proxied_servers
