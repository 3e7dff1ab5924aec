"""What stands in the logs, kept up as it is written: the checker's own account, by nothing but identities and offsets."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from regather.core.errors import WireError
from regather.core.model import AttemptFailed, Event, Identity, JobId, Opened, Outcomes, Parked, Redriven, Tick
from regather.core.status import JobStatus
from regather.topics.layout import Topics
from regather.transport.base import Record, TopicPartition
from regather.transport.memory.log import Transaction, TransactionState
from regather.wire.checkpoints import decode_checkpoint
from regather.wire.control import decode_ended
from regather.wire.documents import decode_final, decode_status
from regather.wire.events import decode_event
from regather.wire.identity import required, required_text
from regather.wire.shards import decode_shard

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Final:
    """A final that a read_committed reader can see, and since when."""

    record: Record
    status: JobStatus
    seen_s: float


@dataclass(frozen=True, slots=True)
class LoggedEvent(Generic[E]):
    """One record of job-events. `log_ms` is the highest append time up to it."""

    partition: int
    offset: int
    log_ms: int
    event: E


def label_of(event: Opened | Redriven) -> str:
    """The label of a record that wanted to begin a job, or one more version of it."""
    return event.label if isinstance(event, Opened) else event.opened.label


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
    """Everything by what it is about. Of what is written in transactions there is only what can be seen."""

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
    events: dict[int, list[LoggedEvent[Event]]] = field(default_factory=lambda: defaultdict(list))
    opened: dict[JobId, list[LoggedEvent[Opened | Redriven]]] = field(default_factory=lambda: defaultdict(list))
    """Of each job the records that wanted to begin it, or one more version of it."""
    first_opened: dict[int, list[LoggedEvent[Opened | Redriven]]] = field(default_factory=lambda: defaultdict(list))
    """Of each partition, the records that created a job."""
    attempts_failed: list[AttemptFailed] = field(default_factory=list)
    finals: dict[tuple[JobId, int], list[Final]] = field(default_factory=lambda: defaultdict(list))
    saved_to: dict[Identity, int] = field(default_factory=dict)
    """Of each version the offset of job-events below which all of it is in a whole checkpoint."""
    last_status: dict[JobId, dict[bytes | None, tuple[int, JobStatus]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """What compaction leaves of job-status: of each job the last record with each key, and its offset."""
    unreadable: list[str] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)
    """Statuses that told of more than there was."""
    _settled: set[tuple[JobId, str, int]] = field(default_factory=set)
    _hidden: dict[tuple[Transaction, TopicPartition], list[Record]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        topics = self.topics
        self._takers = {
            topics.job_events: self._take_event,
            topics.shards_small: self._take_shard,
            topics.shards_bulk: self._take_shard,
            topics.shards_retry: self._take_shard,
            topics.results: self._take_final,
            topics.checkpoints: self._take_checkpoint,
            topics.job_status: self._take_status,
            topics.control: self._take_control,
            topics.dead_letters: self._take_letter,
        }

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
        taker = self._takers.get(record.topic)
        if taker is None:
            return
        try:
            taker(record)
        except WireError as error:
            self.unreadable.append(f"{record.topic}-{record.partition}@{record.offset}: {error}")

    def _take_final(self, record: Record) -> None:
        status = decode_final(record.headers)
        key = (status.owner.job_id, status.owner.version)
        self.finals[key].append(Final(record, status, self.now_s()))

    def _take_checkpoint(self, record: Record) -> None:
        found = decode_checkpoint(record.headers, record.value)
        if found is None:
            return
        event, mark = found
        assert not isinstance(event, Tick)
        if mark.next_offset is not None:
            owner = event.owner
            self.saved_to[owner] = max(mark.next_offset, self.saved_to.get(owner, 0))

    def _take_status(self, record: Record) -> None:
        status, _ = decode_status(record.headers, record.value)
        self._check_frontier(status)
        kept = self.last_status[status.owner.job_id]
        kept[record.key] = max(kept.get(record.key, (-1, status)), (record.offset, status), key=lambda at: at[0])

    def _take_control(self, record: Record) -> None:
        self.ended.add(decode_ended(record.headers, record.value))

    def _take_letter(self, record: Record) -> None:
        headers = dict(record.headers)
        partition, offset = (int(required(headers, f"kafka_dlt-original-{name}")) for name in ("partition", "offset"))
        self.letters[required_text(headers, "kafka_dlt-original-topic"), partition, offset] += 1

    def _check_frontier(self, status: JobStatus) -> None:
        """No status names more shards without a gap than have an outcome by now."""
        job_id, submission, _ = status.owner
        missing = next((seq for seq in range(status.frontier) if (job_id, submission, seq) not in self._settled), None)
        if missing is not None:
            self.ahead.append(
                f"{status.label} {status.owner} has the frontier {status.frontier} without shard {missing}"
            )

    def _take_event(self, record: Record) -> None:
        event = decode_event(record.headers, record.value)
        events = self.events[record.partition]
        log_ms = max(record.timestamp_ms, events[-1].log_ms if events else 0)
        events.append(LoggedEvent(record.partition, record.offset, log_ms, event))
        if isinstance(event, Outcomes):
            self.outcomes.update((event.owner, outcome.seq) for outcome in event.outcomes)
            job_id, submission, _ = event.owner
            self._settled.update((job_id, submission, outcome.seq) for outcome in event.outcomes)
        elif isinstance(event, Opened | Redriven):
            entry: LoggedEvent[Opened | Redriven] = LoggedEvent(record.partition, record.offset, log_ms, event)
            if event.owner.job_id not in self.opened:
                self.first_opened[record.partition].append(entry)
            self.opened[event.owner.job_id].append(entry)
        elif isinstance(event, Parked):
            self.parked.add((event.owner, event.seq))
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
