"""Producers as services see them, over a network that loses requests and replies."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

from regather.core.errors import ProducerDead, RecordTooLarge, TransportError
from regather.testing.simulation.broker import Broker
from regather.testing.simulation.network import Answer, Wire, resolve
from regather.testing.simulation.transactions import Session
from regather.transport.base import Headers, RecordAddress
from regather.transport.memory.log import TransactionState

_PRUNE_AT = 64


class _Ack:
    """Resolves at a record's ack; awaiting one that failed marks the producer as dead, as in the adapter."""

    __slots__ = ("_future", "_producer")

    def __init__(self, future: "asyncio.Future[Any]", producer: "SimulatedProducer") -> None:
        self._future = future
        self._producer = producer

    def __await__(self) -> Generator[Any, None, RecordAddress]:
        try:
            # no-any-return: the future of a simulated call has the type of whatever the broker answers
            return (yield from self._future.__await__())  # type: ignore[no-any-return]
        except TransportError:
            self._producer.died()
            raise


class SimulatedProducer:
    """An idempotent producer: any failed record makes it dead; records in transit may still be written."""

    def __init__(self, broker: Broker, wire: Wire, max_record_bytes: int) -> None:
        self._broker = broker
        self._wire = wire
        self._max_record_bytes = max_record_bytes
        self._session: Session | None = None
        self._number: int | None = None
        self._dead = False
        self._unacked: list[asyncio.Future[Any]] = []

    @property
    def dead(self) -> bool:
        """True after any failed record or fencing, and after stop()."""
        return self._dead

    def died(self) -> None:
        """Mark the producer as dead, because a record failed."""
        self._dead = True

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""
        self._session = await self._wire.call("connect", lambda answer: answer(Session()))

    async def stop(self) -> None:
        """Disconnect; acks that are still awaited raise ProducerDead."""
        self._dead = True
        for acked in self._unacked:
            resolve(acked, ProducerDead("the producer was stopped before the ack came"))
        self._unacked.clear()
        if not self._wire.severed:
            await asyncio.sleep(self._broker.network.latency_s())

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Awaitable[RecordAddress]:
        """Send one record; errors are raised by the ack, except those that the client itself detects."""
        session = self._living()
        if value is not None and len(value) > self._max_record_bytes:
            self._dead = True
            raise RecordTooLarge(f"{len(value)} bytes for {topic}; this producer takes {self._max_record_bytes}")
        tp = self._broker.logs.place(topic, key, partition)
        content, number = (key, value, tuple(headers)), self._number

        def write(answer: Answer) -> None:
            self._broker.produce(session, number, tp, content, answer)

        acked = self._wire.call("produce", write, lane=tp, waits=number is not None)
        if len(self._unacked) > _PRUNE_AT:
            self._unacked = [other for other in self._unacked if not other.done()]
        self._unacked.append(acked)
        return _Ack(acked, self)

    def _living(self) -> Session:
        if self._session is None or self._dead or self._wire.severed:
            raise ProducerDead("this producer was not started, was stopped, or died of an earlier error")
        return self._session


class SimulatedTransactionalProducer(SimulatedProducer):
    """A fencing producer.

    With `commit_awaits` a commit raises if a record failed, as the adapter promises. Without it the commit succeeds
    anyway, as the underlying client does; this exposes code that relies on a successful commit alone.
    """

    def __init__(
        self, broker: Broker, wire: Wire, transactional_id: str, max_record_bytes: int, *, commit_awaits: bool
    ) -> None:
        super().__init__(broker, wire, max_record_bytes)
        self._transactional_id = transactional_id
        self._commit_awaits = commit_awaits
        self._begun = 0
        self._acks: list[Awaitable[RecordAddress]] = []

    async def start(self) -> None:
        """Fence older producers of this id; raises BrokerUnavailable."""
        transactions = self._broker.transactions
        self._session = await self._wire.call(
            "fence", lambda answer: transactions.init(self._transactional_id, answer), waits=True
        )

    async def begin(self) -> None:
        """Begin a transaction; at the broker it begins with its first record."""
        self._living()
        if self._number is not None:
            self._dead = True
            raise ProducerDead("a transaction is open already")
        self._begun += 1
        self._number = self._begun
        self._acks = []

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Awaitable[RecordAddress]:
        """Send one record into the open transaction."""
        self._living()
        if self._number is None:
            self._dead = True
            raise ProducerDead("no transaction is open")
        acked = await super().send(topic, value=value, key=key, headers=headers, partition=partition)
        self._acks.append(acked)
        return acked

    async def commit(self) -> None:
        """Wait for every record, then commit."""
        for acked in self._acks:
            try:
                await acked
            except TransportError as error:
                if self._commit_awaits:
                    self._dead = True
                    raise _unknown(error) from error
        if self._commit_awaits:
            self._living()
        await self._end()

    async def _end(self) -> None:
        session, number = self._session, self._number
        if session is None or number is None or self._wire.severed:
            self._dead = True
            raise ProducerDead("no transaction is open")
        self._number = None
        if not self._acks:
            return
        network = self._broker.network
        ignored = network.random() < network.profile.commit_ignored

        def end(answer: Answer) -> None:
            if not ignored:
                self._broker.transactions.end(session, number, TransactionState.COMMITTED, answer)
                return
            network.history.fault("broker", "commit-ignored", self._transactional_id)
            if network.random() < 0.5:
                answer(None)  # the transaction stays open
            else:
                self._broker.transactions.end(session, number, TransactionState.ABORTED, answer)

        try:
            await self._wire.call("end-transaction", end, lane="coordinator")
        except TransportError as error:
            self._dead = True
            raise _unknown(error) from error


def _unknown(error: TransportError) -> TransportError:
    return error if isinstance(error, ProducerDead) else ProducerDead(f"the transaction's state is unknown: {error}")
