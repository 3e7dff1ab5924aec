"""Producers: idempotent ones for gateways and workers, fencing transactional ones for aggregators."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer import sender

from regather.core.errors import BrokerUnavailable, ProducerDead, RecordTooLarge
from regather.transport.base import Headers, RecordAddress
from regather.transport.kafka.failures import Limits, limited, limited_where_it_waits, stopped, translate
from regather.transport.kafka.force_close import force_close_producer

TRANSACTION_PAUSE_S = 0.002
"""The client's pause before the next transaction, while the broker writes the last one's markers (ADR 0006)."""

sender.BACKOFF_OVERRIDE = TRANSACTION_PAUSE_S

MakeClient = Callable[[], AIOKafkaProducer]


class _Ack:
    """An awaitable for a record's ack. An error marks its producer dead. It is small, because each record has one.

    A client that was stopped, or whose sender has ended, leaves futures that never resolve. So the wait also ends when
    the producer is stopped, and after a time limit in any case.
    """

    __slots__ = ("_future", "_producer")

    def __init__(self, future: "asyncio.Future[Any]", producer: "KafkaProducer") -> None:
        self._future = future
        self._producer = producer

    def __await__(self) -> Generator[Any, None, RecordAddress]:
        future = self._future
        try:
            if not future.done():
                waits = (future, self._producer.gone)
                wait = asyncio.wait(waits, timeout=self._producer.limits.ack_s, return_when=asyncio.FIRST_COMPLETED)
                yield from wait.__await__()
            if not future.done():
                raise ProducerDead("the record was never acked: its producer was stopped or does not respond")
            meta = future.result()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise self._producer.died_of(error) from error
        return RecordAddress(meta.topic, meta.partition, meta.offset, meta.timestamp)


class KafkaProducer:
    """An idempotent producer. A failed record breaks the client's sequence numbers, so it makes the producer dead."""

    def __init__(self, make_client: MakeClient, *, max_record_bytes: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._make_client = make_client
        self._max_record_bytes = max_record_bytes
        self._client: AIOKafkaProducer | None = None
        self._dead = False
        self._gone: asyncio.Future[None] | None = None

    @property
    def gone(self) -> "asyncio.Future[None]":
        """Resolves once the client was stopped: a record that is not acked by then never will be."""
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
        return self._gone

    @property
    def dead(self) -> bool:
        """True after any failed record, time-out or fencing, and after stop()."""
        return self._dead

    async def start(self) -> None:
        """Connect; raises BrokerUnavailable."""
        client = self._make_client()
        try:
            await limited(client.start(), timeout_s=self.limits.call_s)
        except BaseException as error:
            self._dead = True
            await self._end(client)  # also after a cancellation: the caller has no reference to this client
            if not isinstance(error, Exception):
                raise
            raise BrokerUnavailable(f"the producer could not start: {error}") from error
        self._client = client

    async def stop(self) -> None:
        """Flush and disconnect within a time limit."""
        client, self._client, self._dead = self._client, None, True
        try:
            if client is not None:
                await self._end(client)
        finally:
            if not self.gone.done():
                self.gone.set_result(None)

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Awaitable[RecordAddress]:
        """Queue one record and return an awaitable that resolves at its ack."""
        client = self._living()
        if value is not None and len(value) > self._max_record_bytes:
            self._dead = True
            raise RecordTooLarge(f"{len(value)} bytes for {topic}; this producer accepts {self._max_record_bytes}")
        if value is None and key is None:
            key = b""  # the client requires one of the two
        try:
            sending = client.send(topic, value=value, key=key, headers=headers, partition=partition)
            future = await limited_where_it_waits(sending, timeout_s=self.limits.call_s)
        except Exception as error:
            raise self.died_of(error) from error
        return self._remember(_Ack(future, self))

    def died_of(self, error: BaseException) -> Exception:
        """Mark this producer dead, and return the error to raise for the client's error."""
        self._dead = True
        return translate(error)

    def _remember(self, ack: _Ack) -> _Ack:
        return ack

    async def _end(self, client: AIOKafkaProducer) -> None:
        await stopped(client.stop(), timeout_s=self.limits.stop_s, cut_off=lambda: force_close_producer(client))

    def _living(self) -> AIOKafkaProducer:
        if self._client is None or self._dead:
            raise ProducerDead("this producer was not started, was stopped, or failed earlier; make a new one")
        return self._client


class KafkaTransactionalProducer(KafkaProducer):
    """A fencing producer. It awaits the ack of every record before a commit, which the client itself would not do."""

    def __init__(self, make_client: MakeClient, *, max_record_bytes: int, limits: Limits | None = None) -> None:
        super().__init__(make_client, max_record_bytes=max_record_bytes, limits=limits)
        self._transaction: list[_Ack] = []

    async def begin(self) -> None:
        """Begin a transaction."""
        await self._step(self._living().begin_transaction())
        self._transaction = []

    async def commit(self) -> None:
        """Await every record, then commit; an error makes this producer dead."""
        client = self._living()
        try:
            for ack in self._transaction:
                await ack
        except Exception as error:
            raise self.died_of(error) from error
        await self._step(client.commit_transaction())

    def _remember(self, ack: _Ack) -> _Ack:
        self._transaction.append(ack)
        return ack

    async def _step(self, call: Awaitable[None]) -> None:
        try:
            await limited(call, timeout_s=self.limits.call_s)
        except asyncio.CancelledError:
            self._dead = True  # the client may send the request all the same
            raise
        except Exception as error:
            found = self.died_of(error)
            if isinstance(found, ProducerDead):
                raise found from error
            raise ProducerDead(f"the transaction's state is unknown: {error}") from error
