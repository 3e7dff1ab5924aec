"""Producers and consumers of the broker in memory."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence

from regather.core.errors import (
    BrokerUnavailable,
    CommitRejected,
    OffsetOutOfRange,
    ProducerDead,
    RecordTooLarge,
    TransportError,
)
from regather.transport.base import (
    Committed,
    Headers,
    RebalanceListener,
    Record,
    RecordAddress,
    TopicPartition,
)
from regather.transport.memory.broker import MemoryBroker, ProducerEpoch
from regather.transport.memory.groups import Group, Member
from regather.transport.memory.log import PartitionLog, Transaction, TransactionState


class MemoryProducer:
    """An idempotent producer. Any failed record makes it dead."""

    def __init__(self, broker: MemoryBroker, max_record_bytes: int) -> None:
        self._broker = broker
        self._max_record_bytes = max_record_bytes
        self._started = False
        self._dead = False
        self._severed = False
        self._epoch: ProducerEpoch | None = None

    @property
    def dead(self) -> bool:
        """True after any failed record or fencing, and after stop()."""
        return self._dead

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""
        _check_unsevered(self._severed)
        self._broker.check_available()
        self._started = True

    async def stop(self) -> None:
        """Disconnect."""
        self._dead = True

    def sever(self) -> None:
        """Cut the client off: from now on, none of its calls reaches the broker."""
        self._severed = self._dead = True

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Awaitable[RecordAddress]:
        """Write one record. The awaitable raises the broker's errors, this call those of the client itself."""
        self._check_alive()
        if value is not None and len(value) > self._max_record_bytes:
            self._dead = True
            raise RecordTooLarge(f"{len(value)} bytes for {topic}; this producer accepts {self._max_record_bytes}")
        acked: asyncio.Future[RecordAddress] = asyncio.get_running_loop().create_future()
        try:
            record = self._broker.append(topic, key, value, headers, partition, self._epoch)
        except TransportError as error:
            self._dead = True
            acked.set_exception(error)
            acked.exception()  # mark it as retrieved, so that a caller need not await the ack
        else:
            if self._broker.faults.withholds_ack(record):
                return acked
            acked.set_result(RecordAddress(topic, record.partition, record.offset, record.timestamp_ms))
        self._remember(acked)
        return acked

    def _remember(self, acked: "asyncio.Future[RecordAddress]") -> None:
        return

    def _check_alive(self) -> None:
        if not self._started or self._dead:
            raise ProducerDead("this producer was not started, was stopped, or failed earlier; make a new one")


class MemoryTransactionalProducer(MemoryProducer):
    """A fencing producer."""

    def __init__(self, broker: MemoryBroker, transactional_id: str, max_record_bytes: int) -> None:
        super().__init__(broker, max_record_bytes)
        self._transactional_id = transactional_id
        self._transaction: list[asyncio.Future[RecordAddress]] = []

    async def start(self) -> None:
        """Fence older producers of this id."""
        _check_unsevered(self._severed)
        self._epoch = self._broker.init_producer(self._transactional_id)
        await super().start()

    async def begin(self) -> None:
        """Begin a transaction."""
        self._check_alive()
        assert self._epoch is not None
        if self._epoch.transaction is not None:
            self._dead = True
            raise ProducerDead("a transaction is open already")
        self._transaction = []
        self._epoch.transaction = Transaction()

    async def commit(self) -> None:
        """Await every record, then commit."""
        for acked in self._transaction:
            await acked
        self._end()

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Awaitable[RecordAddress]:
        """Write one record into the open transaction."""
        self._check_alive()
        if self._epoch is None or self._epoch.transaction is None:
            self._dead = True
            raise ProducerDead("no transaction is open")
        return await super().send(topic, value=value, key=key, headers=headers, partition=partition)

    def _end(self) -> None:
        self._check_alive()
        assert self._epoch is not None
        if self._epoch.transaction is None:
            self._dead = True
            raise ProducerDead("no transaction is open")
        try:
            self._broker.end_transaction(self._epoch, TransactionState.COMMITTED)
        except TransportError as error:
            self._dead = True
            if isinstance(error, ProducerDead):
                raise
            raise ProducerDead(f"the transaction's state is unknown: {error}") from error

    def _remember(self, acked: "asyncio.Future[RecordAddress]") -> None:
        self._transaction.append(acked)


class MemoryConsumer:
    """Reads committed records, as a member of a group or of manually assigned partitions."""

    def __init__(self, broker: MemoryBroker, group: Group | None) -> None:
        self._broker = broker
        self._group = group
        self._member: Member | None = None
        self._listener: RebalanceListener | None = None
        self._listener_error: BaseException | None = None
        self._seen_generation = 0
        self._assigned: tuple[TopicPartition, ...] = ()
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._started = False
        self._severed = False

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""
        _check_unsevered(self._severed)
        self._broker.check_available()
        self._started = True

    async def stop(self) -> None:
        """Call the listener, then leave the group."""
        if not self._started:
            return
        if self._member is not None and self._group is not None:
            await self._give_up()
            self._group.leave(self._member)
            self._group.balance(self._broker.partition_counts())
            self._broker.notify()
        self._started = False

    def sever(self) -> None:
        """Cut the client off: from now on, none of its calls reaches the broker. Its group rebalances without it."""
        self._severed, self._started = True, False
        if self._member is not None:
            self.expire()
        self._broker.notify()

    def expire(self) -> None:
        """Drop this member from its group, as a broker does after a missed heartbeat. It rejoins when it polls."""
        assert self._member is not None
        assert self._group is not None
        self._group.leave(self._member)
        self._group.balance(self._broker.partition_counts())
        self._broker.notify()

    def subscribe(self, topics: Iterable[str], listener: RebalanceListener) -> None:
        """Join the group for these topics."""
        assert self._group is not None, "a consumer without a group cannot subscribe"
        self._listener = listener
        self._member = Member(tuple(topics))
        self._join()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions without a group. A partition that stays assigned keeps its position."""
        self._assigned = tuple(partitions)
        self._positions = {tp: at for tp, at in self._positions.items() if tp in self._assigned}

    @property
    def generation(self) -> int | None:
        """The generation of the latest assignment; None before the first."""
        return self._seen_generation or None

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Mapping[TopicPartition, list[Record]]:
        """Take part in rebalances, then return the next records."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while True:
            await asyncio.sleep(0)  # as with a real client, other tasks run while one polls
            self._check_started()
            await self._rebalance()
            if self._listener_error is not None:
                raise TransportError("the rebalance listener failed") from self._listener_error
            found = self._fetch(max_records)
            left_s = end_s - loop.time()
            if found or left_s <= 0:
                return found
            await self._broker.changed(left_s)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop delivering records of these partitions. A rebalance forgets pauses."""
        self._paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver records of these partitions again."""
        self._paused -= set(partitions)
        self._broker.notify()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """The next record of this partition is the first at or above `offset`."""
        if partition not in self._assigned:
            raise CommitRejected(f"{partition} is not assigned")
        self._positions[partition] = offset
        self._broker.notify()

    async def position(self, partition: TopicPartition) -> int:
        """The next offset to be delivered; control records and aborted ones before it count as delivered."""
        self._check_started()
        return self._position(partition)

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit these offsets with their metadata."""
        self._check_started()
        self._broker.check_available()
        if self._group is None or self._member is None:
            raise CommitRejected("this consumer is in no group")
        self._group.commit(self._member, offsets)

    async def committed(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Committed | None]:
        """Return the group's committed offsets with their metadata."""
        self._check_started()
        self._broker.check_available()
        found = self._group.committed if self._group is not None else {}
        return {tp: found.get(tp) for tp in partitions}

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that is still in the log."""
        return {tp: self._log(tp).beginning for tp in partitions}

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the last stable offset."""
        return {tp: self._log(tp).last_stable for tp in partitions}

    async def written_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the next offset to be written."""
        return {tp: self._log(tp).end for tp in partitions}

    def _fetch(self, max_records: int | None) -> dict[TopicPartition, list[Record]]:
        self._broker.check_available()
        found: dict[TopicPartition, list[Record]] = {}
        for tp in self._assigned:
            if tp in self._paused or (max_records is not None and max_records <= 0):
                continue
            try:
                records, self._positions[tp] = self._broker.log(tp).read(self._position(tp), max_records)
            except OffsetOutOfRange:
                if found:  # deliver these records; the next poll raises the error again
                    return found
                raise
            if records:
                found[tp] = records
                max_records = None if max_records is None else max_records - len(records)
        return found

    def _position(self, tp: TopicPartition) -> int:
        if tp not in self._positions:
            committed = self._group.committed.get(tp) if self._group is not None else None
            self._positions[tp] = committed.offset if committed else self._broker.log(tp).beginning
        return self._positions[tp]

    async def _rebalance(self) -> None:
        group, member = self._group, self._member
        if group is None or member is None:
            return
        if member not in group.members:  # it expired: give up all partitions and join again
            await self._give_up()
            self._join()
        if group.must_rejoin(member):
            await self._give_up()
            group.rejoin(member)
        group.balance(self._broker.partition_counts())
        if member.rejoined and group.balanced and member.generation != self._seen_generation:
            self._seen_generation = member.generation
            self._assigned = member.assignment
            self._positions, self._paused = {}, set()
            self._broker.notify()
            await self._tell("on_assigned", self._assigned)

    def _join(self) -> None:
        _check_unsevered(self._severed)
        assert self._group is not None
        assert self._member is not None
        self._group.join(self._member)
        self._broker.notify()

    async def _give_up(self) -> None:
        taken, had = self._assigned, self._seen_generation > 0
        if had:
            await self._tell("on_revoked", taken)
        self._assigned = ()
        self._positions = {}

    async def _tell(self, method: str, partitions: Sequence[TopicPartition]) -> None:
        try:
            await getattr(self._listener, method)(partitions)
        except Exception as error:  # raised again by poll()
            self._listener_error = error

    def _log(self, tp: TopicPartition) -> PartitionLog:
        self._broker.check_available()
        return self._broker.log(tp)

    def _check_started(self) -> None:
        if not self._started:
            raise BrokerUnavailable("this consumer was not started, or was stopped")


def _check_unsevered(severed: bool) -> None:
    if severed:
        raise BrokerUnavailable("this client was cut off (injected)")
