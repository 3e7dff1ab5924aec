"""The broker in memory: topics, transactional ids with epochs, groups, and faults that tests inject."""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from regather.core.errors import BrokerUnavailable, Fenced, ProducerDead
from regather.topics.rules import UNCLEAN_ELECTION, VERIFICATION, TopicSpec, TopicState
from regather.transport.base import Headers, Record, TopicPartition
from regather.transport.memory.groups import Group
from regather.transport.memory.log import PartitionLog, Transaction, TransactionState
from regather.transport.memory.topic_logs import TopicLogs


@dataclass(slots=True)
class Faults:
    """Faults to inject. With `unavailable`, no call succeeds. The numbers say how many of the next calls fail.

    `fail_sends`: the record is not written and its ack fails. `lose_acks`: the record is written and its ack fails.
    `fail_commits`: the transaction is not committed and the commit raises. `withholds_ack`: the ack of a record for
    which it returns True never comes, though the record is written.
    """

    unavailable: bool = False
    fail_sends: int = 0
    lose_acks: int = 0
    fail_commits: int = 0
    withholds_ack: Callable[[Record], bool] = lambda _record: False


@dataclass(slots=True, eq=False)
class ProducerEpoch:
    """The state of a transactional id, as seen by one producer."""

    transactional_id: str
    epoch: int
    transaction: Transaction | None = None
    touched: set[TopicPartition] = field(default_factory=set)


class MemoryBroker:
    """The broker's state. All its clients must run in one event loop. `now_ms` is its clock."""

    def __init__(self, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.faults = Faults()
        self.settings = {VERIFICATION: "true", UNCLEAN_ELECTION: "false", "auto.create.topics.enable": "false"}
        self._now_ms = now_ms
        spread = itertools.count()
        self._topics = TopicLogs(lambda count: next(spread) % count)
        self._groups: dict[str, Group] = {}
        self._epochs: dict[str, ProducerEpoch] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def create(self, spec: TopicSpec) -> bool:
        """Create a topic; return False if it exists."""
        return self._topics.create(spec)

    def grow(self, topic: str, partitions: int) -> None:
        """Add empty partitions; raise TransportError for a topic that is missing or has as many already."""
        self._topics.grow(topic, partitions)

    def topic_states(self) -> Mapping[str, TopicState]:
        """Return every topic, with the settings that it was created with."""
        counts, specs = self._topics.counts(), self._topics.specs
        return {name: TopicState([[1]] * count, specs[name].config) for name, count in counts.items()}

    def partition_counts(self) -> Mapping[str, int]:
        """Return the number of partitions of every topic."""
        return self._topics.counts()

    def log(self, tp: TopicPartition) -> PartitionLog:
        """Return one partition's log; raise BrokerUnavailable if it is missing, as a client does after a time-out."""
        return self._topics.log(tp)

    def delete_records(self, tp: TopicPartition, before_offset: int) -> None:
        """Truncate a partition from its beginning, as retention does."""
        self.log(tp).delete_before(before_offset)

    def group(self, name: str) -> Group:
        """Return a consumer group; create it at the first call."""
        return self._groups.setdefault(name, Group())

    def check_available(self) -> None:
        """Raise BrokerUnavailable while this fault is on."""
        if self.faults.unavailable:
            raise BrokerUnavailable("no broker answers (injected)")

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int | None,
        epoch: ProducerEpoch | None,
    ) -> Record:
        """Write one record; raise RecordTooLarge, Fenced, BrokerUnavailable or ProducerDead if that fails."""
        self.check_available()
        tp = self._topics.place(topic, key, partition)
        too_large = self._topics.too_large(topic, value)
        if too_large is not None:
            raise too_large
        if self.faults.fail_sends:
            self.faults.fail_sends -= 1
            raise ProducerDead("the record was not written (injected)")
        if epoch is not None:
            self.check_epoch(epoch)
            epoch.touched.add(tp)
        transaction = epoch.transaction if epoch is not None else None
        record = self.log(tp).append(key, value, headers, self._now_ms(), transaction)
        self.notify()
        if self.faults.lose_acks:
            self.faults.lose_acks -= 1
            raise ProducerDead("the ack was lost (injected)")
        return record

    def init_producer(self, transactional_id: str) -> ProducerEpoch:
        """Fence older producers of this id and abort their open transaction."""
        self.check_available()
        old = self._epochs.get(transactional_id)
        if old is not None:
            self._end(old, TransactionState.ABORTED)
        fresh = ProducerEpoch(transactional_id, old.epoch + 1 if old else 0)
        self._epochs[transactional_id] = fresh
        return fresh

    def check_epoch(self, epoch: ProducerEpoch) -> None:
        """Raise Fenced if a newer producer of this id took over."""
        if self._epochs[epoch.transactional_id] is not epoch:
            raise Fenced(f"a newer producer of {epoch.transactional_id} took over")

    def end_transaction(self, epoch: ProducerEpoch, state: TransactionState) -> None:
        """Commit or abort the transaction; raise Fenced for an old epoch."""
        self.check_available()
        self.check_epoch(epoch)
        if state is TransactionState.COMMITTED and self.faults.fail_commits:
            self.faults.fail_commits -= 1
            raise ProducerDead("the commit was not carried out (injected)")
        self._end(epoch, state)

    def notify(self) -> None:
        """Wake every waiter of changed()."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self, timeout_s: float) -> None:
        """Wait until notify() is called, at most `timeout_s`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        await asyncio.wait([future], timeout=timeout_s)
        self._waiting.discard(future)

    def _end(self, epoch: ProducerEpoch, state: TransactionState) -> None:
        transaction = epoch.transaction
        if transaction is None:
            return
        transaction.state = state
        epoch.transaction = None
        for tp in sorted(epoch.touched):
            self.log(tp).append_marker(transaction, state)
        epoch.touched = set()
        self.notify()
