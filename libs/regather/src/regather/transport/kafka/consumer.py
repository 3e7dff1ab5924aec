"""Consumers: members of a group, or readers of manually assigned partitions."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as ClientPartition
from aiokafka import errors as client_errors
from aiokafka.structs import OffsetAndMetadata

from regather.core.errors import BrokerUnavailable, CommitRejected, TransportError
from regather.transport.base import Committed, RebalanceListener, Record, TopicPartition
from regather.transport.kafka.committed_offsets import ask_committed
from regather.transport.kafka.failures import Limits, limited, stopped, translate
from regather.transport.kafka.force_close import end_fetches, force_close_consumer
from regather.transport.kafka.stall_detector import StallDetector
from regather.transport.kafka.undecodable import Undecodables, in_place_of, partition_at_fault
from regather.transport.kafka.written_offsets import ask_written_offsets

log = logging.getLogger(__name__)
T = TypeVar("T")
MakeClient = Callable[[], AIOKafkaConsumer]


class KafkaConsumer:
    """A consumer that keeps the next offset of every partition itself, so that an error in a poll loses no record."""

    def __init__(self, make_client: MakeClient, *, limits: Limits | None = None) -> None:
        self._make_client = make_client
        self._limits = limits or Limits()
        self._client: AIOKafkaConsumer | None = None
        self._next: dict[ClientPartition, int] = {}
        self._unsure: set[ClientPartition] = set()
        self._generation: int | None = None
        self._standstill = StallDetector(self._limits.silence_s)
        self._listener_error: BaseException | None = None
        self._undecodables = Undecodables()

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""
        client = self._make_client()
        try:
            await self._limited(client.start())
        except BaseException as error:
            await self._end(client)  # also after a cancellation: the caller has no reference to this client
            if not isinstance(error, Exception):
                raise
            raise BrokerUnavailable(f"the consumer could not start: {error}") from error
        await asyncio.sleep(0)  # let its tasks begin: a client that is stopped before that leaves its connections open
        self._client = client

    async def stop(self) -> None:
        """Leave the group and disconnect within a time limit."""
        client, self._client = self._client, None
        if client is not None:
            await self._end(client)

    def subscribe(self, topics: Iterable[str], listener: RebalanceListener) -> None:
        """Join the group for these topics."""
        self._running().subscribe(list(topics), listener=_Listener(self, listener))

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions without a group. Keep the positions of those that stay, which the client forgets."""
        wanted = _to_client(partitions)
        self._next = {tp: at for tp, at in self._next.items() if tp in wanted}
        self._running().assign(wanted)
        for tp, at in self._next.items():
            self._running().seek(tp, at)

    @property
    def generation(self) -> int | None:
        """The generation of the latest assignment; None before the first."""
        return self._generation

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Mapping[TopicPartition, list[Record]]:
        """Return the next records. After any error every position is still at the next record that was not returned."""
        client = self._running()
        if self._listener_error is not None:
            raise TransportError(f"the rebalance listener failed: {self._listener_error!r}") from self._listener_error
        if self._unsure:
            await self._find_positions(client)
        try:
            async with asyncio.timeout(timeout_s + self._limits.poll_slack_s):
                found = await self._get_many(client, int(timeout_s * 1000), max_records)
        except UnicodeDecodeError as error:
            found = await self._step_over(client, error)
        except Exception as error:
            self._rewind(client)
            raise translate(error) from error
        if found:
            self._standstill.broken()
        elif self._standstill.due:
            await self._look_for_more(client)
        return {TopicPartition(*tp): self._returned(tp, records) for tp, records in found.items()}

    def _returned(self, tp: ClientPartition, records: Sequence[Any]) -> list[Record]:
        self._next[tp] = records[-1].offset + 1
        return [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]

    async def _step_over(self, client: AIOKafkaConsumer, error: UnicodeDecodeError) -> dict[ClientPartition, Any]:
        """Return a record in place of an undecodable one, if that was the next one; else go back to our positions."""
        at_fault = partition_at_fault(client)
        if at_fault is None:
            self._rewind(client)
            raise translate(error) from error
        tp, offset = at_fault
        if not self._undecodables.found(tp, offset, await client.position(tp)):
            self._rewind(client)
            return {}
        client.seek(tp, offset + 1)
        return {tp: [in_place_of(tp, offset, error)]}

    async def _get_many(self, client: AIOKafkaConsumer, timeout_ms: int, max_records: int | None) -> Any:
        """Poll the client. It reports partitions without a position one by one, each by an error."""
        polled = client.assignment() - client.paused()
        turn = self._undecodables.turn(polled, self._next, timeout_ms, max_records)
        while True:
            try:
                found = await client.getmany(*turn.partitions, timeout_ms=turn.timeout_ms, max_records=turn.max_records)
            except client_errors.NoOffsetForPartitionError as error:
                for tp in error.args:
                    if tp in self._next:  # seek() was called meanwhile
                        client.seek(tp, self._next[tp])
                    else:
                        await self._begin_at_first(client, tp)
            else:
                self._undecodables.polled(turn, found)
                return found

    async def _begin_at_first(self, client: AIOKafkaConsumer, tp: ClientPartition) -> None:
        """Start a partition that the client believes has no committed offset: ask for it, else go to the beginning."""
        committed = await self._committed([tp]) if self._generation is not None else {}
        if tp in committed:
            client.seek(tp, committed[tp].offset)
        else:
            await self._limited(client.seek_to_beginning(tp))

    async def _look_for_more(self, client: AIOKafkaConsumer) -> None:
        """Check for a stall after a long time without a record; raise BrokerUnavailable if the client is at fault."""
        doubts: frozenset[Hashable]
        try:
            tps = client.assignment() - client.paused()
            ends = await self._limited(client.end_offsets(tps))
            positions = {tp: await self._limited(client.position(tp)) for tp in tps}
            doubts = frozenset((tp, at) for tp, at in positions.items() if at < ends[tp])
        except TransportError as error:
            doubts = frozenset({"no broker answers"})
            log.warning("no record came for %s s, and no broker answers: %r", self._limits.silence_s, error)
        if self._standstill.doubts(doubts):
            raise BrokerUnavailable(f"the client has stopped fetching: {sorted(map(str, doubts))}")

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop delivering records of these partitions. A rebalance forgets pauses."""
        self._running().pause(*_to_client(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver records of these partitions again."""
        self._running().resume(*_to_client(partitions))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue this partition at the first record at or above `offset`."""
        tp = ClientPartition(*partition)
        self._running().seek(tp, offset)
        self._next[tp] = offset

    async def position(self, partition: TopicPartition) -> int:
        """Return the next offset to deliver."""
        return int(await self._limited(self._running().position(ClientPartition(*partition))))

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit these offsets with their metadata; raise CommitRejected if the assignment's generation has ended.

        The client itself would use whatever generation it has by now. After it was removed from the group, that is
        none, and a broker accepts such a commit while the group has no other member.
        """
        coordinator: Any = self._running()._coordinator
        if self._generation is not None and coordinator.generation != self._generation:
            raise CommitRejected(f"the assignment is of generation {self._generation}, which has ended")
        wanted = {ClientPartition(*tp): OffsetAndMetadata(at.offset, at.metadata) for tp, at in offsets.items()}
        await self._limited(self._running().commit(wanted))

    async def committed(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Committed | None]:
        """Return the group's committed offsets."""
        wanted = list(partitions)
        found = await self._committed(_to_client(wanted))
        entries = {tp: found.get(ClientPartition(*tp)) for tp in wanted}
        return {tp: Committed(entry.offset, entry.metadata) if entry else None for tp, entry in entries.items()}

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that is still in the log."""
        return _from_client(await self._limited(self._running().beginning_offsets(_to_client(partitions))))

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the last stable offset."""
        return _from_client(await self._limited(self._running().end_offsets(_to_client(partitions))))

    async def written_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the next offset to be written. Ask the leaders: the client's end_offsets() is the last stable one."""
        client: Any = self._running()._client
        return _from_client(await self._limited(ask_written_offsets(client, _to_client(partitions))))

    def listener_failed(self, error: BaseException) -> None:
        """Keep an error that the client would only log. The next poll raises it."""
        self._listener_error = error

    def forget(self, partitions: Iterable[ClientPartition]) -> None:
        """Forget the positions of revoked partitions: another member reads them."""
        for tp in partitions:
            self._next.pop(tp, None)
            self._unsure.discard(tp)

    def joined(self) -> None:
        """Note the generation of a new assignment: commits belong to it."""
        self._standstill.broken()
        if self._client is not None:  # None if the assignment comes while the client is stopped
            self._generation = self._client._coordinator.generation

    def _rewind(self, client: AIOKafkaConsumer) -> None:
        """Go back to our own positions: an error of one partition drops records that the client drained of others."""
        for tp in client.assignment():
            if tp in self._next:
                client.seek(tp, self._next[tp])
            else:
                self._unsure.add(tp)

    async def _find_positions(self, client: AIOKafkaConsumer) -> None:
        """Seek where no record was returned yet: to the committed offset, else to the beginning."""
        unsure = self._unsure & client.assignment()
        committed = await self._committed(list(unsure)) if self._generation is not None else {}
        beginnings = await self._limited(client.beginning_offsets(unsure))
        for tp in unsure & client.assignment() - self._next.keys():
            client.seek(tp, committed[tp].offset if tp in committed else beginnings[tp])
        self._unsure -= unsure

    async def _committed(self, partitions: list[ClientPartition]) -> Mapping[ClientPartition, OffsetAndMetadata]:
        coordinator: Any = self._running()._coordinator
        return await self._limited(ask_committed(coordinator, partitions))

    async def _limited(self, call: Awaitable[T]) -> T:
        return await limited(call, timeout_s=self._limits.call_s)

    async def _end(self, client: AIOKafkaConsumer) -> None:
        await end_fetches(client)
        await stopped(client.stop(), timeout_s=self._limits.stop_s, cut_off=lambda: force_close_consumer(client))

    def _running(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise BrokerUnavailable("this consumer was not started, or was stopped")
        return self._client


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the client has no annotations here
    """Passes rebalances to our listener and keeps its errors, which the client would only log."""

    def __init__(self, consumer: KafkaConsumer, listener: RebalanceListener) -> None:
        self._consumer = consumer
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Iterable[ClientPartition]) -> None:
        await self._tell(self._listener.on_revoked, revoked)
        self._consumer.forget(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[ClientPartition]) -> None:
        self._consumer.joined()
        await self._tell(self._listener.on_assigned, assigned)

    async def _tell(self, method: Callable[[Sequence[TopicPartition]], Any], tps: Iterable[ClientPartition]) -> None:
        try:
            await method([TopicPartition(*tp) for tp in tps])
        except Exception as error:  # raised again by the next poll
            self._consumer.listener_failed(error)


def _to_client(partitions: Iterable[TopicPartition]) -> list[ClientPartition]:
    return [ClientPartition(*tp) for tp in partitions]


def _from_client(offsets: Mapping[ClientPartition, int]) -> dict[TopicPartition, int]:
    return {TopicPartition(*tp): offset for tp, offset in offsets.items()}
