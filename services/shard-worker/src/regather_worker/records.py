"""Encodes the decisions of core.settlement as the records that a worker publishes: topic, key, headers and value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from regather.core.grouping import groups
from regather.core.ids import event_partition
from regather.core.model import Event, Identity, Outcome, Outcomes, Reason
from regather.core.settlement import DeadLetter, Retried
from regather.topics.layout import Topics
from regather.transport.base import Record
from regather.wire.events import encode_event
from regather.wire.shards import dead_letter_headers, released_record, shard_headers
from regather_worker.outbox import OutRecord

_EVENT_BYTES = 8 * 1024 * 1024
"""Outcomes of a micro-batch share an event record up to this size; a larger outcome has a record to itself."""


@dataclass(frozen=True, slots=True)
class RecordMaker:
    """Makes the records of one worker; `event_partitions` is the partition count of job-events."""

    topics: Topics
    event_partitions: int
    worker: str

    def event(self, event: Event, owner: Identity) -> OutRecord:
        """Return the record of an event, for the one partition that holds all events of its job."""
        headers, value = encode_event(event)
        partition = event_partition(owner.job_id, self.event_partitions)
        return OutRecord(self.topics.job_events, value, owner.job_id.encode(), headers, partition)

    def outcomes(self, owner: Identity, outcomes: Sequence[Outcome]) -> Iterator[OutRecord]:
        """Return the events with the outcomes of one job's shards, as many outcomes in each as fit."""
        for part in groups(outcomes, lambda outcome: outcome.size_bytes, _EVENT_BYTES):
            yield self.event(Outcomes(owner, self.worker, part), owner)

    def retry(self, retried: Retried) -> Iterator[OutRecord]:
        """Return the next attempt, without a key so that any worker may get it, and the event that this one failed."""
        again = retried.next_attempt
        headers, value = released_record(again) if again.source else (shard_headers(again), again.payload)
        yield OutRecord(self.topics.shards_retry, value, None, headers)
        yield self.event(retried.event, again.owner)

    def dead_letter(self, letter: DeadLetter, record: Record) -> OutRecord:
        """Return the dead letter of a shard that was read from `record`."""
        headers = dead_letter_headers(
            letter.shard,
            letter.failure,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            worker=self.worker,
            row=letter.row,
        )
        return OutRecord(self.topics.dead_letters, letter.shard.payload, letter.shard.owner.job_id.encode(), headers)

    def unreadable(self, record: Record, error: str) -> OutRecord:
        """Return the dead letter of a record that cannot be decoded: its own headers and value, and the error."""
        headers = [
            *record.headers,
            ("reason", Reason.UNREADABLE.value.encode()),
            ("error", error.encode()),
            ("worker", self.worker.encode()),
            ("kafka_dlt-original-topic", record.topic.encode()),
            ("kafka_dlt-original-partition", str(record.partition).encode()),
            ("kafka_dlt-original-offset", str(record.offset).encode()),
        ]
        return OutRecord(self.topics.dead_letters, record.value or b"", record.key or b"unreadable", headers)
