"""The records that a worker publishes: what core.settlement decided, as bytes with a topic, a key and headers."""

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
"""Outcomes of a micro-batch share an event record up to this size."""


@dataclass(frozen=True, slots=True)
class RecordMaker:
    """Makes the records of one worker; `event_partitions` is how many partitions the topic of events has."""

    topics: Topics
    event_partitions: int
    worker: str

    def event(self, event: Event, owner: Identity) -> OutRecord:
        """An event of a job, for the partition that all events of the job go to."""
        headers, value = encode_event(event)
        partition = event_partition(owner.job_id, self.event_partitions)
        return OutRecord(self.topics.job_events, value, owner.job_id.encode(), headers, partition)

    def outcomes(self, owner: Identity, outcomes: Sequence[Outcome]) -> Iterator[OutRecord]:
        """The outcomes of one job's shards, as many in a record as fit."""
        for part in groups(outcomes, lambda outcome: len(outcome.output) + len(outcome.carry), _EVENT_BYTES):
            yield self.event(Outcomes(owner, self.worker, part), owner)

    def retry(self, retried: Retried) -> Iterator[OutRecord]:
        """The next attempt, which any worker may have (no key), and the event that this one failed."""
        again = retried.next_attempt
        headers, value = released_record(again) if again.source else (shard_headers(again), again.payload)
        yield OutRecord(self.topics.shards_retry, value, None, headers)
        yield self.event(retried.event, again.owner)

    def dead_letter(self, letter: DeadLetter, record: Record) -> OutRecord:
        """The dead letter of a shard that came with `record`."""
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
        """The dead letter of a record that cannot be decoded: the record as it is."""
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
