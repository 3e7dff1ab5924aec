"""Sends one submission's records to Kafka: `opened`, the shards in two lanes, the heartbeat, the seal."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

from regather.core.errors import BadInput, TransportError
from regather.core.model import Event, OffsetRange, OnError, Opened
from regather.core.status import JobStatus
from regather.processors.base import Piece
from regather.topics.layout import SHARD_RECORD_BYTES
from regather.transport.base import RecordAddress
from regather.wire.shards import ShardEncoder
from regather_gateway.submission.producer_keeper import ProducerSession
from regather_gateway.submission.shard_stream import ShardStream, UploadLimits
from regather_gateway.submission.submission_events import SubmissionEvents

MAX_PIECE_BYTES = SHARD_RECORD_BYTES - 64 * 1024
"""The largest shard and the halo of its neighbours, less what the headers need."""


HoldClaim = Callable[[RecordAddress], Awaitable[None]]


class Upload:
    """Sends the records of one submission; nothing is sent before the first shard was cut.

    Raises TransportError or TimeoutError, after which the state of the submission is unknown and the producer is to be
    thrown away. With `hold_claim` the first status goes ahead alone, and nothing follows unless that lets it.
    """

    def __init__(
        self,
        session: ProducerSession,
        opened: Opened,
        accepted: JobStatus,
        *,
        timeout_ms: int,
        limits: UploadLimits,
        hold_claim: HoldClaim | None = None,
    ) -> None:
        self._hold_claim = hold_claim
        self._opened = opened
        self._accepted = accepted
        self._limits = limits
        self._headers = ShardEncoder(
            opened.owner,
            opened.kind,
            opened.options,
            timeout_ms,
            chained=opened.chained,
            skip=opened.on_error is OnError.SKIP,
        ).headers
        self._stream = ShardStream(session, limits)
        self._events = SubmissionEvents(session, opened.owner, limits, lambda: self._stream.sent)
        self._first_acks: list[Awaitable[RecordAddress]] = []
        self.owner = opened.owner
        self.begun = False

    @property
    def shards(self) -> int:
        """How many shards were sent."""
        return self._stream.sent

    @property
    def heartbeat_missed(self) -> bool:
        """See SubmissionEvents."""
        return self._events.heartbeat_missed

    @property
    def shard_ranges(self) -> tuple[OffsetRange, ...]:
        """Where the shards stand, once they are settled."""
        return self._stream.shard_ranges()

    async def send(self, pieces: Iterable[Piece]) -> None:
        """Send shards in order; waits while too much is without an ack. The first one opens the job."""
        stream, headers = self._stream, self._headers
        for piece in pieces:
            if len(piece.payload) > MAX_PIECE_BYTES:
                raise BadInput(_too_large(stream.sent, len(piece.payload)), code="shard-too-large")
            if not self.begun:
                await self._begin()
            await stream.send(piece.payload, headers(stream.sent, piece.meta))

    async def settle(self) -> None:
        """Wait for the ack of everything sent so far."""
        self.stop_heartbeat()
        async with asyncio.timeout(self._limits.ack_timeout_s):
            addresses = [await acked for acked in self._first_acks]
        for opened in addresses[:1]:
            self._events.acked(opened)
        self._first_acks = []
        await self._stream.settle()

    async def publish(self, event: Event) -> None:
        """Send one event of this job and wait for its ack."""
        await self._events.publish(event)

    async def drop(self) -> None:
        """Forget the submission: errors of what is still on its way are of no interest any more."""
        self.stop_heartbeat()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.ack_timeout_s):
                while self._first_acks:
                    with contextlib.suppress(TransportError):
                        await self._first_acks.pop(0)
        await self._stream.drop()

    def stop_heartbeat(self) -> None:
        """Send no more heartbeats."""
        self._events.stop_heartbeat()

    async def _begin(self) -> None:
        if self._hold_claim is not None:
            async with asyncio.timeout(self._limits.ack_timeout_s):
                address = await (await self._events.publish_status(self._accepted))
            await self._hold_claim(address)
        self.begun = True
        self._events.start_heartbeat()
        opened = asyncio.ensure_future(await self._events.send(self._opened))
        self._first_acks = [opened]
        if self._hold_claim is None:
            self._first_acks.append(await self._events.publish_status(self._accepted))
        if self._limits.opened_before_shards:
            await asyncio.wait([opened], timeout=self._limits.ack_timeout_s)
            if not opened.done():
                raise TimeoutError
            opened.result()


def _too_large(seq: int, size_bytes: int) -> str:
    return (
        f"shard {seq} would have {size_bytes} bytes, above the limit of {MAX_PIECE_BYTES}: ask for a smaller "
        "shard_size; if one row is that long, the input cannot be processed"
    )
