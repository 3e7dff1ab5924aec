"""Reads dead letters with a plain consumer of their topic, without any Regather service."""

import time
from dataclasses import dataclass

from regather.core.model import AttemptError
from regather.topics.layout import Topics
from regather.transport.base import Consumer, Record, TopicPartition
from regather.transport.kafka import KafkaTransport
from regather.wire.identity import header_map
from regather.wire.shards import decode_shard

_READ_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A shard that failed for good, or one bad `row` of it: payload, reason, all attempts, and the record's address."""

    seq: int
    payload: bytes
    reason: str
    attempts: tuple[AttemptError, ...]
    address: str
    row: int | None = None

    def describe(self) -> str:
        """Return a description of a few lines, for people."""
        what = f"shard {self.seq}" if self.row is None else f"row {self.row} of shard {self.seq}"
        head = f"dead letter {self.address}: {what}, {len(self.payload)} bytes, {self.reason}"
        return "\n".join([head, *map(_describe_attempt, self.attempts)])


def _describe_attempt(error: AttemptError) -> str:
    message = error.error.partition("\n")[0]
    took = f"{error.reason.value} after {error.duration_ms} ms"
    return f"  attempt {error.attempt + 1}: {took} on {error.worker}: {message}"


async def read_dead_letters(bootstrap_servers: str, topics: Topics, job_id: str) -> list[DeadLetter]:
    """Return all dead letters of a job, sorted by shard and row; raises BrokerUnavailable, TimeoutError."""
    transport = KafkaTransport(bootstrap_servers, client_id="regather-letters")
    try:
        counts = await transport.partition_counts([topics.dead_letters])
        partitions = [TopicPartition(topics.dead_letters, number) for number in range(counts[topics.dead_letters])]
        consumer = transport.consumer()
        await consumer.start()
        try:
            records = await _read_all(consumer, partitions)
        finally:
            await consumer.stop()
    finally:
        await transport.close()
    letters = [_letter(record) for record in records if record.key == job_id.encode()]
    return sorted(letters, key=lambda letter: (letter.seq, letter.row or 0))


async def _read_all(consumer: Consumer, partitions: list[TopicPartition]) -> list[Record]:
    consumer.assign(partitions)
    for partition, first in (await consumer.beginning_offsets(partitions)).items():
        consumer.seek(partition, first)
    ends = await consumer.end_offsets(partitions)
    deadline = time.monotonic() + _READ_TIMEOUT_S
    records: list[Record] = []
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the dead letters could not be read within {_READ_TIMEOUT_S:g} s")
        for batch in (await consumer.poll(0.2)).values():
            records += batch
    return records


def _letter(record: Record) -> DeadLetter:
    shard = decode_shard(record.headers, record.value)
    by_name = header_map(record.headers)
    reason, row = (by_name.get("reason") or b"").decode("utf-8", "replace"), by_name.get("row")
    address = f"{record.topic}/{record.partition}/{record.offset}"
    return DeadLetter(shard.seq, shard.payload, reason, shard.history, address, int(row) if row else None)
