"""The owner of one partition: fences the previous owner, restores, folds events, and begins again after a failure.

An epoch begins with the fence and a restore (`restorer.py`), and lasts until its producer fails. Its fold turns events
into instructions, which `instruction_runner.py` carries out. Records to write wait in the epoch's queue for the emission
loop (`emission_loop.py`). When the producer fails, the owner discards the epoch and begins the next one from the
last confirmed commit, never from its own position: after being fenced it may have folded events without seeing the
finals that its successor wrote. Source: docs/protocol.md#aggregator.

What survives an epoch: the MergeGuard with its marks, and the confirmed commit. They are of the owner.
What does not: the fold, the queue, the finals that were read back, the instructions under way, the producer.
"""

from collections.abc import Callable, Sequence

from regather.core.errors import TransportError
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.topics.layout import CHECKPOINT_RECORD_BYTES
from regather.transport.base import Committed, Record, TransactionalProducer
from regather_aggregator.emission_loop import EmissionLoop
from regather_aggregator.epoch import Epoch
from regather_aggregator.instruction_runner import InstructionRunner
from regather_aggregator.merge_guard import MergeGuard
from regather_aggregator.owner_deps import OwnerDeps
from regather_aggregator.restorer import Restorer
from regather_aggregator.start import Start, commit_of, point_of

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
        self._merges = MergeGuard(deps.assembly.assemble, deps.merges_alone)
        self._begin_epoch()
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
            emission = EmissionLoop(self.partition, self._deps, self._epoch, producer, self._instructions.break_job)
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

    @property
    def waits_for_upgrade(self) -> bool:
        """Whether the partition stands still, because one of its records is of a later release."""
        return self._epoch.newer_at is not None

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

    def fold(self, records: Sequence[Record]) -> None:
        """Fold records of job-events. The poll loop calls this; it never waits."""
        for record in records:
            self._instructions.run(self._epoch.fold_event(record))

    @property
    def waits_for_commit(self) -> bool:
        """Whether a merge waits for a commit."""
        return self._epoch.accepting and self._merges.waits_for_commit

    def committable(self, *, clean_shutdown: bool = False) -> Committed:
        """Return the offset to commit, with what a restart needs in the metadata; call it only while accepting.

        `clean_shutdown` says that this owner stops in order.
        """
        return commit_of(self._epoch, self._merges.begun, clean_shutdown=clean_shutdown)

    def committed(self, at: Committed) -> None:
        """Note the offset and metadata that the group has committed now."""
        self._confirmed = at
        point = point_of(at)
        self._merges.committed(point.merges, clean_shutdown=point.clean_shutdown)

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
        self._instructions.run(instructions)
        self._on_restored(self.partition, epoch.next_offset)
        log.info("partition-restored", partition=self.partition, offset=epoch.next_offset, finals=len(epoch.own_finals))

    def _on_final(self, record: Record) -> None:
        owner = self._epoch.note_final(record)
        if owner is not None:
            self._merges.begun.ended(owner)
            self._deps.counts.finals += 1

    def _discard(self) -> None:
        self._instructions.cancel()
        self._deps.output_readers.results.leave(self.partition, self._on_final)
        self._epoch.end()
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._epoch = Epoch(self._deps.make_fold())
        self._instructions = InstructionRunner(self.partition, self._epoch, self._merges, self._deps.inherited)
