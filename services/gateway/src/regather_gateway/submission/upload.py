"""Carries out the instructions of `regather.core.submission`: sends a submission's records and awaits their acks.

New jobs and redrives live the same life here. run() sends the shards and the seal, and is the only way to begin a
submission. However it fails, it reports the failure to the rules, once, and does what they say: after a record that
Kafka did not confirm, nothing more is written and the producer is discarded; after any other error the job is
abandoned, if this submission has opened it. What differs between a new job and a redrive is how the job is opened:
`Opening`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from starlette.requests import ClientDisconnect

from regather.core.errors import TransportError, UserError
from regather.core.model import Abandoned, Identity, OffsetRange, Sealed
from regather.core.status import JobStatus
from regather.core.submission import (
    Acked,
    AggregatorAnswered,
    BodyEnded,
    ClaimRead,
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
from regather_gateway.problems import Problem, broker_unavailable, unconfirmed
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.job_spec import JobSpec
from regather_gateway.submission.opening import JobOpening, KeyedOpening
from regather_gateway.submission.producing import (
    ProducerKeeper,
    ProducerSession,
    ShardStream,
    SubmissionEvents,
    UploadLimits,
)
from regather_gateway.views.status_view import StatusView

log = get_logger()
_MIN_WINDOW_BYTES = 1024 * 1024
_WHY_IN_DOUBT = {
    Doubt.HEARTBEAT_MISSED: "a heartbeat of the upload was late, so the job may have been closed",
    Doubt.OPENED_BEFORE: "an earlier submission with this key, which has stopped, may have opened the job",
}

MakeSeal = Callable[[int, tuple[OffsetRange, ...]], Sealed]
"""Makes the seal from the number of shards and their offset ranges."""

Shards = AsyncGenerator[Iterable[tuple[bytes, Headers]], None]
"""Payload and headers of a submission's shards, in order, in runs of any length."""


class Opening(Protocol):
    """How a submission opens its job: what it does before its first shard, and what a client is told if it cannot."""

    async def claim(self) -> ClaimRead:
        """Write the claim and read the log up to it."""

    async def open(self) -> None:
        """Open the job."""

    async def confirmed(self) -> Acked | None:
        """Wait for the acks of what open() sent; return that of `opened`, None if open() did not send it."""

    async def drop(self) -> None:
        """Wait for the acks of what open() sent, and ignore their errors."""

    def second_claim_problem(self) -> Problem:
        """Build the Problem for a submission whose claim came second."""

    def unconfirmed_problem(self, why: str) -> Problem:
        """Build the Problem 503 for a submission of which Kafka did not confirm a record."""


class _NotConfirmed(Exception):
    """Kafka refused a record of this submission, or did not confirm it in time; the cause is the error."""


class Upload:
    """Sends the records of one submission; it sends nothing before the first shard is there."""

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
        run_later: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
    ) -> None:
        self._life = life
        self._stream = stream
        self._events = events
        self._opening = opening
        self._ack_timeout_s = ack_timeout_s
        self._aggregator_answered = aggregator_answered
        self._discard_producer = discard_producer
        self._run_later = run_later
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

    async def run(self, shards: Shards, make_seal: MakeSeal) -> Sealed:
        """Send all shards and the seal; the first shard claims the job, if the submission must, and opens it.

        Raises Problem 503 if a record was not confirmed or it stays unknown whether the seal counts, Problem 409 if
        another submission was first, and every error of `shards`.
        """
        try:
            async with contextlib.aclosing(shards):
                async for some in shards:
                    await self._send(some)
            return await self._seal(make_seal)
        except _NotConfirmed as error:
            raise self._leave_unknown(error.__cause__ or error) from error.__cause__
        except BaseException as error:
            await self._give_up(error)
            raise

    async def _send(self, shards: Iterable[tuple[bytes, Headers]]) -> None:
        """Send shards in order; wait while the window of unacked shards is full."""
        with _needing_acks():
            for payload, headers in shards:
                if self._life.state is SubmissionState.NEW:
                    await self._advance(FirstShard())
                await self._stream.send(payload, headers)

    async def _seal(self, make: MakeSeal) -> Sealed:
        """Commit the job once all its records are acked."""
        with _needing_acks():
            await self._flush()
            self._sealed = make(self._stream.sent, self._stream.shard_ranges())
            await self._advance(BodyEnded())
        if self._life.state is SubmissionState.UNKNOWN:
            raise _no_answer(self._events.owner, self._doubt)
        return self._sealed

    async def _flush(self) -> None:
        """Wait for the ack of everything sent so far. Heartbeats end here: the seal follows."""
        self._events.stop_heartbeat()
        async with asyncio.timeout(self._ack_timeout_s):
            opened = await self._opening.confirmed()
        if opened is not None:
            self._life.handle(opened)
        await self._stream.flush()

    async def _advance(self, event: SubmissionEvent) -> None:
        """Report an event to the rules, and carry out what they say until they ask for nothing more."""
        instruction = self._life.handle(event)
        while instruction is not None:
            answer = await self._carry_out[instruction]()
            instruction = None if answer is None else self._life.handle(answer)

    async def _give_way(self) -> None:
        raise self._opening.second_claim_problem()

    async def _open(self) -> None:
        self._events.start_heartbeat(lambda: self._stream.sent, lambda log_ms: self._life.handle(Acked(log_ms)))
        await self._opening.open()

    async def _send_seal(self) -> SealAcked:
        assert self._sealed is not None  # _seal() is the only way here
        return SealAcked((await self._events.publish(self._sealed)).timestamp_ms)

    async def _await_aggregator(self) -> AggregatorAnswered:
        log.warning("seal-in-doubt", job=self._events.owner.job_id, why=self._doubt.name.lower())
        return AggregatorAnswered(in_time=await self._aggregator_answered())

    @property
    def _doubt(self) -> Doubt:
        assert self._life.doubt is not None  # the rules ask for the aggregator only in doubt
        return self._life.doubt

    def _leave_unknown(self, error: BaseException) -> Problem:
        self._end(Unconfirmed())
        owner = self._events.owner
        log.warning("submission-unknown", job=owner.job_id, version=owner.version, error=repr(error))
        return self._opening.unconfirmed_problem(unconfirmed(error))

    async def _give_up(self, error: BaseException) -> None:
        ending = self._end(GivenUp(), _why(error))
        if not isinstance(error, asyncio.CancelledError):
            await asyncio.shield(ending)

    def _end(self, event: GivenUp | Unconfirmed, why: str = "") -> "asyncio.Task[None]":
        """End the submission now; the task writes `abandoned` with `why` if needed, and awaits the last acks."""
        instruction = self._life.handle(event)
        self._events.stop_heartbeat()
        if instruction is Instruction.DISCARD_PRODUCER:
            self._discard_producer()
        return self._run_later(self._finish(why if instruction is Instruction.ABANDON else None))

    async def _finish(self, abandoned: str | None) -> None:
        owner = self._events.owner
        if abandoned is not None:
            log.info("job-abandoned", job=owner.job_id, version=owner.version, error=abandoned)
            try:
                await self._events.publish(Abandoned(owner, abandoned))
            except (TransportError, TimeoutError) as error:  # missed heartbeats end the job a minute later
                log.warning("abandon-failed", job=owner.job_id, error=repr(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout_s):
                await self._opening.drop()
        await self._stream.drop()


class UploadFactory:
    """Creates uploads on the gateway's one producer."""

    def __init__(self, settings: GatewaySettings, producers: ProducerKeeper, view: StatusView) -> None:
        self._settings = settings
        self._producers = producers
        self._view = view
        self._endings: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Wait for the last records of submissions that have failed."""
        await asyncio.gather(*self._endings, return_exceptions=True)

    @contextlib.contextmanager
    def new_job(self, spec: JobSpec, accepted: JobStatus, others: int) -> Iterator[Upload]:
        """Yield the upload of a new job, which shares `all_windows_bytes` with `others` running uploads.

        Raises BrokerUnavailable while there is no producer.
        """
        opened, owner = spec.opened(accepted.owner), accepted.owner
        limits = self._limits(others)
        if spec.key is None:
            events = self.events(self._producers.current(), owner)
            yield self.upload(events, JobOpening(events, opened, accepted, limits), limits=limits)
            return
        known = self._view.get(owner.job_id)
        before = known is not None and known.owner.version == owner.version
        read_past = partial(self._view.read_past, owner.job_id, timeout_s=limits.ack_timeout_s)
        with self._view.watching(owner.job_id) as seen:
            events = self.events(self._producers.current(), owner)
            opening = KeyedOpening(events, opened, accepted, limits, read_past=read_past, seen=seen)
            yield self.upload(events, opening, claims=True, opened_before=before, limits=limits)

    def events(self, session: ProducerSession, owner: Identity) -> SubmissionEvents:
        """Make the events of one submission."""
        settings = self._settings
        timeout_s, heartbeat_s = settings.ack_timeout_s, settings.heartbeat_s
        return SubmissionEvents(session, owner, ack_timeout_s=timeout_s, heartbeat_s=heartbeat_s)

    def upload(
        self,
        events: SubmissionEvents,
        opening: Opening,
        *,
        claims: bool = False,
        opened_before: bool = False,
        limits: UploadLimits | None = None,
    ) -> Upload:
        """Make an upload.

        `claims`: it claims its version before it opens it, and gives way to an earlier claim. `opened_before`: an
        earlier submission, whose gateway has stopped, may have opened the same version, so the seal is in doubt. Without
        `limits` it has those of an upload that runs alone.
        """
        limits = limits or self._limits(0)
        heartbeat_ms = round(self._settings.heartbeat_s * 1000)
        return Upload(
            Submission(heartbeat_ms=heartbeat_ms, claims=claims, opened_before=opened_before),
            ShardStream(events.session, limits),
            events,
            opening,
            limits.ack_timeout_s,
            aggregator_answered=partial(self._view.wait_for_aggregator, events.owner, limits.ack_timeout_s),
            discard_producer=partial(self._producers.discard, events.session),
            run_later=self._run_later,
        )

    def _run_later(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run the end of a submission, which its cancelled request does not wait for."""
        task = asyncio.create_task(work, name="end-of-submission")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    def _limits(self, others: int) -> UploadLimits:
        settings = self._settings
        share = settings.all_windows_bytes // (others + 1)
        return UploadLimits(
            window_bytes=min(settings.window_bytes, max(_MIN_WINDOW_BYTES, share)),
            window_records=settings.window_records,
            ack_timeout_s=settings.ack_timeout_s,
            opened_before_shards=settings.opened_before_shards,
        )


@contextlib.contextmanager
def _needing_acks() -> Iterator[None]:
    """Tell what Kafka did not confirm in this block from every other error of a submission."""
    try:
        yield
    except (TransportError, TimeoutError) as error:
        raise _NotConfirmed from error


def _why(error: BaseException) -> str:
    if isinstance(error, ClientDisconnect):
        return "the client disconnected before the end of the upload"
    if isinstance(error, asyncio.CancelledError):
        return "the gateway stopped before the upload had ended"
    if isinstance(error, UserError | Problem):
        return str(error)
    return f"the gateway failed while it read or cut the input: {error!r}"


def _no_answer(owner: Identity, doubt: Doubt) -> Problem:
    """Build the Problem 503 of a seal that stays in doubt."""
    return broker_unavailable(
        f"{_WHY_IN_DOUBT[doubt]}, and the aggregator has not answered yet: poll status_url, or repeat the request",
        code="state-unknown",
        job_id=owner.job_id,
        status_url=f"/v1/jobs/{owner.job_id}",
    )
