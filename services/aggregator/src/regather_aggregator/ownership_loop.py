"""The aggregator's poll loop: passes the records of job-events to the owners of their partitions."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from regather.core.clock_jump import ClockJumpDetector
from regather.core.errors import BrokerUnavailable, CommitRejected, TransportError
from regather.core.model import Tick
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.topics.layout import CONTROL_RECORD_BYTES, Topics
from regather.transport.base import Committed, Consumer, Producer, TopicPartition, Transport
from regather.wire.events import encode_event
from regather_aggregator.owner import PartitionOwner
from regather_aggregator.start import Start

log = get_logger()
_POLL_S = 0.2
_RETRY_S = 1.0
_COMMIT_EVERY_S = 0.5
_FORMER_LIMIT_S = 30.0
"""An owner waits so long for a former one to end. After that, only the fence keeps the former one from writing."""


MakeOwner = Callable[[int, Callable[[int, int], None]], PartitionOwner]


class OwnershipLoop:
    """A member of the aggregators' group. An owner survives a rebalance that assigns its partition here again."""

    def __init__(self, transport: Transport, topics: Topics, make_owner: MakeOwner, *, tick_s: float) -> None:
        self._transport = transport
        self._topics = topics
        self._make_owner = make_owner
        self._tick_s = tick_s
        self._owners: dict[int, PartitionOwner] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._assigned: frozenset[int] = frozenset()
        self._generation: int | None = None
        self._consumer: Consumer | None = None
        self._joined = False
        self._committed: dict[int, Committed] = {}
        self._committing = asyncio.Lock()
        self._ending: dict[asyncio.Task[None], int] = {}
        """The partition of each owner that was given up and has not ended yet."""
        self._clocks: dict[int, ClockJumpDetector] = {}
        self.turns = 0
        """Iterations of the loop, including restarts while no broker answers."""
        self.time_jumps = 0
        """How often a broker's clock jumped ahead."""

    @property
    def owners(self) -> Mapping[int, PartitionOwner]:
        """Owners by partition."""
        return self._owners

    @property
    def ready(self) -> bool:
        """True once this member has joined the group and every partition assigned to it is restored."""
        return self._joined and all(owner.accepting for owner in self._owners.values())

    @property
    def stopped_partitions(self) -> int:
        """How many partitions wait for an upgrade, because one of their records is of a later release."""
        return sum(owner.waits_for_upgrade for owner in self._owners.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop` is set, replacing a consumer that fails."""
        await retrying(lambda: self._consume_until(stop), "ownership-loop-restarts", first_s=_RETRY_S)

    async def _consume_until(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            return
        self.turns += 1
        consumer = self._transport.consumer(group=self._topics.group("aggregators"))
        try:
            await consumer.start()
            consumer.subscribe([self._topics.job_events], self)
            self._consumer = consumer
            await self._poll_until(consumer, stop)
        finally:
            await self._release(consumer)

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Pause new partitions until their owner is restored; seek to the position of an owner that is kept."""
        assert self._consumer is not None
        numbers = frozenset(tp.partition for tp in partitions)
        for number in set(self._owners) - (numbers if self._follows(self._consumer.generation) else frozenset()):
            self._end_owner(number)
        self._assigned = numbers
        self._joined = True
        for number in sorted(numbers):
            tp = TopicPartition(self._topics.job_events, number)
            owner = self._owners.get(number)
            if owner is not None and owner.accepting:
                self._consumer.seek(tp, owner.next_offset)
                continue
            self._consumer.pause([tp])
            if owner is None:
                self._begin_owner(number)

    def _follows(self, generation: int | None) -> bool:
        """Whether this generation directly follows the previous one; if not, every owner is replaced.

        In a skipped generation another member may have owned the partition and written finals. An owner that went on
        would lack those finals, and may have dropped events that come after an end that it has not seen.
        """
        before, self._generation = self._generation, generation
        return before is not None and generation == before + 1

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit what is settled; the owners stay until the next assignment."""
        with contextlib.suppress(TransportError):
            await self._commit(clean_shutdown=True)
        self._assigned = frozenset()

    async def tick_forever(self) -> None:
        """Append ticks to every owned partition with open jobs, so that log time advances and deadlines expire."""
        await retrying(self._tick_with_new_producer, "tick-failed", first_s=self._tick_s)

    async def _tick_with_new_producer(self) -> None:
        producer = self._transport.producer(max_record_bytes=CONTROL_RECORD_BYTES)
        try:
            await self._tick_with(producer)
        finally:
            await producer.stop()

    async def _poll_until(self, consumer: Consumer, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        commit_due_s = loop.time() + _COMMIT_EVERY_S
        while not stop.is_set():
            self.turns += 1
            for tp, records in (await consumer.poll(_POLL_S)).items():
                owner = self._owners.get(tp.partition)
                if owner is not None:
                    owner.fold(records)
            for task in self._tasks.values():
                if task.done():
                    task.result()  # an owner ends only with an unexpected error: raise it, which stops the process
            if loop.time() >= commit_due_s or any(owner.waits_for_commit for owner in self._owners.values()):
                commit_due_s = loop.time() + _COMMIT_EVERY_S
                with contextlib.suppress(CommitRejected):  # a rebalance is under way: a later commit covers the same
                    await self._commit()

    async def _commit(self, *, clean_shutdown: bool = False) -> None:
        """Commit every partition that changed; `clean_shutdown` sets the flag that this owner did not crash."""
        async with self._committing:  # the broker must get snapshots in the order in which they were made
            if self._consumer is None:
                return
            owned = {
                number: owner for number, owner in self._owners.items() if owner.accepting and number in self._assigned
            }
            offsets = {number: owner.committable(clean_shutdown=clean_shutdown) for number, owner in owned.items()}
            changed = {number: at for number, at in offsets.items() if self._committed.get(number) != at}
            if changed:
                topic = self._topics.job_events
                await self._consumer.commit({TopicPartition(topic, number): at for number, at in changed.items()})
                self._committed.update(changed)
            for number, at in offsets.items():
                owned[number].committed(at)

    async def _tick_with(self, producer: Producer) -> None:
        headers, value = encode_event(Tick())
        started = False
        while True:
            await asyncio.sleep(self._tick_s)
            numbers = [number for number, owner in self._owners.items() if _needs_ticks(owner)]
            if numbers and not started:
                await producer.start()
                started = True
            for number in numbers:
                sent = await producer.send(self._topics.job_events, value=value, headers=headers, partition=number)
                self._watch_time(number, (await sent).timestamp_ms)

    def _watch_time(self, number: int, append_ms: int) -> None:
        """Compare a tick's append time, from its ack, with our clock; a record that is read may be too old for that."""
        now_ms = asyncio.get_running_loop().time() * 1000
        jump_ms = self._clocks.setdefault(number, ClockJumpDetector()).jump_ms(append_ms, now_ms)
        if jump_ms:
            self.time_jumps += 1
            log.error("broker-time-jumped", partition=number, ahead_s=round(jump_ms / 1000))

    def _begin_owner(self, number: int) -> None:
        owner = self._make_owner(number, self._on_restored)
        self._owners[number] = owner
        self._tasks[number] = asyncio.create_task(self._own(number, owner), name=f"owner-{number}")

    def _end_owner(self, number: int) -> None:
        self._owners.pop(number).stop_accepting()
        self._committed.pop(number, None)
        task = self._tasks.pop(number)
        task.cancel()
        self._ending[task] = number
        task.add_done_callback(self._ending.pop)

    async def _own(self, number: int, owner: PartitionOwner) -> None:
        """Own a partition, once its former owners of this process have ended: they still write and follow its output."""
        former = [task for task, ending in self._ending.items() if ending == number]
        if former and (await asyncio.wait(former, timeout=_FORMER_LIMIT_S))[1]:
            log.error("former-owner-not-ended", partition=number, waited_s=_FORMER_LIMIT_S)
        try:
            await owner.run(await self._start_of(number))
        except Exception:
            log.exception("owner-broken", partition=number)
            raise

    async def _start_of(self, number: int) -> Start:
        tp = TopicPartition(self._topics.job_events, number)

        async def ask() -> Start:
            consumer = self._consumer
            if consumer is None:
                raise BrokerUnavailable("the consumer is being replaced")
            committed = (await consumer.committed([tp]))[tp]
            beginning = (await consumer.beginning_offsets([tp]))[tp]
            return Start(committed, beginning, (await consumer.end_offsets([tp]))[tp])

        return await retrying(ask, "start-unknown", first_s=_RETRY_S, partition=number)

    def _on_restored(self, number: int, offset: int) -> None:
        if self._consumer is None or number not in self._assigned:
            return
        tp = TopicPartition(self._topics.job_events, number)
        self._consumer.seek(tp, offset)
        self._consumer.resume([tp])

    async def _release(self, consumer: Consumer) -> None:
        if self._consumer is consumer:
            with contextlib.suppress(TransportError):
                await self._commit(clean_shutdown=True)
        self._consumer = None
        self._joined = False
        self._assigned = frozenset()
        for number in list(self._owners):
            self._end_owner(number)
        await asyncio.gather(*self._ending, return_exceptions=True)
        await consumer.stop()


def _needs_ticks(owner: PartitionOwner) -> bool:
    return owner.accepting and owner.open_jobs > 0 and not owner.waits_for_upgrade
