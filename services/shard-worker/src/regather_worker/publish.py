"""Carries out the decisions of core.settlement on executed shards: publishes records, then acknowledges deliveries.

A delivery is acknowledged only after the broker has acked every record of its shard. A crash before that repeats the
shard. For a shard that failed for good the dead letter is published first, then the outcome that points at it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from regather.core.crash_attribution import Crash
from regather.core.errors import RecordTooLarge
from regather.core.execution import Failed, NotRun, Result
from regather.core.model import DeadLetterAddress, Outcome, Parked, Reason, RecordPlace, Shard
from regather.core.settlement import Completed, DeadLettered, Decision, Rerun, Retried, Searched, Settlement
from regather.service.environment import Environment
from regather.service.logs import get_logger
from regather_worker.in_flight import Delivery, QueuedShard
from regather_worker.outbox import Outbox, OutRecord
from regather_worker.records import RecordMaker
from regather_worker.row_search import RowSearch

log = get_logger()


@dataclass(slots=True)
class PublishCounts:
    """Counts since the start: shards by result (done, retried, failed), failed attempts and dead letters by reason."""

    settled: Counter[str] = field(default_factory=Counter)
    attempts_failed: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    run_us: int = 0


class Publisher:
    """Publishes the results of micro-batches."""

    def __init__(self, outbox: Outbox, records: RecordMaker, settlement: Settlement, environment: Environment) -> None:
        self._outbox = outbox
        self._records = records
        self._settlement = settlement
        self._environment = environment
        self.counts = PublishCounts()

    async def publish(self, batch: Sequence[QueuedShard], results: Sequence[Result]) -> list[QueuedShard]:
        """Publish the results and acknowledge the deliveries; return the shards that must run (again)."""
        decided = [
            (queued, self._decide(queued, result, self._environment.process))
            for queued, result in zip(batch, results, strict=True)
        ]
        await self._carry_out([(queued, decision) for queued, decision in decided if not _runs_again(decision)])
        return [queued for queued, decision in decided if _runs_again(decision)]

    async def park(self, shard: Shard, delivery: Delivery) -> None:
        """Publish where a shard of a chain is stored while it waits for the carry of the shard before it."""
        record = delivery.record
        where = RecordPlace(record.topic, record.partition, record.offset)
        parked = Parked(shard.owner, shard.seq, where, shard.timeout_ms, shard.meta)
        await self._send([self._records.event(parked, shard.owner)])
        delivery.ack()

    async def blame(self, queued: QueuedShard, crash: Crash) -> None:
        """Publish a failed attempt for a shard that crashed another worker while it ran there alone."""
        text = f"worker {crash.worker} was lost without a clean shutdown while it ran this shard and nothing else"
        duration_ms = max(0, self._environment.now_ms() - crash.since_ms)
        failed = Failed(Reason.WORKER_LOST, text, crash.since_ms, duration_ms * 1000)
        await self._carry_out([(queued, self._decide_whole(queued, failed, crash.worker))])

    async def lost_payload(self, queued: QueuedShard, source: RecordPlace) -> None:
        """Publish that a released shard failed for good because its payload is not at `source` in the log."""
        where = f"offset {source.offset} of {source.topic}-{source.partition}"
        error = f"the payload is not at {where}: retention deleted it, or the record that names this place is wrong"
        failed = Failed(Reason.UNREADABLE, error, self._environment.now_ms(), 0, retryable=False)
        await self._carry_out([(queued, self._decide_whole(queued, failed, self._environment.process))])

    async def dead_letter_unreadable(self, delivery: Delivery, error: str) -> None:
        """Write a record that cannot be decoded to the dead letters, unchanged, and acknowledge its delivery."""
        topic, partition, offset = delivery.record[:3]
        log.warning("record-unreadable", topic=topic, partition=partition, offset=offset, error=error)
        await self._outbox.publish([self._records.unreadable(delivery.record, error)])
        self.counts.letters[Reason.UNREADABLE] += 1
        delivery.ack()

    def _decide(self, queued: QueuedShard, result: Result, worker: str) -> Decision:
        if not isinstance(result, NotRun):
            self.counts.run_us += result.duration_us
        if queued.search is not None:
            return queued.search.apply(result, worker)
        decision = self._decide_whole(queued, result, worker)
        if isinstance(decision, Searched):
            most_bad = self._settlement.most_bad_rows
            queued.search = RowSearch(queued.shard, decision.failed, decision.error, most_bad=most_bad)
        return decision

    def _decide_whole(self, queued: QueuedShard, result: Result, worker: str) -> Decision:
        jitter = 0.0
        if isinstance(result, Failed):
            self._note(queued.shard, result)
            jitter = self._environment.chance()
        return self._settlement.decide(queued.shard, result, worker=worker, jitter=jitter)

    def _note(self, shard: Shard, failed: Failed) -> None:
        self.counts.attempts_failed[failed.reason] += 1
        log.info(
            "attempt-failed",
            job=shard.owner.job_id,
            seq=shard.seq,
            attempt=shard.attempt,
            reason=failed.reason,
            error=failed.error,
            trace=failed.trace,
        )

    async def _carry_out(self, decided: Sequence[tuple[QueuedShard, Decision]]) -> None:
        if not decided:
            return
        records: list[OutRecord] = []
        outcomes: list[Outcome] = []
        for queued, decision in decided:
            if isinstance(decision, Retried):
                records += self._records.retry(decision)
            elif isinstance(decision, Completed):
                outcomes.append(decision.outcome)
            elif isinstance(decision, DeadLettered):
                outcomes.append(await self._dead_letter(queued, decision))
        await self._send([*self._records.outcomes(decided[0][0].shard.owner, outcomes), *records])
        for queued, decision in decided:
            queued.ack()
            self.counts.settled[_result_of(decision)] += 1

    async def _dead_letter(self, queued: QueuedShard, decision: DeadLettered) -> Outcome:
        record = queued.deliveries[0].record
        addresses = await self._outbox.publish([self._records.dead_letter(one, record) for one in decision.letters])
        outcome = decision.outcome([DeadLetterAddress(address.partition, address.offset) for address in addresses])
        self.counts.letters.update(letter.failure.reason for letter in decision.letters)
        shard = queued.shard
        log.warning(
            "dead-letter" if decision.whole else "bad-rows",
            job=shard.owner.job_id,
            seq=shard.seq,
            attempt=shard.attempt,
            reasons=sorted({letter.failure.reason for letter in decision.letters}),
            rows=[bad.row for bad in outcome.bad_rows],
        )
        return outcome

    async def _send(self, records: Sequence[OutRecord]) -> None:
        try:
            await self._outbox.publish(records)
        except RecordTooLarge as error:  # all size limits derive from one number, so this is a bug of ours
            log.error("record-too-large", records=len(records), error=str(error))
            raise


def _runs_again(decision: Decision) -> bool:
    return isinstance(decision, Rerun | Searched)


def _result_of(decision: Decision) -> str:
    if isinstance(decision, Retried):
        return "retried"
    return "failed" if isinstance(decision, DeadLettered) and decision.whole else "done"
