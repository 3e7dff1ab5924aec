"""What stands in the logs, kept up as it is written: the checker's own account, by nothing but identities and offsets."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from regather.core.errors import WireError
from regather.core.model import AttemptFailed, Cancel, Event, Identity, JobId, Opened, Outcomes, Parked
from regather.core.status import JobStatus
from regather.core.wire.control import decode_ended
from regather.core.wire.documents import decode_final, decode_status
from regather.core.wire.events import decode_event
from regather.core.wire.shards import decode_shard
from regather.transport.base import Record, TopicPartition
from regather.transport.memory.log import Transaction, TransactionState
from regather.transport.topics import Topics


@dataclass(frozen=True, slots=True)
class Final:
    """A final that a read_committed reader can see, and since when."""

    record: Record
    status: JobStatus
    seen_s: float


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One record of job-events. `log_ms` is the highest append time up to it."""

    partition: int
    offset: int
    log_ms: int
    event: Event


@dataclass(frozen=True, slots=True)
class LoggedShard:
    """One record of a shard topic; None where it cannot be read."""

    owner: Identity | None
    seq: int = 0
    attempt: int = 0
    payload: bytes = b""
    released: bool = False
    chained: bool = False


@dataclass
class Ledger:
    """Everything by what it is about. `finals` and `ended` hold only what is visible."""

    topics: Topics
    now_s: Callable[[], float]
    shards: dict[TopicPartition, dict[int, LoggedShard]] = field(default_factory=lambda: defaultdict(dict))
    payloads: dict[tuple[Identity, int], bytes] = field(default_factory=dict)
    outcomes: set[tuple[Identity, int]] = field(default_factory=set)
    retries: set[tuple[Identity, int, int]] = field(default_factory=set)
    parked: set[tuple[Identity, int]] = field(default_factory=set)
    ended: set[Identity] = field(default_factory=set)
    letters: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    """Dead letters by the original topic, partition and offset."""
    events: dict[int, list[LoggedEvent]] = field(default_factory=lambda: defaultdict(list))
    opened: dict[JobId, list[LoggedEvent]] = field(default_factory=lambda: defaultdict(list))
    first_opened: dict[int, list[LoggedEvent]] = field(default_factory=lambda: defaultdict(list))
    """Of each partition, the records that created a job."""
    cancelled: set[Identity] = field(default_factory=set)
    attempts_failed: list[AttemptFailed] = field(default_factory=list)
    finals: dict[tuple[JobId, int], list[Final]] = field(default_factory=lambda: defaultdict(list))
    last_status: dict[JobId, dict[bytes | None, tuple[int, JobStatus]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """What compaction leaves of job-status: of each job the last record with each key, and its offset."""
    unreadable: list[str] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)
    """Statuses that told of more than there was."""
    _hidden: dict[tuple[Transaction, TopicPartition], list[Record]] = field(default_factory=lambda: defaultdict(list))

    def appended(self, record: Record, transaction: Transaction | None) -> None:
        """A record was written; what belongs to a transaction counts when that is committed."""
        if transaction is not None:
            self._hidden[transaction, TopicPartition(record.topic, record.partition)].append(record)
        else:
            self._take(record)

    def marked(self, tp: TopicPartition, transaction: Transaction, state: TransactionState) -> None:
        """A transaction ended in this partition."""
        records = self._hidden.pop((transaction, tp), [])
        if state is TransactionState.COMMITTED:
            for record in records:
                self._take(record)

    def _take(self, record: Record) -> None:
        topics, topic = self.topics, record.topic
        try:
            if topic == topics.job_events:
                self._take_event(record)
            elif topic in (topics.shards_small, topics.shards_bulk, topics.shards_retry):
                self._take_shard(record)
            elif topic == topics.results:
                status = decode_final(record.headers)
                key = (status.owner.job_id, status.owner.version)
                self.finals[key].append(Final(record, status, self.now_s()))
            elif topic == topics.job_status:
                status, _ = decode_status(record.headers, record.value)
                self._check_frontier(status)
                kept = self.last_status[status.owner.job_id]
                kept[record.key] = max(
                    kept.get(record.key, (-1, status)), (record.offset, status), key=lambda at: at[0]
                )
            elif topic == topics.control:
                self.ended.add(decode_ended(record.headers, record.value))
            elif topic == topics.dead_letters:
                headers = dict(record.headers)
                self.letters[
                    headers["kafka_dlt-original-topic"].decode(),
                    int(headers["kafka_dlt-original-partition"]),
                    int(headers["kafka_dlt-original-offset"]),
                ] += 1
        except WireError as error:
            self.unreadable.append(f"{topic}-{record.partition}@{record.offset}: {error}")

    def _check_frontier(self, status: JobStatus) -> None:
        """No status names more shards without a gap than have an outcome by now."""
        missing = next((seq for seq in range(status.frontier) if (status.owner, seq) not in self.outcomes), None)
        if missing is not None:
            self.ahead.append(
                f"{status.label} {status.owner} has the frontier {status.frontier} without shard {missing}"
            )

    def _take_event(self, record: Record) -> None:
        event = decode_event(record.headers, record.value)
        events = self.events[record.partition]
        log_ms = max(record.timestamp_ms, events[-1].log_ms if events else 0)
        entry = LoggedEvent(record.partition, record.offset, log_ms, event)
        events.append(entry)
        if isinstance(event, Outcomes):
            self.outcomes.update((event.owner, outcome.seq) for outcome in event.outcomes)
        elif isinstance(event, Opened):
            if event.owner.job_id not in self.opened:
                self.first_opened[record.partition].append(entry)
            self.opened[event.owner.job_id].append(entry)
        elif isinstance(event, Parked):
            self.parked.add((event.owner, event.seq))
        elif isinstance(event, Cancel):
            self.cancelled.add(event.owner)
        elif isinstance(event, AttemptFailed):
            self.attempts_failed.append(event)

    def _take_shard(self, record: Record) -> None:
        place = self.shards[TopicPartition(record.topic, record.partition)]
        place[record.offset] = LoggedShard(None)
        shard = decode_shard(record.headers, record.value)
        place[record.offset] = LoggedShard(
            shard.owner, shard.seq, shard.attempt, shard.payload, shard.source is not None, shard.chained
        )
        if shard.source is None:
            self.payloads[shard.owner, shard.seq] = shard.payload
        if record.topic == self.topics.shards_retry and shard.attempt:
            self.retries.add((shard.owner, shard.seq, shard.attempt))

    def shown(self, job_id: JobId) -> JobStatus | None:
        """What a gateway shows of a job that starts when everything was compacted.

        A gateway's word that it accepted a submission counts only if that was opened: else it has no end, and whoever
        repeats the submission after two minutes begins anew.
        """
        opened = {entry.event.owner for entry in self.opened.get(job_id, ())}
        kept = [status for _, status in self.last_status[job_id].values() if status.owner in opened]
        return max(kept, key=lambda status: status.precedence, default=None)

    def settled(self, tp: TopicPartition, offset: int) -> bool:
        """Whether the record at this place needs nobody any more: what it came to stands in a log."""
        shard = self.shards[tp].get(offset)
        if shard is None:
            return True  # a marker, or a record of a transaction that was aborted
        if shard.owner is None:
            return self.letters[tp.topic, tp.partition, offset] > 0
        if shard.owner in self.ended or (shard.owner, shard.seq) in self.outcomes:
            return True
        if (shard.owner, shard.seq, shard.attempt + 1) in self.retries:
            return True
        return shard.chained and not shard.released and shard.seq > 0 and (shard.owner, shard.seq) in self.parked
