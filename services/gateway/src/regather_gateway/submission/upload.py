"""Carries out the instructions of `regather.core.submission`: sends a submission's records and awaits their acks."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from regather.core.errors import TransportError
from regather.core.model import Abandoned, OffsetRange, Sealed
from regather.core.submission import (
    Acked,
    AggregatorAnswered,
    BodyEnded,
    Doubt,
    FirstShard,
    GivenUp,
    Instruction,
    SealAcked,
    Submission,
    SubmissionEvent,
    SubmissionState,
    Unconfirmed,
)
from regather.service.logs import get_logger
from regather.transport.base import Headers
from regather_gateway.submission.aggregator_answer import no_answer
from regather_gateway.submission.opening import Opening
from regather_gateway.submission.shard_stream import ShardStream
from regather_gateway.submission.submission_events import SubmissionEvents

log = get_logger()
MakeSeal = Callable[[int, tuple[OffsetRange, ...]], Sealed]
"""Makes the seal from the number of shards and their offset ranges."""


class Upload:
    """Sends the records of one submission; it sends nothing before the first shard is cut.

    Every method but end() may raise TransportError or TimeoutError; the caller must then call end(Unconfirmed()). After
    any other error it must call end(GivenUp()).
    """

    def __init__(
        self,
        life: Submission,
        stream: ShardStream,
        events: SubmissionEvents,
        opening: Opening,
        ack_timeout_s: float,
        *,
        aggregator_answered: Callable[[], Awaitable[bool]],
        discard_producer: Callable[[], None],
    ) -> None:
        self._life = life
        self._stream = stream
        self._events = events
        self._opening = opening
        self._ack_timeout_s = ack_timeout_s
        self._aggregator_answered = aggregator_answered
        self._discard_producer = discard_producer
        self._sealed: Sealed | None = None
        self._carry_out: dict[Instruction, Callable[[], Awaitable[SubmissionEvent | None]]] = {
            Instruction.CLAIM: opening.claim,
            Instruction.GIVE_WAY: self._give_way,
            Instruction.OPEN: self._open,
            Instruction.SEAL: self._send_seal,
            Instruction.AWAIT_AGGREGATOR: self._await_aggregator,
        }

    @property
    def state(self) -> SubmissionState:
        """The state of the submission."""
        return self._life.state

    async def begin(self) -> None:
        """Claim the job, if the submission must, and open it; raises Problem if another submission was first."""
        await self._tell(FirstShard())

    async def send(self, records: Iterable[tuple[bytes, Headers]]) -> None:
        """Send shards in order; wait while the window of unacked shards is full. The first shard opens the job."""
        for payload, headers in records:
            if self._life.state is SubmissionState.NEW:
                await self.begin()
            await self._stream.send(payload, headers)

    async def settle(self) -> None:
        """Wait for the ack of everything sent so far. Heartbeats end here: the seal follows."""
        self._events.stop_heartbeat()
        async with asyncio.timeout(self._ack_timeout_s):
            addresses = [await acked for acked in self._opening.unacked]
        self._opening.unacked.clear()
        for opened in addresses[:1]:
            self._life.handle(Acked(opened.timestamp_ms))
        await self._stream.settle()

    async def seal(self, make: MakeSeal) -> Sealed:
        """Commit the job once all its records are acked; Problem 503 if it stays unknown whether the seal counts."""
        await self.settle()
        self._sealed = make(self._stream.sent, self._stream.shard_ranges())
        await self._tell(BodyEnded())
        if self._life.state is SubmissionState.UNKNOWN:
            raise no_answer(self._events.owner, self._doubt)
        return self._sealed

    def end(self, event: GivenUp | Unconfirmed, why: str = "") -> Coroutine[Any, Any, None]:
        """End the submission now; the coroutine writes `abandoned` with `why` if needed, and awaits the last acks."""
        instruction = self._life.handle(event)
        self._events.stop_heartbeat()
        if instruction is Instruction.DISCARD_PRODUCER:
            self._discard_producer()
        return self._finish(why if instruction is Instruction.ABANDON else None)

    async def _tell(self, event: SubmissionEvent) -> None:
        instruction = self._life.handle(event)
        while instruction is not None:
            answer = await self._carry_out[instruction]()
            instruction = None if answer is None else self._life.handle(answer)

    async def _give_way(self) -> None:
        raise self._opening.gives_way()

    async def _open(self) -> None:
        self._events.start_heartbeat(lambda: self._stream.sent, lambda log_ms: self._life.handle(Acked(log_ms)))
        await self._opening.open()

    async def _send_seal(self) -> SealAcked:
        assert self._sealed is not None  # seal() is the only way here
        return SealAcked((await self._events.publish(self._sealed)).timestamp_ms)

    async def _await_aggregator(self) -> AggregatorAnswered:
        log.warning("seal-in-doubt", job=self._events.owner.job_id, why=self._doubt.name.lower())
        return AggregatorAnswered(in_time=await self._aggregator_answered())

    @property
    def _doubt(self) -> Doubt:
        assert self._life.doubt is not None  # the rules ask for the aggregator only in doubt
        return self._life.doubt

    async def _finish(self, abandoned: str | None) -> None:
        owner = self._events.owner
        if abandoned is not None:
            log.info("job-abandoned", job=owner.job_id, error=abandoned)
            try:
                await self._events.publish(Abandoned(owner, abandoned))
            except (TransportError, TimeoutError) as error:  # missed heartbeats end the job a minute later
                log.warning("abandon-failed", job=owner.job_id, error=repr(error))
        await self._drop()

    async def _drop(self) -> None:
        """Await the acks of records in transit, and ignore their errors."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout_s):
                while self._opening.unacked:
                    with contextlib.suppress(TransportError):
                        await self._opening.unacked.pop(0)
        await self._stream.drop()
