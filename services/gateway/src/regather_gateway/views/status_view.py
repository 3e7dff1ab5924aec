"""The gateway's view of all jobs: reads job-status from the beginning, without a consumer group, and wakes waiters."""

import asyncio
import bisect
import contextlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from regather.core.errors import BrokerUnavailable, NewerRecord, WireError
from regather.core.ids import event_partition
from regather.core.model import Identity, JobId, JobState
from regather.core.status import JobStatus, newer
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.service.tailer import Tailer
from regather.transport.base import Record, TopicPartition, Transport
from regather.wire.documents import decode_status

log = get_logger()
_RETRY_S = 1.0
_BARRIER_S = 1.0


class StatusAddress(NamedTuple):
    """Partition and offset of a status record in job-status."""

    partition: int
    offset: int


class PageKey(NamedTuple):
    """A job's position in the list of jobs: the creation time of its first status seen here, then its id."""

    created_ms: int
    job_id: str


@dataclass(slots=True)
class JobEntry:
    """One job. `address` is None until a status of the job was read from the log."""

    status: JobStatus
    key: PageKey
    address: StatusAddress | None = None


class JobTable:
    """Holds at most `max_ended` ended jobs and `max_inline_bytes` of small results, and drops the oldest first."""

    def __init__(self, *, max_ended: int, max_inline_bytes: int) -> None:
        self._max_ended = max_ended
        self._max_inline_bytes = max_inline_bytes
        self._entries: dict[JobId, JobEntry] = {}
        self._ended: OrderedDict[JobId, None] = OrderedDict()
        self._keys: list[PageKey] = []
        self._inline: OrderedDict[JobId, bytes] = OrderedDict()
        self._inline_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, job_id: JobId) -> JobEntry | None:
        """Return the job's entry; None for an unknown job."""
        return self._entries.get(job_id)

    def inline_result(self, job_id: JobId) -> bytes | None:
        """Return the job's small result; None if it has none here or it was dropped to free memory."""
        return self._inline.get(job_id)

    def put(
        self, status: JobStatus, *, address: StatusAddress | None = None, inline: bytes | None = None
    ) -> JobStatus | None:
        """Add a status; return it if it is the newest of its job, None if a newer one is already here."""
        job_id = status.owner.job_id
        entry = self._entries.get(job_id)
        if entry is None:
            key = PageKey(status.created_ms, job_id)
            self._entries[job_id] = entry = JobEntry(status, key, address)
            bisect.insort(self._keys, key)
        elif newer(entry.status, status) is status:
            entry.status, entry.address = status, address or entry.address
        else:
            return None
        self._keep_inline(job_id, inline)
        if status.state.ended:
            self._ended[job_id] = None
            self._make_room()
        else:
            self._ended.pop(job_id, None)  # a redrive opened a later version of an ended job
        return status

    def newest_first(self, before: PageKey | None) -> Iterator[JobEntry]:
        """Yield the jobs from the newest to the oldest, starting after the position `before`."""
        at = len(self._keys) if before is None else bisect.bisect_left(self._keys, before)
        while at > 0:
            at -= 1
            yield self._entries[JobId(self._keys[at].job_id)]

    def _keep_inline(self, job_id: JobId, inline: bytes | None) -> None:
        self._inline_bytes -= len(self._inline.pop(job_id, b""))
        if inline is None:
            return
        self._inline[job_id] = inline
        self._inline_bytes += len(inline)
        while self._inline_bytes > self._max_inline_bytes:
            _, oldest = self._inline.popitem(last=False)
            self._inline_bytes -= len(oldest)

    def _make_room(self) -> None:
        while len(self._ended) > self._max_ended:
            job_id, _ = self._ended.popitem(last=False)
            entry = self._entries.pop(job_id)
            del self._keys[bisect.bisect_left(self._keys, entry.key)]
            self._inline_bytes -= len(self._inline.pop(job_id, b""))


@dataclass(slots=True)
class _Waiter:
    enough: Callable[[JobStatus | None], bool]
    woken: "asyncio.Future[None]"


class StatusView:
    """Follows one topic for the life of the process; replaces a failed consumer and goes on at the same offsets."""

    def __init__(self, transport: Transport, topic: str, table: JobTable) -> None:
        self.table = table
        self._transport = transport
        self._topic = topic
        self._tail = Tailer(transport, topic, skip=True)
        self._partitions = 0
        self._waits = 0
        self._watchers: defaultdict[JobId, list[list[Identity]]] = defaultdict(list)
        self._waiters: defaultdict[JobId, list[_Waiter]] = defaultdict(list)
        self.unreadable = 0
        self.newer = 0
        """How many statuses of a later release there are: what this gateway shows of their jobs is too old."""

    @property
    def turns(self) -> int:
        """Iterations of the loop, including attempts while no broker answers."""
        return self._waits + self._tail.turns

    @property
    def ready(self) -> bool:
        """True while the topic is followed, once every record that was there at the start has been read."""
        return self._tail.loaded.is_set()

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
        with self._tail.waiting(self._partition_of(job_id), offset + 1) as passed:
            await asyncio.wait([passed], timeout=timeout_s)
            if not passed.done() or passed.cancelled():
                raise BrokerUnavailable(f"the statuses could not be read up to offset {offset} within {timeout_s} s")

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

    async def wait_for_aggregator(self, owner: Identity, timeout_s: float) -> bool:
        """Wait for a status of the aggregator for this version or a later one; return False after `timeout_s`."""

        def answered(status: JobStatus | None) -> bool:
            if status is None or status.owner.version < owner.version:
                return False
            return status.owner.version > owner.version or status.state.rank >= JobState.RUNNING.rank

        await self.wait_for(owner.job_id, answered, timeout_s)
        return answered(self.get(owner.job_id))

    def end_waits(self) -> None:
        """Wake all waiters, because the gateway is about to stop."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                _resolve(waiter.woken)

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        for number in range(await retrying(self._count_partitions, "view-waits", first_s=_RETRY_S)):
            self._tail.follow(TopicPartition(self._topic, number), self._on_record)
        await self._tail.run()

    async def _count_partitions(self) -> int:
        self._waits += 1
        counts = await self._transport.partition_counts([self._topic])
        if self._topic not in counts:
            raise BrokerUnavailable(
                f"topic {self._topic} is missing; create it with `python -m regather.service.topics_command`"
            )
        self._partitions = counts[self._topic]
        return self._partitions

    def _partition_of(self, job_id: JobId) -> TopicPartition:
        return TopicPartition(self._topic, event_partition(job_id, max(1, self._partitions)))

    def _on_record(self, record: Record) -> None:
        try:
            status, inline = decode_status(record.headers, record.value)
        except NewerRecord as error:
            self.newer += 1
            log.error("status-of-a-later-release", partition=record.partition, offset=record.offset, error=str(error))
            return
        except WireError as error:
            self.unreadable += 1
            log.error("status-unreadable", partition=record.partition, offset=record.offset, error=str(error))
            return
        for seen in self._watchers.get(status.owner.job_id, ()):
            seen.append(status.owner)
        self._put(status, StatusAddress(record.partition, record.offset), inline)

    def _put(self, status: JobStatus, address: StatusAddress | None, inline: bytes | None) -> None:
        if self.table.put(status, address=address, inline=inline) is None:
            return
        for waiter in self._waiters.get(status.owner.job_id, ()):
            if waiter.enough(status):
                _resolve(waiter.woken)

    async def _barrier(self, job_id: JobId) -> None:
        consumer = self._tail.consumer
        if consumer is None or not self._partitions:
            raise BrokerUnavailable(f"job {job_id} is unknown here, and Kafka cannot be reached to look for it")
        tp = self._partition_of(job_id)
        # Not the last stable offset: the requested status may come after a transaction that is still open.
        end = (await consumer.written_offsets([tp]))[tp]
        # Most logs end with a marker, which is never delivered; the poll under way would pass it only when it ends.
        if await self._tail.step_over_markers(tp) >= end:
            return
        with self._tail.waiting(tp, end) as passed:
            await asyncio.wait([passed], timeout=_BARRIER_S)
            if not passed.done() or passed.cancelled():
                raise BrokerUnavailable(
                    f"job {job_id} is unknown here, and the newest statuses could not be read in time"
                )


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
