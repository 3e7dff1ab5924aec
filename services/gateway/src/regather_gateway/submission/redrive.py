"""Redrive: a job that has ended runs some of its shards again, as its next version (docs/protocol.md#redrive).

The payloads are those of the first version's own records, found by the places that its seal names. First in log order
wins: of two redrives of one version the later one is refused, and none of its shards is sent.
"""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from regather.core.errors import OffsetOutOfRange, TransportError, WireError
from regather.core.ids import event_partition
from regather.core.model import Abandoned, Identity, JobId, JobState, Opened, Redriven, Sealed, Shard
from regather.core.redrive import VersionHistory
from regather.core.seq_ranges import SeqRanges, count, merged, numbers, ranges
from regather.core.status import JobStatus
from regather.service.logs import get_logger
from regather.transport.base import Record, TopicPartition, Transport
from regather.transport.log_reader import LogReader
from regather.wire.events import decode_event
from regather.wire.identity import HEADER, header_map, pack_identity
from regather.wire.shards import decode_shard, shard_headers
from regather_gateway.problems import Problem, broker_unavailable, unconfirmed
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.producer_keeper import ProducerKeeper, ProducerSession
from regather_gateway.submission.seal_check import check_not_closed, wait_for_aggregator
from regather_gateway.submission.shard_stream import ShardStream, UploadLimits
from regather_gateway.submission.submission_events import SubmissionEvents
from regather_gateway.views.status_view import StatusView

log = get_logger()
_FETCH_BYTES = 16 * 1024 * 1024
_READ_LIMIT_S = 120.0
_MOST_NAMED = 1_000_000


@dataclass(frozen=True, slots=True)
class _Plan:
    """The next version of a job: what opens it, what seals it, and the execution limit of its shards if it is new."""

    redriven: Redriven
    sealed: Sealed
    first: Identity
    timeout_ms: int | None

    @property
    def owner(self) -> Identity:
        return self.redriven.owner


class Redriver:
    """Begins further versions of jobs."""

    def __init__(
        self, settings: GatewaySettings, producers: ProducerKeeper, view: StatusView, transport: Transport
    ) -> None:
        self._settings = settings
        self._producers = producers
        self._view = view
        self._transport = transport
        self._under_way: set[JobId] = set()
        self.redriven = 0
        """Shards sent again, since the start."""

    async def redrive(self, status: JobStatus, wanted: SeqRanges, timeout_ms: int | None) -> JobStatus:
        """Run the `wanted` shards again (none named: all without a whole outcome); the next version's status.

        Raises Problem 409 while the job is open, or where another redrive came first; 410 past the retention; 422 for
        shards that are not there; 503 where the state is unknown.
        """
        job_id = status.owner.job_id
        if job_id in self._under_way:
            raise _conflict(job_id, status.owner.version + 1)
        if not status.state.ended:
            raise _conflict(job_id, status.owner.version)
        self._under_way.add(job_id)
        try:
            return await self._redrive(status, wanted, timeout_ms)
        except OffsetOutOfRange as error:
            raise _gone(job_id, str(error)) from error
        finally:
            self._under_way.discard(job_id)

    async def _redrive(self, status: JobStatus, wanted: SeqRanges, timeout_ms: int | None) -> JobStatus:
        session = self._producers.current()
        tp = TopicPartition(session.topics.job_events, event_partition(status.owner.job_id, session.event_partitions))
        history = _History(self._transport, tp, status)
        try:
            await history.read()
            plan = _plan(status, history.history, wanted, timeout_ms)
            await self._check_payloads(plan)
            return await self._run(session, history, plan, status)
        except (TransportError, TimeoutError) as error:
            if isinstance(error, OffsetOutOfRange):
                raise
            raise self._unknown(session, status.owner.job_id, error) from error
        finally:
            await history.close()

    async def _check_payloads(self, plan: _Plan) -> None:
        """OffsetOutOfRange before anything is written, where a payload is past its retention."""
        consumer = self._transport.consumer()
        try:
            await consumer.start()
            tps = [TopicPartition(place.topic, place.partition) for place in plan.sealed.shard_ranges]
            beginnings = await consumer.beginning_offsets(tps)
        finally:
            await consumer.stop()
        for tp, place in zip(tps, plan.sealed.shard_ranges, strict=True):
            if place.first < beginnings[tp]:
                raise OffsetOutOfRange(f"its shards in {tp.topic}-{tp.partition} are older than the retention")

    async def _run(self, session: ProducerSession, history: "_History", plan: _Plan, status: JobStatus) -> JobStatus:
        limits = self._limits()
        stream = ShardStream(session, limits)
        events = SubmissionEvents(session, plan.owner, limits, lambda: stream.sent)
        address = await events.publish(plan.redriven)
        await history.read(until=address.offset)
        if history.history.newest != status.owner.version:
            raise _conflict(status.owner.job_id, plan.owner.version)
        events.start_heartbeat()
        try:
            await self._send_shards(stream, plan)
            await stream.settle()
        except BaseException as error:
            with contextlib.suppress(TransportError, TimeoutError):  # else a minute of silence ends the version
                await events.publish(Abandoned(plan.owner, f"the shards could not be read again: {error!r}"))
            raise
        finally:
            events.stop_heartbeat()
        await events.publish(replace(plan.sealed, owner=plan.owner, shard_ranges=()))
        if events.heartbeat_missed:
            await wait_for_aggregator(self._view, plan.owner, self._settings.ack_timeout_s)
        self.redriven += stream.sent
        log.info("job-redriven", job=plan.owner.job_id, version=plan.owner.version, shards=stream.sent)
        truth = self._view.offer(_accepted(status, plan, address.timestamp_ms))
        check_not_closed(truth)
        return truth

    async def _send_shards(self, stream: ShardStream, plan: _Plan) -> None:
        missing = set(numbers(plan.redriven.seqs))
        async with contextlib.aclosing(self._shards(plan)) as shards:
            async for shard in shards:
                if shard.seq not in missing:
                    continue
                missing.discard(shard.seq)
                again = shard._replace(owner=plan.owner, timeout_ms=plan.timeout_ms or shard.timeout_ms)
                await stream.send(again.payload, shard_headers(again))
                if not missing:
                    return
        raise OffsetOutOfRange(f"shards {ranges(sorted(missing))} are not where the seal says")

    async def _shards(self, plan: _Plan) -> AsyncGenerator[Shard, None]:
        """Yield the first version's shards, as they stand in the log."""
        mine = pack_identity(plan.first)
        reader = LogReader(self._transport, fetch_max_bytes=_FETCH_BYTES)
        try:
            for topic, partition, first, last in plan.sealed.shard_ranges:
                async for record in reader.records(TopicPartition(topic, partition), first, last + 1):
                    if header_map(record.headers).get(HEADER, b"").startswith(mine):
                        yield decode_shard(record.headers, record.value)
        finally:
            await reader.stop()

    def _limits(self) -> UploadLimits:
        settings = self._settings
        return UploadLimits(
            window_bytes=settings.window_bytes,
            window_records=settings.window_records,
            ack_timeout_s=settings.ack_timeout_s,
            heartbeat_s=settings.heartbeat_s,
            opened_before_shards=True,
        )

    def _unknown(self, session: ProducerSession, job_id: JobId, error: Exception) -> Problem:
        self._producers.discard(session)
        log.warning("redrive-unknown", job=job_id, error=repr(error))
        why = unconfirmed(error)
        detail = f"Kafka did not answer ({why}); ask for the job: its version says whether the redrive has begun"
        return broker_unavailable(detail, code="state-unknown", job_id=job_id, status_url=f"/v1/jobs/{job_id}")


class _History:
    """A job's events, read on from where the reading stopped."""

    def __init__(self, transport: Transport, tp: TopicPartition, status: JobStatus) -> None:
        if status.events_offset is None:
            raise _never_sealed(status)
        self._reader = LogReader(transport, fetch_max_bytes=_FETCH_BYTES, limit_s=_READ_LIMIT_S)
        self._tp = tp
        self._next = status.events_offset
        self._submission = pack_identity(status.owner)[:-2]  # without the version
        self.history = VersionHistory(status.owner, keep_outputs=False)

    async def read(self, until: int | None = None) -> None:
        """Fold what came since, up to the offset `until` (None: all there is)."""

        def take(record: Record) -> bool:
            if until is not None and record.offset >= until:
                return False
            self._next = record.offset + 1
            if header_map(record.headers).get(HEADER, b"").startswith(self._submission):
                with contextlib.suppress(WireError):  # counted and logged by the aggregator, which folds it, too
                    self.history.take(decode_event(record.headers, record.value))
            return True

        await self._reader.scan(self._tp, self._next, take)

    async def close(self) -> None:
        """Disconnect."""
        await self._reader.stop()


def _plan(status: JobStatus, history: VersionHistory, wanted: SeqRanges, timeout_ms: int | None) -> _Plan:
    owner, opened, sealed = status.owner, history.opened, history.sealed
    if opened is None or sealed is None or not sealed.shard_ranges:
        raise _never_sealed(status)
    if history.newest != owner.version:
        raise _conflict(owner.job_id, history.newest)
    seqs = _chosen(owner.job_id, history, opened, sealed.shards, wanted)
    again = replace(opened, owner=owner._replace(version=owner.version + 1))
    origin = status.events_offset or 0
    return _Plan(Redriven(again, seqs, origin, status.created_ms), sealed, opened.owner, timeout_ms)


def _chosen(job_id: JobId, history: VersionHistory, opened: Opened, shards: int, wanted: SeqRanges) -> SeqRanges:
    if wanted and wanted[-1][1] >= shards:
        raise Problem(422, "unknown-shard", f"the job has shards 0 to {shards - 1}", job_id=job_id)
    chosen = {*numbers(wanted), *history.never_ran()} if wanted else history.to_run()
    seqs = ranges(sorted(chosen))
    if not seqs:
        detail = "every shard has its outcome; name the shards that are to run again all the same"
        raise Problem(409, "nothing-to-redrive", detail, job_id=job_id)
    # A chain goes on from its first shard that runs again: what comes after it began with another carry.
    return ((seqs[0][0], shards - 1),) if opened.chained else seqs


def _accepted(status: JobStatus, plan: _Plan, now_ms: int) -> JobStatus:
    """Return the next version as the views show it until the aggregator speaks."""
    stays = plan.sealed.shards - count(plan.redriven.seqs)
    return replace(
        status,
        owner=plan.owner,
        state=JobState.ACCEPTED,
        updated_ms=now_ms,
        deadline_ms=now_ms + plan.redriven.opened.deadline_ms,
        total=plan.sealed.shards,
        size_bytes=plan.sealed.size_bytes,
        digest=plan.sealed.digest,
        done=stays,
        failed=0,
        retries=0,
        frontier=0,
        bad_rows=0,
        gaps=(),
        errors=(),
        reason=None,
        error="",
        result=None,
    )


def _conflict(job_id: JobId, version: int) -> Problem:
    detail = f"version {version} of the job is under way or came first; ask for the job before you redrive it again"
    return Problem(409, "redrive-conflict", detail, job_id=job_id)


def _never_sealed(status: JobStatus) -> Problem:
    detail = "the upload never came to its end, so there is nothing to run again; submit the job once more"
    return Problem(409, "never-sealed", detail, job_id=status.owner.job_id)


def _gone(job_id: JobId, why: str) -> Problem:
    detail = f"what the job was made of is not in the log any more ({why}); submit it once more"
    return Problem(410, "redrive-too-late", detail, job_id=job_id)


def parse_seqs(text: str) -> SeqRanges:
    """Read `3,5-9` as ranges, ascending and merged; none for an empty text; Problem 422 for anything else."""
    found = merged(_pair(part.strip()) for part in text.split(",") if text.strip())
    if count(found) > _MOST_NAMED:
        raise Problem(422, "bad-shards", f"shards names {count(found)} shards; it may name {_MOST_NAMED}")
    return found


def _pair(part: str) -> tuple[int, int]:
    first, dash, last = part.partition("-")
    last = last if dash else first
    if not _is_range(first, last) or int(first) > int(last):
        raise Problem(422, "bad-shards", f"shards names {part[:40]!r}; it must look like 3,5-9")
    return int(first), int(last)


def _is_range(first: str, last: str) -> bool:
    return all(part.isascii() and part.isdigit() and len(part) < 9 for part in (first, last))


__all__ = ["Redriver", "parse_seqs"]
