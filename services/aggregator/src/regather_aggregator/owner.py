"""The owner of one partition: fences the previous owner, folds events and carries out the fold's instructions.

An epoch begins with the fence and a restore (`restorer.py`), and lasts until its producer fails. Its fold turns events
into instructions. Records to write wait in the epoch's queue for the emission loop (`emission_loop.py`); merges and
loads run in tasks beside it. When the producer fails, the owner discards the epoch and begins the next one from the
last confirmed commit, never from its own position: after being fenced it may have folded events without seeing the
finals that its successor wrote. Source: docs/protocol.md#aggregator.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from regather.core.errors import TransportError, WireError
from regather.core.job_events import Assembled, InheritedLoaded, JobBroken
from regather.core.model import Reason
from regather.core.partition_fold import reopenable
from regather.core.reassembly import Assemble, EmitFinal, Instruction, JobFold, LoadInherited, Release
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.topics.layout import CHECKPOINT_RECORD_BYTES
from regather.transport.base import Committed, Record, TransactionalProducer
from regather.wire.documents import decode_final
from regather.wire.events import decode_event
from regather.wire.identity import HEADER, header_map, required, unpack_identity
from regather.wire.restart_point import RestartPoint, encode_restart_point
from regather_aggregator.emission import plan_final
from regather_aggregator.emission_loop import EmissionLoop
from regather_aggregator.epoch import Epoch
from regather_aggregator.inherited_outcomes import InheritedOutcomes
from regather_aggregator.merge_guard import MergeGuard
from regather_aggregator.owner_deps import OwnerDeps
from regather_aggregator.restorer import Restorer
from regather_aggregator.start import Start, point_of

log = get_logger()
_RETRY_S = 0.5

Seek = Callable[[int, int], None]


class PartitionOwner:
    """Owns one partition of job-events from its assignment to its revocation."""

    def __init__(self, partition: int, deps: OwnerDeps, on_restored: Seek) -> None:
        self.partition = partition
        self._deps = deps
        self._on_restored = on_restored
        self._restorer = Restorer(partition, deps)
        self._inherited = InheritedOutcomes(deps.transport, deps.topics.job_events)
        self._merges = MergeGuard(deps.assembly.assemble, deps.merges_alone)
        self._epoch = Epoch(deps.make_fold())
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._confirmed: Committed | None = None
        """The group's last commit: the next epoch begins there."""

    async def run(self, assigned: Start) -> None:
        """Own the partition until cancelled."""
        self._confirmed = assigned.committed
        self._merges.begun = assigned.begun_merges()
        await retrying(
            lambda: self._own_for_one_epoch(assigned.beginning),
            "ownership-restarts",
            first_s=_RETRY_S,
            errors=(TransportError, TimeoutError),
            on_error=self._count_restart,
            partition=self.partition,
        )

    async def _own_for_one_epoch(self, beginning: int) -> None:
        producer = emission = None
        try:
            producer = await self._fence()
            await self._restore(beginning)
            emission = EmissionLoop(self.partition, self._deps, self._epoch, producer)
            await emission.run()
        finally:
            self._discard()
            if emission is not None:
                await emission.close()
            if producer is not None:
                await producer.stop()

    def _count_restart(self, _error: Exception) -> None:
        self._deps.counts.restarts += 1

    @property
    def accepting(self) -> bool:
        """Whether the partition is restored and its records are folded."""
        return self._epoch.accepting

    def stop_accepting(self) -> None:
        """Stop folding, because the partition is given up."""
        self._epoch.accepting = False

    @property
    def next_offset(self) -> int:
        """Offset of the next record to fold."""
        return self._epoch.next_offset

    @property
    def open_jobs(self) -> int:
        """Number of jobs whose final has not been read back yet."""
        return self._epoch.fold.open_jobs

    def jobs_older_than(self, age_ms: int) -> int:
        """Return the number of open jobs that were opened more than `age_ms` ago, by log time."""
        return self._epoch.fold.jobs_older_than(age_ms)

    def take(self, records: Sequence[Record]) -> None:
        """Fold records of job-events. The poll loop calls this; it never waits."""
        for record in records:
            if not self._epoch.accepting or record.offset < self._epoch.next_offset:
                continue
            self._epoch.next_offset = record.offset + 1
            self._fold(record)

    @property
    def waits_for_commit(self) -> bool:
        """Whether a merge waits for a commit."""
        return self._epoch.accepting and self._merges.waits_for_commit

    def committable(self, *, clean_shutdown: bool = False) -> Committed:
        """Return the offset to commit, with what a restart needs in the metadata; call it only while accepting.

        `clean_shutdown` says that this owner stops in order.
        """
        epoch, begun = self._epoch, self._merges.begun
        point = RestartPoint(
            results_from=epoch.finals.first_offset,
            checkpoints_from=epoch.checkpoints.first_offset(epoch.fold),
            clean_shutdown=clean_shutdown,
            merges=begun.clean_shutdown() if clean_shutdown else begun.marks(),
        )
        return Committed(epoch.fold.low_offset(epoch.next_offset), encode_restart_point(point))

    def committed(self, at: Committed) -> None:
        """Note the offset and metadata that the group has committed now."""
        self._confirmed = at
        point = point_of(at)
        self._merges.committed(point.merges, clean_shutdown=point.clean_shutdown)

    def _fold(self, record: Record) -> None:
        fold = self._epoch.fold
        try:
            event = decode_event(record.headers, record.value)
        except WireError as error:
            fold.dropped["unreadable"] += 1
            log.warning("event-unreadable", partition=self.partition, offset=record.offset, error=str(error))
            return
        size_bytes = len(record.value or b"")
        instructions = fold.handle(event, offset=record.offset, append_ms=record.timestamp_ms, size_bytes=size_bytes)
        self._carry_out(instructions)

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Assemble):
                self._beside(self._assemble(instruction), f"assemble-{self.partition}")
            elif isinstance(instruction, Release):
                self._epoch.queue.add_release(instruction)
            elif isinstance(instruction, LoadInherited):
                self._beside(self._load_inherited(instruction), f"inherited-{self.partition}")
            else:
                self._plan(instruction)

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    def _plan(self, instruction: EmitFinal) -> None:
        plan, job = plan_final(instruction, self.partition), instruction.job
        log.info("job-ends", job=job.owner.job_id, state=job.state, shards=len(job.shards), retries=job.retries)
        self._epoch.queue.add_final(plan)

    async def _assemble(self, instruction: Assemble) -> None:
        job, epoch = instruction.job, self._epoch
        try:
            event = await self._merges.take(job)
        except Exception as error:  # the barrier: an error in one job ends only that job
            log.exception("assembly-broken", job=job.owner.job_id)
            text = f"internal error of the aggregator ({type(error).__name__}); its log has the cause"
            event = JobBroken(Reason.INTERNAL, text)
        self._go_on(epoch, job, event)

    async def _load_inherited(self, instruction: LoadInherited) -> None:
        epoch, job = self._epoch, instruction.job
        event = await self._inherited.load(self.partition, instruction)
        if event is not None:
            self._go_on(epoch, job, event)
        elif epoch is self._epoch:
            log.error("redrive-unfounded", job=job.owner.job_id, version=job.owner.version)
            epoch.fold.unfounded(job)

    def _go_on(self, epoch: Epoch, job: JobFold, event: Assembled | InheritedLoaded | JobBroken) -> None:
        if epoch is self._epoch and epoch.fold.is_open(job):
            self._carry_out(epoch.fold.advance(job, event))

    async def _fence(self) -> TransactionalProducer:
        identity = self._deps.topics.transactional_id("aggregator", self.partition)
        producer = self._deps.transport.transactional_producer(identity, max_record_bytes=CHECKPOINT_RECORD_BYTES)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _restore(self, beginning: int) -> None:
        epoch = self._epoch
        instructions = await self._restorer.restore(epoch, self._confirmed, beginning, self._on_final)
        epoch.accepting = True
        self._carry_out(instructions)
        self._on_restored(self.partition, epoch.next_offset)
        log.info("partition-restored", partition=self.partition, offset=epoch.next_offset, finals=len(epoch.finals))

    def _on_final(self, record: Record) -> None:
        headers, epoch = header_map(record.headers), self._epoch
        try:
            owner = unpack_identity(required(headers, HEADER))
            again = headers.get("state") == b"failed" and reopenable(decode_final(record.headers).reason)
        except WireError as error:
            log.error("final-unreadable", partition=self.partition, offset=record.offset, error=str(error))
            return
        epoch.fold.final_seen(owner.job_id, owner.version, reopenable=again, submission=owner.submission)
        self._merges.begun.ended(owner)
        self._deps.counts.finals += 1
        epoch.finals.add(owner, record.offset, record.timestamp_ms)
        # Not past the time of the folded events: a restore that begins far back folds events of old jobs again.
        epoch.fold.forget(epoch.finals.forget_old(min(record.timestamp_ms, epoch.fold.log_ms)))

    def _discard(self) -> None:
        for task in list(self._side_tasks):
            task.cancel()
        self._deps.output.finals.leave(self.partition)
        self._epoch.end()
        self._epoch = Epoch(self._deps.make_fold())
