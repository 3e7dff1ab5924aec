"""Writes record batches that no producer of Regather would write: header names that are no UTF-8, any codec."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from regather.transport.base import TopicPartition

_NOT_LEADER = 6
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


class RawName:
    """The name of a header as bytes; the batch builder takes it for a text."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def encode(self, _encoding: str) -> bytes:
        """Return the name as it stands."""
        return self._name


async def write_batch(
    servers: str,
    tp: TopicPartition,
    values: Sequence[bytes],
    *,
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    codec: str = "none",
) -> None:
    """Write one batch; each of its records has the headers."""
    builder: Any = _DefaultRecordBatchBuilderPy(2, CODECS[codec], 0, -1, -1, -1, 16 * 1024 * 1024)
    for offset, value in enumerate(values):
        named = [(RawName(name), content) for name, content in headers]
        assert builder.append(offset, None, None, value, named) is not None
    client = AIOKafkaClient(bootstrap_servers=servers)
    await client.bootstrap()
    try:
        await client._wait_on_metadata(tp.topic)
        request = ProduceRequest(None, -1, 10_000, [(tp.topic, [(tp.partition, bytes(builder.build()))])])
        error = _NOT_LEADER
        async with asyncio.timeout(10):
            while error == _NOT_LEADER:  # a broker says so for a moment of a topic that is new
                answer: Any = await client.send(client.cluster.leader_for_partition(tp), request)
                ((_, ((_, error, *_),)),) = answer.topics
                if error == _NOT_LEADER:
                    await client.force_metadata_update()
        assert error == 0, f"the broker answered with error {error}"
    finally:
        await client.close()
