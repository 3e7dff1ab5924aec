"""One submission's records on their way to Kafka: opened, shards in two lanes, signs of life, the seal."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass

from regather.core.errors import BadInput, TransportError
from regather.core.ids import event_partition
from regather.core.model import Event, OnError, Opened, Uploading
from regather.core.status import JobStatus
from regather.core.wire.documents import encode_status
from regather.core.wire.events import encode_event
from regather.core.wire.shards import ShardEncoder
from regather.processors.base import Piece
from regather.runtime.logs import get_logger
from regather.transport.base import RecordAddress
from regather.transport.topics import SHARD_RECORD_BYTES
from regather_gateway.producing import Line

log = get_logger()
SMALL_LANE_SHARDS = 8
"""So many shards of every job go to the lane that workers serve first (delivery protocol, section 2)."""

MAX_PIECE_BYTES = SHARD_RECORD_BYTES - 64 * 1024
"""The largest shard and the halo of its neighbours, less what the headers need."""

ACCEPTED_KEY = b"accepted:"
"""Put before a job's key in job-status: compaction then never keeps a gateway's word instead of the aggregator's.

A second submission's `accepted`, or one that was long on its way, may stand behind the end of the job.
"""

_RUN_RECORDS, _RUN_BYTES = 64, 64 * 1024
"""Bulk shards stay on one partition for so long: a batch for the client, a micro-batch for the worker."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of one upload: bytes and records sent without an ack, seconds until an ack, seconds between signs."""

    window_bytes: int
    window_records: int
    ack_timeout_s: float
    sign_of_life_s: float
    opened_before_shards: bool


class Upload:
    """Sends the records of one submission; nothing is sent before the first shard was cut.

    Raises TransportError or TimeoutError, after which the state of the submission is unknown and the producer is to be
    thrown away.
    """

    def __init__(self, line: Line, opened: Opened, accepted: JobStatus, *, timeout_ms: int, pace: Pace) -> None:
        self._line = line
        self._send = line.producer.send
        self._opened = opened
        self._accepted = accepted
        self._pace = pace
        self._headers = ShardEncoder(
            opened.owner,
            opened.kind,
            opened.options,
            timeout_ms,
            chained=opened.chained,
            skip=opened.on_error is OnError.SKIP,
        ).headers
        self._key = opened.owner.job_id.encode()
        self._event_partition = event_partition(opened.owner.job_id, line.event_partitions)
        self._window: deque[tuple[Awaitable[RecordAddress], int]] = deque()
        self._window_bytes = 0
        self._bulk_partition = 0
        self._run_records = self._run_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sign: asyncio.Task[None] | None = None
        self.owner = opened.owner
        self.begun = False
        self.shards = 0

    async def send(self, pieces: Iterable[Piece]) -> None:
        """Send shards in order; waits while too much is without an ack. The first one opens the job."""
        send, headers, window, pace = self._send, self._headers, self._window, self._pace
        for piece in pieces:
            payload, seq = piece.payload, self.shards
            size_bytes = len(payload)
            if size_bytes > MAX_PIECE_BYTES:
                raise BadInput(_too_large(seq, size_bytes), code="shard-too-large")
            if not self.begun:
                await self._begin()
            topic, partition = self._place(seq, size_bytes)
            acked = await send(topic, value=payload, headers=headers(seq, piece.meta), partition=partition)
            window.append((acked, size_bytes))
            self._window_bytes += size_bytes
            self.shards = seq + 1
            if self._window_bytes > pace.window_bytes or len(window) > pace.window_records:
                await self._wait_for_room()

    async def settle(self) -> None:
        """Wait for the ack of everything sent so far."""
        self.stop_signs()
        async with asyncio.timeout(self._pace.ack_timeout_s):
            while self._window:
                await self._window.popleft()[0]
        self._window_bytes = 0

    async def tell(self, event: Event) -> None:
        """Send one event of this job and wait for its ack."""
        async with asyncio.timeout(self._pace.ack_timeout_s):
            await (await self._send_event(event))

    async def drop(self) -> None:
        """Forget the submission: errors of what is still on its way are of no interest any more."""
        self.stop_signs()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.ack_timeout_s):
                while self._window:
                    with contextlib.suppress(TransportError):
                        await self._window.popleft()[0]

    def stop_signs(self) -> None:
        """Give no more signs of life."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _begin(self) -> None:
        self.begun = True
        self._schedule_sign()
        opened = asyncio.ensure_future(await self._send_event(self._opened))
        self._window.append((opened, 0))
        headers, value = encode_status(self._accepted)
        topic = self._line.topics.job_status
        key = ACCEPTED_KEY + self._key
        acked = await self._send(topic, value=value, key=key, headers=headers, partition=self._event_partition)
        self._window.append((acked, 0))
        if self._pace.opened_before_shards:
            await asyncio.wait([opened], timeout=self._pace.ack_timeout_s)
            if not opened.done():
                raise TimeoutError
            opened.result()

    def _place(self, seq: int, size_bytes: int) -> tuple[str, int]:
        line = self._line
        if seq < SMALL_LANE_SHARDS:
            return line.topics.shards_small, next(line.next_small) % line.small_partitions
        if self._run_records == 0 or self._run_records >= _RUN_RECORDS or self._run_bytes >= _RUN_BYTES:
            self._bulk_partition = next(line.next_bulk) % line.bulk_partitions
            self._run_records = self._run_bytes = 0
        self._run_records += 1
        self._run_bytes += size_bytes
        return line.topics.shards_bulk, self._bulk_partition

    async def _wait_for_room(self) -> None:
        pace = self._pace
        async with asyncio.timeout(pace.ack_timeout_s):
            while self._window_bytes > pace.window_bytes or len(self._window) > pace.window_records:
                acked, size_bytes = self._window.popleft()
                await acked
                self._window_bytes -= size_bytes

    async def _send_event(self, event: Event) -> Awaitable[RecordAddress]:
        headers, value = encode_event(event)
        topic = self._line.topics.job_events
        return await self._send(topic, value=value, key=self._key, headers=headers, partition=self._event_partition)

    def _schedule_sign(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._pace.sign_of_life_s, self._start_sign)

    def _start_sign(self) -> None:
        self._sign = asyncio.create_task(self._give_sign(), name="sign-of-life")
        self._schedule_sign()

    async def _give_sign(self) -> None:
        try:
            await self.tell(Uploading(self._opened.owner, self.shards))
        except (TransportError, TimeoutError) as error:  # the upload itself meets the same error and answers for it
            log.warning("sign-of-life-failed", job=self._opened.owner.job_id, error=repr(error))


def _too_large(seq: int, size_bytes: int) -> str:
    return (
        f"shard {seq} would have {size_bytes} bytes, above the limit of {MAX_PIECE_BYTES}: ask for a smaller "
        "shard_size; if one row is that long, the input cannot be processed"
    )
