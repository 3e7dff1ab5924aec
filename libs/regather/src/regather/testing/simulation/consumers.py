"""Consumers as services see them, over a network that loses requests and replies.

As in the real client, a separate task takes part in the group. So poll() may deliver records of new partitions before
the listener is called, and may deliver fetched records although the partition has another owner by then.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from regather.core.errors import BrokerUnavailable, CommitRejected, OffsetOutOfRange, TransportError
from regather.testing.simulation.broker import Broker
from regather.testing.simulation.groups import HEARTBEAT_S, SESSION_S, Group, Membership, News, Share
from regather.testing.simulation.network import Answer, Wire
from regather.transport.base import Committed, RebalanceListener, Record, TopicPartition

T = TypeVar("T")
_POLL_LIMIT_S = 120.0
_MOST_AT_ONCE = 40
_LONGEST_STALL_S = 5.0


class SimulatedConsumer:
    """Reads committed records, as a member of a group or by hand."""

    def __init__(self, broker: Broker, wire: Wire, group: Group | None) -> None:
        self._broker = broker
        self._wire = wire
        self._group = group
        self._topics: tuple[str, ...] = ()
        self._member: Membership | None = None
        self._listener: RebalanceListener | None = None
        self._listener_error: BaseException | None = None
        self._taking_part: asyncio.Task[None] | None = None
        self._news: asyncio.Future[Any] | None = None  # of News
        self._generation = -1
        self._assigned: tuple[TopicPartition, ...] = ()
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._stalled: dict[TopicPartition, float] = {}
        self._reassigning = False
        self._started = False
        self._waiting: list[asyncio.Future[None]] = []

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""
        await self._wire.call("connect", lambda answer: answer(None))
        self._started = True

    async def stop(self) -> None:
        """Leave the group and disconnect; the request to leave may be lost."""
        if not self._started:
            return
        self._started = False
        self._follow(())
        if self._taking_part is not None:
            self._taking_part.cancel()
        self._wake()
        if self._group is not None and self._member is not None and not self._wire.severed:
            group, member = self._group, self._member
            self._broker.network.at_broker(SESSION_S, group.expel, member)
            with contextlib.suppress(TransportError):
                await self._wire.call("leave", lambda answer: group.leave(member, answer))

    def sever(self) -> None:
        """Cut this client off from the broker; its group waits until its session expires."""
        self._wire.severed = True
        self._started = False
        self._follow(())
        self._wake()
        if self._group is not None and self._member is not None:
            self._broker.network.at_broker(SESSION_S, self._group.expel, self._member)

    def expire(self) -> None:
        """Let the broker expel this member from its group."""
        if self._group is not None and self._member is not None:
            self._group.expel(self._member)

    def subscribe(self, topics: Iterable[str], listener: RebalanceListener) -> None:
        """Join the group for these topics."""
        assert self._group is not None, "a consumer without a group cannot subscribe"
        self._topics, self._listener = tuple(topics), listener
        self._reassigning = True
        self._taking_part = asyncio.create_task(self._take_part(self._group), name="group")

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions without a group; partitions that were assigned before keep their positions."""
        self._follow(tuple(partitions))
        self._positions = {tp: at for tp, at in self._positions.items() if tp in self._assigned}
        self._wake()

    @property
    def generation(self) -> int | None:
        """The group's generation of the newest assignment; None before the first one."""
        return self._generation if self._generation >= 0 else None

    async def poll(self, timeout_s: float, max_records: int | None = None) -> Mapping[TopicPartition, list[Record]]:
        """Return available records; a rebalance may make it wait past `timeout_s`, by at most 120 s."""
        loop, network = self._broker.network.loop, self._broker.network
        end_s = loop.time() + timeout_s
        limit_s = end_s + _POLL_LIMIT_S
        await asyncio.sleep(network.latency_s() if self._something_is_there() else 0)
        if network.random() < network.profile.poll_raises:
            network.history.fault(self._wire.process.name, "poll-raised", self._wire.name)
            raise BrokerUnavailable("the poll failed (simulated)")
        while True:
            self._check_started()
            if self._listener_error is not None:
                raise TransportError("the rebalance listener failed") from self._listener_error
            now_s = loop.time()
            if self._reassigning:
                if now_s >= limit_s:
                    raise BrokerUnavailable("the rebalance took too long (simulated)")
                await self._wait(limit_s - now_s)
                continue
            found = self._fetch(max_records, now_s)
            if found or now_s >= end_s:
                return found
            stalls = [until_s for until_s in self._stalled.values() if until_s > now_s]
            await self._wait(min([end_s, *stalls]) - now_s)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop delivering these partitions. A rebalance ends all pauses."""
        self._paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver these partitions again."""
        self._paused -= set(partitions)
        self._wake()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Deliver the first record at or above `offset` next."""
        if partition not in self._assigned:
            raise CommitRejected(f"{partition} is not assigned")
        self._positions[partition] = offset
        self._wake()

    async def position(self, partition: TopicPartition) -> int:
        """Return the next offset to deliver; it also passes control records and aborted records."""
        self._check_started()
        return self._position(partition)

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit explicit offsets, with the generation of this consumer's newest assignment."""
        self._check_started()
        if self._group is None:
            raise CommitRejected("this consumer is in no group")
        if any(tp not in self._assigned for tp in offsets):
            raise CommitRejected("partitions are not assigned")
        group, member, generation = self._group, self._member, self._generation

        def commit(answer: Answer) -> None:
            group.commit(member if generation >= 0 else None, generation, offsets, answer)

        await self._wire.call("commit", commit, lane="coordinator")

    async def committed(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Committed | None]:
        """Return the group's committed offsets with their metadata."""
        self._check_started()
        wanted, found = list(partitions), self._group.committed if self._group is not None else {}
        return await self._ask(lambda: {tp: found.get(tp) for tp in wanted})

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that is still in the log."""
        wanted = list(partitions)
        return await self._ask(lambda: {tp: self._broker.logs.log(tp).beginning for tp in wanted})

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the last stable offset."""
        wanted = list(partitions)
        return await self._ask(lambda: {tp: self._broker.logs.log(tp).last_stable for tp in wanted})

    async def written_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the next offset to write."""
        wanted = list(partitions)
        return await self._ask(lambda: {tp: self._broker.logs.log(tp).end for tp in wanted})

    async def _ask(self, question: Callable[[], T]) -> T:
        self._check_started()

        def reply(answer: Answer) -> None:
            try:
                answer(question())
            except BrokerUnavailable as error:  # nobody has this partition
                answer(error)

        found: T = await self._wire.call("ask", reply)
        return found

    async def _take_part(self, group: Group) -> None:
        """Loop: give up the partitions, join, apply the new assignment, wait for a rebalance or an expulsion."""
        network = self._broker.network
        prepared = False
        while self._started:
            self._reassigning = True
            if not prepared:
                await self._tell("on_revoked", self._assigned)
                prepared = True
            if self._member is None:
                self._member = Membership(self._wire.name, self._topics, self._hear)
            self._news = network.loop.create_future()
            try:
                share = await self._join(group, self._member)
            except BrokerUnavailable:
                await asyncio.sleep(0.1)
                continue
            prepared = False
            self._generation = share.generation
            self._follow(share.partitions)
            self._positions, self._paused, self._stalled = {}, set(), {}
            network.history.note(self._wire.process.name, "assigned", share.generation, *map(_short, share.partitions))
            self._reassigning = False
            self._wake()
            await self._tell("on_assigned", share.partitions)
            if await self._news is News.EXPELLED:
                self._member, self._generation = None, -1

    async def _join(self, group: Group, member: Membership) -> Share:
        """Join the group; without a time limit, because the answer waits until all members have joined."""
        network, process = self._broker.network, self._wire.process
        if self._wire.severed:
            raise BrokerUnavailable("this client was cut off")
        joined: asyncio.Future[Any] = network.loop.create_future()

        def answer(share: object) -> None:
            network.loop.call_later(network.latency_s(), _settle, joined, share, context=process.context)

        network.at_broker(network.latency_s(), group.join, member, answer)
        assert self._news is not None
        await asyncio.wait((joined, self._news), return_when=asyncio.FIRST_COMPLETED)
        if not joined.done() and self._news.result() is News.EXPELLED:
            self._member, self._generation = None, -1
            raise BrokerUnavailable("expelled while joining (simulated)")
        share: Share = await joined
        return share

    def _hear(self, news: News) -> None:
        """Deliver the news with the next heartbeat."""
        network, heard = self._broker.network, self._news
        delay_s = network.random() * HEARTBEAT_S
        network.loop.call_later(delay_s, _settle, heard, news, context=self._wire.process.context)

    def _something_is_there(self) -> bool:
        """Whether a fetch would return records, which takes a round trip; otherwise a poll only waits."""
        log = self._broker.logs.log
        return any(self._position(tp) < log(tp).last_stable for tp in self._assigned if tp not in self._paused)

    def _fetch(self, max_records: int | None, now_s: float) -> dict[TopicPartition, list[Record]]:
        found: dict[TopicPartition, list[Record]] = {}
        for tp in self._assigned:
            if tp in self._paused or self._stalls(tp, now_s) or (max_records is not None and max_records <= 0):
                continue
            at, log = self._position(tp), self._broker.logs.log(tp)
            if log.last_stable <= at <= log.end:
                continue
            most = _MOST_AT_ONCE if max_records is None else min(max_records, _MOST_AT_ONCE)
            try:
                records, self._positions[tp] = log.read(at, most)
            except OffsetOutOfRange:
                if found:  # deliver these records; the next poll raises the error
                    return found
                raise
            if records:
                found[tp] = records
                max_records = None if max_records is None else max_records - len(records)
        return found

    def _stalls(self, tp: TopicPartition, now_s: float) -> bool:
        """Whether fetches of this partition are stalled now; may begin a stall."""
        network = self._broker.network
        until_s = self._stalled.get(tp)
        if until_s is not None:
            if until_s > now_s:
                return True
            del self._stalled[tp]
        elif network.profile.fetch_stalls and network.random() < network.profile.fetch_stalls:
            network.history.fault(self._wire.process.name, "fetch-stalled", *tp)
            self._stalled[tp] = now_s + network.random() * _LONGEST_STALL_S
            return True
        return False

    def _position(self, tp: TopicPartition) -> int:
        if tp not in self._positions:
            committed = self._group.committed.get(tp) if self._group is not None else None
            self._positions[tp] = committed.offset if committed else self._broker.logs.log(tp).beginning
        return self._positions[tp]

    def _follow(self, partitions: tuple[TopicPartition, ...]) -> None:
        """Let writes to these partitions wake this consumer from now on."""
        readers = self._broker.logs.readers
        for tp in self._assigned:
            readers.get(tp, {}).pop(self._wake, None)
        self._assigned = partitions
        for tp in partitions:
            readers.setdefault(tp, {})[self._wake] = None

    def _wake(self) -> None:
        """Wake waiting polls, after the latency of a reply."""
        if self._waiting:
            network = self._broker.network
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                network.loop.call_later(network.latency_s(), _settle, future, None, context=self._wire.process.context)

    async def _wait(self, timeout_s: float) -> None:
        future: asyncio.Future[None] = self._broker.network.loop.create_future()
        self._waiting.append(future)
        timer = self._broker.network.loop.call_later(max(0.0, timeout_s), _settle, future, None)
        try:
            await future
        finally:
            timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)

    async def _tell(self, method: str, partitions: Sequence[TopicPartition]) -> None:
        try:
            await getattr(self._listener, method)(partitions)
        except Exception as error:  # raised again by poll()
            self._listener_error = error
            self._wake()

    def _check_started(self) -> None:
        if not self._started:
            raise BrokerUnavailable("this consumer was not started, or was stopped")


def _settle(future: "asyncio.Future[Any] | None", value: Any) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _short(tp: TopicPartition) -> str:
    return f"{tp.topic}-{tp.partition}"
