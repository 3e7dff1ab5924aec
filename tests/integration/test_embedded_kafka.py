"""The embedded broker is a real Kafka: it serves metadata, keeps its data and port, and leaves nothing behind."""

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from regather.embedded import kafka_probe
from regather.embedded.embedded_kafka import EmbeddedKafka, free_port
from regather.embedded.kafka_jars import JarLock
from regather.embedded.kafka_process import EmbeddedKafkaError
from regather.testing.waiting import eventually

pytestmark = [pytest.mark.long, pytest.mark.kafka]


async def _records(bootstrap: str, topic: str) -> list[bytes]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while await consumer.position(partition) < end:
            batch = await consumer.getmany(timeout_ms=200)
            found += [record.value for records in batch.values() for record in records]
        return found
    finally:
        await consumer.stop()


async def _holds(bootstrap: str, topic: str, values: list[bytes]) -> bool:
    """Whether a reader of committed records sees exactly these; a commit reaches it after its ack."""
    found = await _records(bootstrap, topic)
    assert found in ([], values), f"{len(found)} records that were not sent so"
    return found == values


async def _create(bootstrap: str, topic: str, config: dict[str, str] | None = None) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=config or {})])
    finally:
        await admin.close()


async def _send_in_transaction(bootstrap: str, topic: str, values: list[bytes]) -> None:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=f"tx-{topic}", acks="all", max_request_size=16 * 1024 * 1024
    )
    await producer.start()
    try:
        async with producer.transaction():
            for value in values:
                await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def test_committed_records_survive_an_orderly_restart_and_a_kill_on_the_same_port(tmp_path: Path) -> None:
    with EmbeddedKafka(data_dir=tmp_path / "data", proxy_port=free_port()) as kafka:
        address, first_pid, route = kafka.bootstrap_servers, kafka.pid, kafka.proxy_route
        await _create(address, "kept")
        await _send_in_transaction(address, "kept", [b"one", b"two"])
        kafka.restart()
        assert kafka.bootstrap_servers == address
        assert kafka.pid != first_pid
        await eventually(lambda: _holds(address, "kept", [b"one", b"two"]), what="both records")
        kafka.kill()
        with pytest.raises(EmbeddedKafkaError, match="not running"):
            _ = kafka.pid
        with pytest.raises(OSError, match="refused"):
            kafka_probe.ask(address)
        kafka.start()
        await eventually(lambda: _holds(address, "kept", [b"one", b"two"]), what="both records")
        assert kafka.proxy_route == route
    with EmbeddedKafka(data_dir=tmp_path / "data") as later:
        assert later.bootstrap_servers == address
        await eventually(lambda: _holds(address, "kept", [b"one", b"two"]), what="both records")


async def test_a_record_of_the_largest_size_passes(kafka_bootstrap: str) -> None:
    limit = 12 * 1024 * 1024
    topic = f"large-{os.urandom(4).hex()}"
    await _create(kafka_bootstrap, topic, {"max.message.bytes": str(limit)})
    value = os.urandom(limit - 1024)
    await _send_in_transaction(kafka_bootstrap, topic, [value])
    await eventually(lambda: _holds(kafka_bootstrap, topic, [value]), what="the record of 12 MiB")


async def test_asking_for_a_topic_does_not_create_it(kafka_bootstrap: str) -> None:
    from aiokafka import AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    absent = f"absent-{os.urandom(4).hex()}"
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, request_timeout_ms=1_000)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await producer.start()
    await admin.start()
    try:
        with pytest.raises((KafkaError, TimeoutError)):
            await asyncio.wait_for(producer.partitions_for(absent), timeout=3)
        assert absent not in await admin.list_topics()
    finally:
        await admin.close()
        await producer.stop()


def test_the_broker_dies_with_the_process_that_started_it() -> None:
    program = textwrap.dedent("""
        import sys
        from regather.embedded.embedded_kafka import EmbeddedKafka
        kafka = EmbeddedKafka()
        kafka.start()
        print(kafka.pid, kafka.log_path.parent, flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid_text, home = parent.stdout.readline().split()
        assert Path(f"/proc/{pid_text}/cmdline").read_bytes().endswith(b"server.properties\0")
        parent.kill()
    asyncio.run(eventually(lambda: not _is_alive(int(pid_text)), timeout_s=10, what="the broker's death"))
    with EmbeddedKafka():
        assert not Path(home).exists()  # what a killed process left behind is removed by the next one


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_end_of_the_context_ends_the_broker_and_removes_its_temporary_data() -> None:
    with EmbeddedKafka() as kafka:
        pid, home = kafka.pid, kafka.log_path.parent
        assert home.is_dir()
        assert kafka.version == JarLock.load().kafka_version
    assert not _is_alive(pid)
    assert not home.exists()


def test_a_broker_that_cannot_start_says_why_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedKafkaError, match="Too small maximum heap"):
        EmbeddedKafka(data_dir=tmp_path, jvm_args=("-Xmx1",)).start()


def test_the_probe_is_not_fooled_by_an_open_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OSError, match="Timeout"):
            kafka_probe.ask(address, timeout_s=0.2)
