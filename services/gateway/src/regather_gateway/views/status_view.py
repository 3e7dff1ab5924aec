"""The gateway's view of all jobs: reads job-status from the beginning, without a consumer group, and wakes waiters."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from regather.core.errors import BrokerUnavailable, OffsetOutOfRange, TransportError, WireError
from regather.core.ids import event_partition
from regather.core.model import Identity, JobId
from regather.core.status import JobStatus
from regather.core.wire.documents import decode_status
from regather.runtime.logs import get_logger
from regather.transport.base import Consumer, Record, TopicPartition, Transport
from regather_gateway.views.job_table import JobTable, StatusAddress

log = get_logger()
_POLL_S = 0.2
_RETRY_S = 1.0
_BARRIER_S = 1.0


@dataclass(slots=True)
class _Waiter:
    enough: Callable[[JobStatus | None], bool]
    woken: "asyncio.Future[None]"


@dataclass(slots=True)
class _Position:
    """Read position of one partition; `reached` also passes transaction markers, which are never delivered."""

    reached: int = 0
    barriers: "list[tuple[int, asyncio.Future[None]]]" = field(default_factory=list)


class StatusView:
    """Follows one topic for the life of the process; replaces a failed consumer and goes on at the same offsets."""

    def __init__(self, transport: Transport, topic: str, table: JobTable) -> None:
        self.table = table
        self._transport = transport
        self._topic = topic
        self._consumer: Consumer | None = None
        self._positions: dict[TopicPartition, _Position] = {}
        self._watchers: defaultdict[JobId, list[list[Identity]]] = defaultdict(list)
        self._waiters: defaultdict[JobId, list[_Waiter]] = defaultdict(list)
        self.turns = 0
        """Iterations of the loop, including restarts while no broker answers."""
        self.loaded = False
        self.unreadable = 0

    @property
    def ready(self) -> bool:
        """True while the topic is followed, once every record that was there at the start has been read."""
        return self.loaded and self._consumer is not None

    def get(self, job_id: JobId) -> JobStatus | None:
        """Return the newest status that this gateway has seen."""
        entry = self.table.get(job_id)
        return entry.status if entry else None

    def offer(self, status: JobStatus) -> JobStatus:
        """Add a status that this gateway itself published; return the newest one of the job."""
        self._put(status, None, None)
        return self.get(status.owner.job_id) or status

    async def find(self, job_id: JobId) -> JobStatus | None:
        """Return the newest status; for an unknown job first read the topic to its current end.

        Raises BrokerUnavailable if that end is not reached in time: the job may or may not exist.
        """
        status = self.get(job_id)
        if status is None:
            await self._barrier(job_id)
            status = self.get(job_id)
        return status

    @contextlib.contextmanager
    def watching(self, job_id: JobId) -> Iterator[Sequence[Identity]]:
        """Yield a list that grows by the owner of each status of the job that is read in the block, in log order."""
        seen: list[Identity] = []
        self._watchers[job_id].append(seen)
        try:
            yield seen
        finally:
            left = [other for other in self._watchers[job_id] if other is not seen]
            if left:
                self._watchers[job_id] = left
            else:
                del self._watchers[job_id]

    async def read_past(self, job_id: JobId, offset: int, timeout_s: float) -> None:
        """Return once the record at `offset` of the job's partition is read; BrokerUnavailable after the time limit."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while True:
            tp = TopicPartition(self._topic, event_partition(job_id, max(1, len(self._positions))))
            position = self._positions.get(tp)
            if position is not None and position.reached > offset:
                return
            left_s = end_s - loop.time()
            if left_s <= 0:
                raise BrokerUnavailable(f"the statuses could not be read up to offset {offset} within {timeout_s} s")
            passed: asyncio.Future[None] = loop.create_future()
            if position is not None:
                position.barriers.append((offset + 1, passed))
            await asyncio.wait([passed], timeout=min(left_s, _RETRY_S))  # a restart of the view cancels `passed`

    async def wait_ended(self, job_id: JobId, version: int, timeout_s: float) -> None:
        """Return once this version of the job or a later one has ended, after the time limit, or on end_waits()."""

        def ended(status: JobStatus | None) -> bool:
            return status is not None and status.state.ended and status.owner.version >= version

        await self.wait_for(job_id, ended, timeout_s)

    async def wait_for(self, job_id: JobId, enough: Callable[[JobStatus | None], bool], timeout_s: float) -> None:
        """Return once `enough` accepts the newest status, after the time limit, or on end_waits()."""
        if timeout_s <= 0 or enough(self.get(job_id)):
            return
        waiter = _Waiter(enough, asyncio.get_running_loop().create_future())
        self._waiters[job_id].append(waiter)
        try:
            await asyncio.wait([waiter.woken], timeout=timeout_s)
        finally:
            self._waiters[job_id].remove(waiter)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    def end_waits(self) -> None:
        """Wake all waiters, because the gateway is about to stop."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                _resolve(waiter.woken)

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        while True:
            self.turns += 1
            consumer = self._transport.consumer()
            try:
                await self._follow(consumer)
            except OffsetOutOfRange as error:
                log.error("statuses-lost-to-retention", error=str(error))
                self._fail_barriers()
                self._positions.clear()
            except TransportError as error:
                log.warning("view-restarts", error=repr(error))
            finally:
                self._consumer = None
                self._fail_barriers()
                await consumer.stop()
            await asyncio.sleep(_RETRY_S)

    async def _follow(self, consumer: Consumer) -> None:
        await consumer.start()
        partitions = await self._partitions()
        consumer.assign(partitions)
        for tp in partitions:
            if tp in self._positions:
                consumer.seek(tp, self._positions[tp].reached)
            else:
                self._positions[tp] = _Position()
        ends = await consumer.end_offsets(partitions)
        self._consumer = consumer
        while True:
            self.turns += 1
            batch = await consumer.poll(_POLL_S)
            for tp, records in batch.items():
                self._take(tp, records)
            if not self.loaded or not batch:
                await self._update_positions(consumer)
                self._check_loaded(ends)
            self._resolve_barriers()

    async def _partitions(self) -> list[TopicPartition]:
        counts = await self._transport.partition_counts([self._topic])
        if self._topic not in counts:
            raise BrokerUnavailable(
                f"topic {self._topic} is missing; create it with `python -m regather.runtime.topics`"
            )
        return [TopicPartition(self._topic, number) for number in range(counts[self._topic])]

    def _take(self, tp: TopicPartition, records: list[Record]) -> None:
        for record in records:
            try:
                status, inline = decode_status(record.headers, record.value)
            except WireError as error:
                self.unreadable += 1
                log.error("status-unreadable", partition=tp.partition, offset=record.offset, error=str(error))
                continue
            for seen in self._watchers.get(status.owner.job_id, ()):
                seen.append(status.owner)
            self._put(status, StatusAddress(record.partition, record.offset), inline)
        self._positions[tp].reached = records[-1].offset + 1

    def _put(self, status: JobStatus, address: StatusAddress | None, inline: bytes | None) -> None:
        if self.table.put(status, address=address, inline=inline) is None:
            return
        for waiter in self._waiters.get(status.owner.job_id, ()):
            if waiter.enough(status):
                _resolve(waiter.woken)

    async def _update_positions(self, consumer: Consumer) -> None:
        for tp, position in self._positions.items():
            position.reached = max(position.reached, await consumer.position(tp))

    def _check_loaded(self, ends: Mapping[TopicPartition, int]) -> None:
        if not self.loaded and all(self._positions[tp].reached >= end for tp, end in ends.items()):
            self.loaded = True
            log.info("view-loaded", jobs=len(self.table))

    async def _barrier(self, job_id: JobId) -> None:
        consumer = self._consumer
        if consumer is None or not self._positions:
            raise BrokerUnavailable(f"job {job_id} is unknown here, and Kafka cannot be reached to look for it")
        tp = TopicPartition(self._topic, event_partition(job_id, len(self._positions)))
        # Not the last stable offset: the requested status may come after a transaction that is still open.
        end = (await consumer.written_offsets([tp]))[tp]
        position = self._positions.get(tp)
        if position is None:
            return
        # Most logs end with a marker, which is never delivered; run() passes it only after the poll that is under way.
        position.reached = max(position.reached, await consumer.position(tp))
        if position.reached >= end:
            return
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        position.barriers.append((end, passed))
        await asyncio.wait([passed], timeout=_BARRIER_S)
        if not passed.done() or passed.cancelled():
            raise BrokerUnavailable(f"job {job_id} is unknown here, and the newest statuses could not be read in time")

    def _resolve_barriers(self) -> None:
        for position in self._positions.values():
            for end, passed in position.barriers:
                if position.reached >= end:
                    _resolve(passed)
            if position.barriers:
                position.barriers = [entry for entry in position.barriers if not entry[1].done()]

    def _fail_barriers(self) -> None:
        for position in self._positions.values():
            for _, passed in position.barriers:
                passed.cancel()
            position.barriers.clear()


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
