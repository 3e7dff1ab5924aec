"""A cluster of embedded brokers: it goes on without one of them, however that one went, and takes it back."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.structs import OffsetAndMetadata

from regather.embedded.cluster_view import ClusterView
from regather.embedded.embedded_cluster import EmbeddedCluster
from regather.testing.waiting import eventually
from regather.topics.layout import Size, Topics, topic_specs
from regather.transport.base import Committed, TopicPartition
from regather.transport.kafka import KafkaTransport
from regather.transport.kafka.consumer import KafkaConsumer

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
TOPICS = Topics("cluster.")


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    """Three brokers whose data stand in plain directories: an unprivileged process has nothing else."""
    with EmbeddedCluster(volume_bytes=None) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def view(cluster: EmbeddedCluster) -> AsyncIterator[ClusterView]:
    transport = KafkaTransport(cluster.bootstrap_servers, client_id="test", replication=3)
    await transport.create_topics(topic_specs(TOPICS, Size.COMPOSE, replication=3))
    await transport.close()
    found = ClusterView(lambda: cluster.answering_servers)

    async def known() -> bool:
        return TopicPartition(TOPICS.results, 3) in await found.agreed_partitions()

    await eventually(known, timeout_s=30, what="the topics on every broker", interval_s=0.2)
    yield found


async def leads_nothing(view: ClusterView, node_id: int) -> bool:
    return not (await view.leaderships())[node_id]


async def in_sync(view: ClusterView) -> bool:
    return await view.out_of_sync() == 0


async def send(cluster: EmbeddedCluster, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=cluster.answering_servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for partition in range(4):
            await asyncio.wait_for(producer.send_and_wait(TOPICS.results, value, partition=partition), 30)
    finally:
        await producer.stop()


async def held(cluster: EmbeddedCluster) -> set[bytes]:
    """What stands in every one of the four partitions of results."""
    consumer = AIOKafkaConsumer(
        TOPICS.results, bootstrap_servers=cluster.answering_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found: list[bytes] = []
        while batch := await consumer.getmany(timeout_ms=1000):
            found += [record.value for records in batch.values() for record in records]
        return {value for value in found if found.count(value) == 4}
    finally:
        await consumer.stop()


async def test_every_broker_leads_and_every_partition_stands_on_three(view: ClusterView) -> None:
    states = await view.partitions()
    assert set(await view.leaderships()) == {1, 2, 3}
    assert {tuple(sorted(state.replicas)) for state in states.values()} == {(1, 2, 3)}
    assert TopicPartition(TOPICS.results, 3) in states
    assert await view.out_of_sync() == 0
    assert await view.group_coordinator("any") in {1, 2, 3}
    assert await view.transaction_coordinator("any") in {1, 2, 3}


async def test_a_killed_broker_is_replaced_and_comes_back_with_its_data(
    cluster: EmbeddedCluster, view: ClusterView
) -> None:
    node = cluster.node(await view.transaction_coordinator("any"))
    await send(cluster, b"before")
    node.kill()
    assert not node.running
    await eventually(lambda: leads_nothing(view, node.node_id), timeout_s=30, what="other leaders", interval_s=0.2)
    assert await view.transaction_coordinator("any") != node.node_id
    await send(cluster, b"without")
    node.start()
    node.wait_ready(brokers=3)
    await eventually(lambda: in_sync(view), timeout_s=30, what="all replicas", interval_s=0.2)
    assert await held(cluster) >= {b"before", b"without"}


async def test_a_suspended_broker_loses_its_leaderships_and_an_orderly_stop_ends_with_a_clean_exit(
    cluster: EmbeddedCluster, view: ClusterView
) -> None:
    leaders = await view.leaderships()
    node = cluster.node(max(leaders, key=lambda number: leaders[number]))
    node.suspend()
    try:
        assert node.address not in cluster.answering_servers
        await eventually(lambda: leads_nothing(view, node.node_id), timeout_s=30, what="other leaders", interval_s=0.2)
    finally:
        node.resume()
    await eventually(lambda: in_sync(view), timeout_s=30, what="all replicas", interval_s=0.2)
    assert node.stop() == 143
    node.start()
    node.wait_ready(brokers=3)
    await eventually(lambda: in_sync(view), timeout_s=30, what="all replicas", interval_s=0.2)


async def test_a_consumer_finds_the_end_of_a_log_whose_leader_has_moved_unnoticed(
    cluster: EmbeddedCluster, view: ClusterView
) -> None:
    """A broker that leads no more still serves a consumer's fetches, so that the client learns nothing of the move."""
    tp = TopicPartition(TOPICS.results, 0)
    node = cluster.node((await view.partitions())[tp].replicas[0])
    node.stop()
    await eventually(lambda: leads_nothing(view, node.node_id), timeout_s=30, what="other leaders", interval_s=0.2)
    consumer = KafkaTransport(cluster.answering_servers, client_id="test").consumer()
    await consumer.start()
    consumer.assign([tp])
    assert (await view.partitions())[tp].leader != node.node_id
    before = await consumer.written_offsets([tp])
    node.start()
    node.wait_ready(brokers=3)

    async def leads_again() -> bool:
        await consumer.poll(0.05)
        return (await view.partitions())[tp].leader == node.node_id

    await eventually(leads_again, timeout_s=60, what="the old leader", interval_s=0.2)
    assert await consumer.written_offsets([tp]) == before
    await consumer.stop()


async def test_a_broker_that_does_not_know_the_group_is_not_taken_for_a_group_without_offsets(
    cluster: EmbeddedCluster, view: ClusterView
) -> None:
    """The client looks for errors of single partitions, and a refusal has none: it would begin at the beginning."""
    tp, group = ClientPartition(TOPICS.results, 0), "remembers"
    raw = AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap_servers, group_id=group, enable_auto_commit=False)
    await raw.start()
    raw.assign([tp])
    await raw.commit({tp: OffsetAndMetadata(3, "three")})
    coordinator = await view.group_coordinator(group)
    stranger = next(node.node_id for node in cluster.nodes if node.node_id != coordinator)
    raw._coordinator.coordinator_id = stranger
    assert await raw._coordinator.fetch_committed_offsets([tp]) == {}, "the client has been mended"
    await raw.stop()

    consumer = KafkaTransport(cluster.bootstrap_servers, client_id="test").consumer(group=group)
    assert isinstance(consumer, KafkaConsumer)
    await consumer.start()
    assert consumer._client is not None
    consumer._client._coordinator.coordinator_id = stranger  # as after a coordinator's move that nobody has noticed
    assert await consumer.committed([TopicPartition(*tp)]) == {TopicPartition(*tp): Committed(3, "three")}
    await consumer.stop()


async def test_a_broker_without_room_halts_and_comes_back_when_there_is_room(
    cluster: EmbeddedCluster, view: ClusterView
) -> None:
    leaders = await view.leaderships()
    node = cluster.node(max(leaders, key=lambda number: leaders[number]))
    node.fill_disk()
    await send(cluster, bytes(200_000))
    await eventually(lambda: not node.running, timeout_s=60, what="the broker's halt")
    node.free_disk()
    node.start()
    node.wait_ready(brokers=3)
    await eventually(lambda: in_sync(view), timeout_s=30, what="all replicas", interval_s=0.2)
    assert bytes(200_000) in await held(cluster)
