"""The owner of one partition: fence, restore from own output, fold, emit, read back, advance.

Source: docs/protocol.md#aggregator. Whatever goes wrong with the producer, the owner throws everything away and
begins again with the fence; the log holds all that it needs.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from regather.core.errors import OffsetOutOfRange, TransportError, WireError
from regather.core.model import JobId, Opened, Reason, Redriven, Shard, Tick
from regather.core.partition_fold import PartitionFold, reopenable
from regather.core.reassembly import (
    Assemble,
    Assembled,
    EmitFinal,
    InheritedLoaded,
    Instruction,
    JobBroken,
    JobFold,
    LoadInherited,
    Release,
)
from regather.core.retention import lost_before
from regather.core.status import JobStatus
from regather.core.wire.checkpoints import decode_checkpoint
from regather.core.wire.documents import decode_final
from regather.core.wire.events import decode_event
from regather.core.wire.identity import HEADER, header_map, required, unpack_identity
from regather.core.wire.restart_point import RestartPoint, encode_restart_point
from regather.runtime.logs import get_logger
from regather.transport.base import (
    Committed,
    Record,
    RecordAddress,
    TopicPartition,
    TransactionalProducer,
    Transport,
)
from regather.transport.log_reader import LogReader
from regather.transport.topics import CHECKPOINT_RECORD_BYTES, RETRY_RECORD_BYTES, Topics
from regather_aggregator.assembly import Assembly
from regather_aggregator.checkpoints import Checkpoints
from regather_aggregator.emission import MAX_TRANSACTION_BYTES, Emitter, PlannedFinal, plan_final
from regather_aggregator.inherited_outcomes import InheritedOutcomes
from regather_aggregator.merge_guard import MergeGuard
from regather_aggregator.readback import OwnOutput
from regather_aggregator.segment_log import SegmentLog
from regather_aggregator.segments import SegmentWriter
from regather_aggregator.settings import AggregatorSettings
from regather_aggregator.start import Start, point_of

log = get_logger()
_READ_BACK_LIMIT_S = 15.0
_RETRY_S = 0.5
_LOOK_AGAIN_S = 0.02
_REMEMBER_MS = 26 * 3600 * 1000
"""Longer than an idempotency key's life (24 h) and the longest job (1 h) together."""

Seek = Callable[[int, int], None]


@dataclass(slots=True)
class OwnerCounts:
    """Since the process began, of all its owners.

    Events dropped by why, records lost to retention by topic, finals read back, transactions, restarts.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    finals: int = 0
    transactions: int = 0
    restarts: int = 0
    checkpoints: int = 0


@dataclass(frozen=True, slots=True)
class OwnerDeps:
    """What all owners of a process have in common."""

    transport: Transport
    topics: Topics
    settings: AggregatorSettings
    assembly: Assembly
    output: OwnOutput
    counts: OwnerCounts
    make_fold: Callable[[], PartitionFold]
    merges_alone: asyncio.Lock


class PartitionOwner:
    """Owns one partition of job-events from its assignment to its loss."""

    def __init__(self, partition: int, shared: OwnerDeps, on_restored: Seek) -> None:
        self.partition = partition
        self.accepting = False
        self.next_offset = 0
        self._transport, self._topics, self._settings = shared.transport, shared.topics, shared.settings
        self._read_back, self._on_restored = shared.output.finals, on_restored
        self._segments_back, self._checkpoints_back = shared.output.segments, shared.output.checkpoints
        self._releases_back = LogReader(shared.transport, fetch_max_bytes=RETRY_RECORD_BYTES)
        self._base = InheritedOutcomes(shared.transport, shared.topics.job_events)
        self._counts = shared.counts
        self._make_fold = shared.make_fold
        self._fold = shared.make_fold()
        self._wake = asyncio.Event()
        self._pending: deque[PlannedFinal] = deque()
        self._releases: dict[JobId, Release] = {}
        self._checkpoints = Checkpoints()
        self._merges = MergeGuard(shared.assembly.assemble, shared.merges_alone)
        self._awaited: set[tuple[JobId, int]] = set()
        self._all_seen = asyncio.Event()
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._finals: deque[tuple[int, int, JobId]] = deque()
        self._progress_due_s = 0.0
        self._confirmed: Committed | None = None
        """Where it begins again: not where it stands itself, for what a fenced owner has folded may be without the finals
        of the one that fenced it."""

    async def run(self, assigned: Start) -> None:
        """Own the partition until cancelled."""
        producer = None
        self._confirmed = assigned.committed
        self._merges.begun = assigned.begun_merges()
        while True:
            try:
                producer = await self._fence()
                await self._restore(self._confirmed, assigned.beginning)
                await self._emit_forever(producer)
            except (TransportError, TimeoutError) as error:
                self._counts.restarts += 1
                log.warning("ownership-restarts", partition=self.partition, error=repr(error))
                self._discard()
                await asyncio.sleep(_RETRY_S)
            finally:
                self._discard()
                await self._releases_back.stop()
                if producer is not None:
                    await producer.stop()

    @property
    def open_jobs(self) -> int:
        """Jobs whose final was not read back yet."""
        return self._fold.open_jobs

    def jobs_older_than(self, age_ms: int) -> int:
        """Open jobs that were opened longer ago, by the log's own time."""
        return self._fold.jobs_older_than(age_ms)

    def take(self, records: Sequence[Record]) -> None:
        """Fold records of job-events; called by the poll loop, never waits."""
        for record in records:
            if not self.accepting or record.offset < self.next_offset:
                continue
            self.next_offset = record.offset + 1
            self._take_one(record)

    @property
    def waits_for_commit(self) -> bool:
        """Whether something must not go on before a commit."""
        return self.accepting and self._merges.waits_for_commit

    def committable(self, *, clean_shutdown: bool = False) -> Committed:
        """The watermark W, and in the metadata what a restart has to know; once accepting.

        `clean_shutdown`: this owner stops now, and in order.
        """
        begun = self._merges.begun
        point = RestartPoint(
            results_from=self._finals[0][0] if self._finals else None,
            checkpoints_from=self._checkpoints.first_offset(self._fold),
            clean_shutdown=clean_shutdown,
            merges=begun.clean_shutdown() if clean_shutdown else begun.marks(),
        )
        return Committed(self._fold.low_offset(self.next_offset), encode_restart_point(point))

    def committed(self, at: Committed) -> None:
        """The group's offset and metadata are these now."""
        self._confirmed = at
        point = point_of(at)
        self._merges.committed(point.merges, clean_shutdown=point.clean_shutdown)

    def _take_one(self, record: Record) -> None:
        try:
            event = decode_event(record.headers, record.value)
        except WireError as error:
            self._fold.dropped["unreadable"] += 1
            log.warning("event-unreadable", partition=self.partition, offset=record.offset, error=str(error))
            return
        size_bytes = len(record.value or b"")
        instructions = self._fold.handle(
            event, offset=record.offset, append_ms=record.timestamp_ms, size_bytes=size_bytes
        )
        self._carry_out(instructions)

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Assemble):
                self._beside(self._assemble(instruction), f"assemble-{self.partition}")
            elif isinstance(instruction, Release):
                self._releases[instruction.job.owner.job_id] = instruction
                self._wake.set()
            elif isinstance(instruction, LoadInherited):
                self._beside(self._load_base(instruction), f"base-{self.partition}")
            else:
                self._plan(instruction)

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    def _plan(self, instruction: EmitFinal) -> None:
        self._pending.append(plan_final(instruction, self.partition))
        job = instruction.job
        log.info("job-ends", job=job.owner.job_id, state=job.state, shards=len(job.shards), retries=job.retries)
        self._wake.set()

    async def _assemble(self, instruction: Assemble) -> None:
        job, fold = instruction.job, self._fold
        try:
            event = await self._merges.take(job)
        except Exception as error:  # the barrier: one job's trouble ends that job
            log.exception("assembly-broken", job=job.owner.job_id)
            text = f"internal error of the aggregator ({type(error).__name__}); its log says more"
            event = JobBroken(Reason.INTERNAL, text)
        self._go_on(fold, job, event)

    async def _load_base(self, instruction: LoadInherited) -> None:
        fold = self._fold
        event = await self._base.load(self.partition, instruction)
        if event is not None:
            self._go_on(fold, instruction.job, event)
        elif fold is self._fold:
            log.error("redrive-unfounded", job=instruction.job.owner.job_id, version=instruction.job.owner.version)
            fold.unfounded(instruction.job)

    def _go_on(self, fold: PartitionFold, job: JobFold, event: Assembled | InheritedLoaded | JobBroken) -> None:
        if fold is self._fold and fold.is_open(job):
            self._carry_out(fold.advance(job, event))

    async def _fence(self) -> TransactionalProducer:
        identity = self._topics.transactional_id("aggregator", self.partition)
        producer = self._transport.transactional_producer(identity, max_record_bytes=CHECKPOINT_RECORD_BYTES)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _restore(self, committed: Committed | None, beginning: int) -> None:
        results_start = await self._read_back.beginning(self.partition)
        point = point_of(committed)
        results_from = point.results_from
        await self._read_back.follow(self.partition, max(results_from or 0, results_start), self._on_final)
        if results_from is not None:
            self._note_loss(self._topics.results, results_from, results_start)
        instructions = await self._restore_checkpoints(point.checkpoints_from)
        if committed is None and beginning > 0:
            log.warning("no-committed-offset", partition=self.partition, beginning=beginning)
        self._note_loss(self._topics.job_events, committed.offset if committed else None, beginning)
        offset = max(committed.offset, beginning) if committed else beginning
        self.next_offset = offset
        self.accepting = True
        self._carry_out(instructions)
        self._on_restored(self.partition, offset)
        log.info("partition-restored", partition=self.partition, offset=offset, finals=len(self._finals))

    def _note_loss(self, topic: str, stood: int | None, beginning: int) -> None:
        lost = lost_before(stood, beginning)
        if lost:
            where = f"{topic}-{self.partition}"
            log.error("records-lost-to-retention", partition=where, committed=stood, beginning=beginning, lost=lost)
            self._counts.lost[topic] += lost

    async def _restore_checkpoints(self, first: int | None) -> list[Instruction]:
        """Read the checkpoints of jobs that are not done; what they bring about is carried out once all is read."""
        if first is None:
            return []
        beginning = await self._checkpoints_back.beginning(self.partition)
        self._note_loss(self._topics.checkpoints, first, beginning)
        instructions: list[Instruction] = []

        def take(record: Record) -> None:
            instructions.extend(self._take_checkpoint(record))

        try:
            await self._checkpoints_back.follow(self.partition, max(first, beginning), take)
        finally:
            self._checkpoints_back.leave(self.partition)
        self._fold.end_restore()
        return instructions

    def _take_checkpoint(self, record: Record) -> list[Instruction]:
        try:
            found = decode_checkpoint(record.headers, record.value)
        except WireError as error:
            log.error("checkpoint-unreadable", partition=self.partition, offset=record.offset, error=str(error))
            return []
        if found is None:
            return []
        event, mark = found
        instructions = self._fold.restore(event, mark)
        if not isinstance(event, Tick):
            self._checkpoints.saw(event.owner.job_id, record.offset, begins=isinstance(event, Opened | Redriven))
        return instructions

    def _on_final(self, record: Record) -> None:
        headers = header_map(record.headers)
        try:
            owner = unpack_identity(required(headers, HEADER))
            again = headers.get("state") == b"failed" and reopenable(decode_final(record.headers).reason)
        except WireError as error:
            log.error("final-unreadable", partition=self.partition, offset=record.offset, error=str(error))
            return
        self._fold.final_seen(owner.job_id, owner.version, reopenable=again, submission=owner.submission)
        self._merges.begun.ended(owner)
        self._counts.finals += 1
        self._finals.append((record.offset, record.timestamp_ms, owner.job_id))
        # By what was folded, not by what was read: a restore that begins far back meets old jobs' events once more.
        self._forget_old(min(record.timestamp_ms, self._fold.log_ms))
        self._awaited.discard((owner.job_id, owner.version))
        if not self._awaited:
            self._all_seen.set()

    def _forget_old(self, now_ms: int) -> None:
        while self._finals and self._finals[0][1] < now_ms - _REMEMBER_MS:
            _, _, job_id = self._finals.popleft()
            self._fold.forget([job_id])

    async def _emit_forever(self, producer: TransactionalProducer) -> None:
        emitter = Emitter(producer, self._topics, self.partition)
        large = SegmentWriter(SegmentLog(producer, self.partition, self._segments_back))
        saves = SegmentLog(producer, self.partition, self._checkpoints_back)
        while True:
            await self._wait_for_work()
            await self._save_one(saves)
            finals = [await large.with_segments(plan) for plan in self._take_batch()]
            progress = self._take_progress()
            releases = self._take_releases()
            if not (finals or progress or releases):
                continue
            self._awaited = {(plan.status.owner.job_id, plan.status.owner.version) for plan in finals}
            self._all_seen.clear()
            released = await emitter.emit(finals, progress, releases)
            self._counts.transactions += 1
            async with asyncio.timeout(_READ_BACK_LIMIT_S):
                if self._awaited:
                    await self._all_seen.wait()
                elif released:
                    await self._see(released[0])

    async def _see(self, released: RecordAddress) -> None:
        """Return once a released shard is there for a committed reader: the proof of a transaction without finals."""
        while True:
            try:
                await self._releases_back.read(TopicPartition(released.topic, released.partition), released.offset)
            except OffsetOutOfRange:
                await asyncio.sleep(_LOOK_AGAIN_S)
            else:
                return

    async def _save_one(self, saves: SegmentLog) -> None:
        """Write the checkpoint of one job that keeps a restart reading, if there is any."""
        for job in self._fold.unsaved_jobs(self._settings.checkpoint_log_bytes)[:1]:
            await self._checkpoints.save(saves, self._fold, job, self.next_offset)
            self._counts.checkpoints += 1
            self._wake.set()

    async def _wait_for_work(self) -> None:
        if not (self._pending or self._releases):
            self._wake.clear()
            try:
                async with asyncio.timeout(self._settings.progress_s):
                    await self._wake.wait()
            except TimeoutError:
                return  # nothing ended: time for a progress report

    def _take_progress(self) -> list[JobStatus]:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._progress_due_s:
            return []
        self._progress_due_s = now_s + self._settings.progress_s
        return [job.status() for job in self._fold.take_changed()]

    def _take_releases(self) -> list[Shard]:
        """Shards that may run now; of one job only the newest, for older ones have run already."""
        releases, self._releases = self._releases, {}
        return [release.shard for release in releases.values() if self._fold.is_open(release.job)]

    def _take_batch(self) -> list[PlannedFinal]:
        batch: list[PlannedFinal] = []
        size_bytes = 0
        while self._pending and size_bytes < MAX_TRANSACTION_BYTES:
            batch.append(self._pending.popleft())
            size_bytes += batch[-1].size_bytes
        return batch

    def _discard(self) -> None:
        self.accepting = False
        for task in list(self._side_tasks):
            task.cancel()
        self._read_back.leave(self.partition)
        self._pending.clear()
        self._releases.clear()
        self._awaited.clear()
        self._finals.clear()
        self._checkpoints = Checkpoints()
        self._fold.close()
        self._fold = self._make_fold()
