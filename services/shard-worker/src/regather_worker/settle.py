"""What becomes of executed shards: outcomes, retries and dead letters; settled only once they are acked.

A shard that failed for good is first a dead letter and then an outcome that points at it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from regather.core.custody import Loss
from regather.core.errors import RecordTooLarge
from regather.core.ids import event_partition
from regather.core.model import (
    AttemptError,
    AttemptFailed,
    BadRow,
    DeadLetterAddress,
    Event,
    Failure,
    Identity,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    RecordPlace,
    Shard,
)
from regather.core.retry import Retry, RetryPolicy
from regather.core.settled import MAX_ROW_ERROR_CHARS
from regather.core.wire.events import encode_event, unpack_step
from regather.core.wire.shards import dead_letter_headers, released_record, shard_headers
from regather.runtime.execution import Done, Failed, NotRun, Result
from regather.runtime.host import Host
from regather.runtime.logs import get_logger
from regather.transport.base import Record, RecordAddress
from regather.transport.topics import Topics
from regather_worker.intake import Place, QueuedShard
from regather_worker.outbox import Outbox, OutRecord
from regather_worker.row_search import Found, RowSearch, may_search

log = get_logger()
_EVENT_BYTES = 8 * 1024 * 1024
"""Outcomes of a micro-batch share an event record up to this size."""


@dataclass(slots=True)
class SettleCounts:
    """Since the start: shards by result (done, retried, failed), failed executions and dead letters by reason."""

    settled: Counter[str] = field(default_factory=Counter)
    attempts_failed: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    run_us: int = 0


class Settler:
    """Publishes what a micro-batch came to."""

    def __init__(
        self,
        outbox: Outbox,
        topics: Topics,
        *,
        event_partitions: int,
        policy: RetryPolicy,
        host: Host,
        most_bad_rows: int = 0,
    ) -> None:
        self._outbox = outbox
        self._topics = topics
        self._event_partitions = event_partitions
        self._policy = policy
        self._host = host
        self._worker = host.process
        self._most_bad_rows = most_bad_rows
        self.counts = SettleCounts()

    async def settle(self, batch: Sequence[QueuedShard], results: Sequence[Result]) -> list[QueuedShard]:
        """Publish the results and free the places; returned are the shards that have to run (again)."""
        if batch[0].search is not None:
            return await self._settle_step(batch[0], batch[0].search, results[0])
        executed = [(queued, result) for queued, result in zip(batch, results, strict=True)]
        done = [(queued, result) for queued, result in executed if isinstance(result, Done)]
        failed = [(queued, result) for queued, result in executed if isinstance(result, Failed)]
        outcomes = [_done(queued.shard, result) for queued, result in done]
        retries: list[OutRecord] = []
        for queued, failure in failed:
            error = self._charged(queued.shard, failure, self._worker)
            again = self._again(queued, failure, error)
            retries += again
            if not again and self._most_bad_rows and may_search(queued.shard, failure.reason):
                queued.search = RowSearch(queued.shard, failure, error, most_bad=self._most_bad_rows)
            elif not again:
                outcomes.append(await self._bury(queued, failure, error))
        owner = batch[0].shard.owner
        await self._publish([*self._outcome_records(owner, outcomes), *retries])
        for queued, _ in (*done, *failed):
            if queued.search is None:
                queued.settle()
        self.counts.settled["done"] += len(done)
        self.counts.run_us += sum(result.duration_us for _, result in done)
        self.counts.run_us += sum(result.duration_us for _, result in failed)
        return [queued for queued, result in executed if isinstance(result, NotRun) or queued.search is not None]

    async def _settle_step(self, queued: QueuedShard, search: RowSearch, result: Result) -> list[QueuedShard]:
        """Take one step of a search on; its end is the shard's outcome."""
        shard = queued.shard
        if isinstance(result, NotRun):
            return [queued]
        self.counts.run_us += result.duration_us
        search.took(result, attempt_error(shard, result, self._worker) if isinstance(result, Failed) else None)
        if search.found is not None:
            outcome = await self._bury_rows(queued, search.found)
        elif search.gave_up:
            log.info("rows-not-told-apart", job=shard.owner.job_id, seq=shard.seq, why=search.gave_up)
            outcome = await self._bury(queued, *search.as_failure())
        else:
            return [queued]
        await self._publish([*self._outcome_records(shard.owner, [outcome])])
        queued.settle()
        return []

    async def park(self, shard: Shard, place: Place) -> None:
        """Say that a shard of a chain waits here for the carry of the one before it."""
        record = place.record
        where = RecordPlace(record.topic, record.partition, record.offset)
        parked = Parked(shard.owner, shard.seq, where, shard.timeout_ms, shard.meta)
        await self._publish([self._event(parked, shard.owner)])
        place.settle()

    async def charge(self, queued: QueuedShard, loss: Loss) -> None:
        """Settle the attempt of a shard that took another worker along while it ran there alone."""
        text = f"worker {loss.worker} was lost without a goodbye while it ran this shard and nothing else"
        duration_ms = max(0, self._host.now_ms() - loss.since_ms)
        failed = Failed(Reason.WORKER_LOST, text, loss.since_ms, duration_ms * 1000)
        error = self._charged(queued.shard, failed, loss.worker)
        records = self._again(queued, failed, error)
        if not records:
            outcome = await self._bury(queued, failed, error)
            records = [*self._outcome_records(queued.shard.owner, [outcome])]
        await self._publish(records)
        queued.settle()

    async def lost_payload(self, queued: QueuedShard, error: str) -> None:
        """A released shard's payload is gone from the log: it failed for good."""
        failed = Failed(Reason.UNREADABLE, error, self._host.now_ms(), 0, retryable=False)
        outcome = await self._bury(queued, failed, self._charged(queued.shard, failed, self._worker))
        await self._publish([*self._outcome_records(queued.shard.owner, [outcome])])
        queued.settle()

    async def bury_unreadable(self, place: Place, error: str) -> None:
        """Put a record that cannot be decoded into the dead letters as it is; its offset moves on."""
        record = place.record
        headers = [
            *record.headers,
            ("reason", Reason.UNREADABLE.value.encode()),
            ("error", error.encode()),
            ("worker", self._worker.encode()),
            *_origin(record),
        ]
        letter = OutRecord(self._topics.dead_letters, record.value or b"", record.key or b"unreadable", headers)
        await self._outbox.publish([letter])
        self.counts.letters[Reason.UNREADABLE] += 1
        place.settle()

    def _again(self, queued: QueuedShard, failed: Failed, error: AttemptError) -> list[OutRecord]:
        """The records of another attempt; none if it failed for good."""
        verdict = self._policy.decide(
            failed.reason, queued.shard.attempt, retryable=failed.retryable, jitter=self._host.chance()
        )
        return [*self._retry(queued.shard, error, verdict)] if isinstance(verdict, Retry) else []

    def _charged(self, shard: Shard, failed: Failed, worker: str) -> AttemptError:
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
        return attempt_error(shard, failed, worker)

    def _retry(self, shard: Shard, error: AttemptError, verdict: Retry) -> Iterator[OutRecord]:
        self.counts.settled["retried"] += 1
        again = shard._replace(attempt=shard.attempt + 1, history=(*shard.history, error), delay_ms=verdict.delay_ms)
        headers, value = released_record(again) if again.source else (shard_headers(again), again.payload)
        yield OutRecord(self._topics.shards_retry, value, None, headers)  # no key: any worker may have the next attempt
        yield self._event(AttemptFailed(shard.owner, shard.seq, error), shard.owner)

    async def _bury_rows(self, queued: QueuedShard, found: Found) -> Outcome:
        """One dead letter for each bad row; the outcome has the output of all others."""
        shard = queued.shard
        letters = [
            self._letter(
                shard._replace(payload=piece.payload, meta=piece.meta), error, queued.places[0].record, row=row
            )
            for row, error, piece in found.bad
        ]
        addresses = await self._outbox.publish(letters)
        self.counts.settled["done"] += 1
        self.counts.letters.update(error.reason for _, error, _ in found.bad)
        rows = [row for row, _, _ in found.bad]
        log.warning("bad-rows", job=shard.owner.job_id, seq=shard.seq, attempt=shard.attempt, rows=rows)
        return _done(shard, found.output)._replace(
            bad_rows=tuple(
                BadRow(row, error.reason, error.error[:MAX_ROW_ERROR_CHARS], _address(address))
                for (row, error, _), address in zip(found.bad, addresses, strict=True)
            )
        )

    def _letter(self, shard: Shard, error: AttemptError, record: Record, *, row: int | None = None) -> OutRecord:
        headers = dead_letter_headers(
            shard,
            Failure(error.reason, error.error, (*shard.history, error)),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            worker=self._worker,
            row=row,
        )
        return OutRecord(self._topics.dead_letters, shard.payload, shard.owner.job_id.encode(), headers)

    async def _bury(self, queued: QueuedShard, failed: Failed, error: AttemptError) -> Outcome:
        shard = queued.shard
        (address,) = await self._outbox.publish([self._letter(shard, error, queued.places[0].record)])
        self.counts.settled["failed"] += 1
        self.counts.letters[failed.reason] += 1
        log.warning("dead-letter", job=shard.owner.job_id, seq=shard.seq, attempt=shard.attempt, reason=failed.reason)
        return Outcome(
            seq=shard.seq,
            attempts=shard.attempt + 1,
            input_bytes=len(shard.payload),
            started_ms=failed.started_ms,
            duration_us=failed.duration_us,
            failure=Failure(failed.reason, failed.error, (*shard.history, error), _address(address)),
        )

    def _outcome_records(self, owner: Identity, outcomes: Sequence[Outcome]) -> Iterator[OutRecord]:
        part: list[Outcome] = []
        size_bytes = 0
        for outcome in outcomes:
            outcome_bytes = len(outcome.output) + len(outcome.carry)
            if part and size_bytes + outcome_bytes > _EVENT_BYTES:
                yield self._event(Outcomes(owner, self._worker, part), owner)
                part, size_bytes = [], 0
            part.append(outcome)
            size_bytes += outcome_bytes
        if part:
            yield self._event(Outcomes(owner, self._worker, part), owner)

    def _event(self, event: Event, owner: Identity) -> OutRecord:
        headers, value = encode_event(event)
        partition = event_partition(owner.job_id, self._event_partitions)
        return OutRecord(self._topics.job_events, value, owner.job_id.encode(), headers, partition)

    async def _publish(self, records: Sequence[OutRecord]) -> None:
        if not records:
            return
        try:
            await self._outbox.publish(records)
        except RecordTooLarge as error:  # limits derive from one number, so this is a fault of our own: say it loudly
            log.error("record-too-large", records=len(records), error=str(error))
            raise


def _done(shard: Shard, result: Done) -> Outcome:
    output, carry = unpack_step(result.output) if shard.chained else (result.output, b"")
    return Outcome(
        seq=shard.seq,
        attempts=shard.attempt + 1,
        input_bytes=len(shard.payload),
        started_ms=result.started_ms,
        duration_us=result.duration_us,
        output=output,
        carry=carry,
    )


def attempt_error(shard: Shard, failed: Failed, worker: str) -> AttemptError:
    """A failed execution as history has it."""
    return AttemptError(
        attempt=shard.attempt,
        reason=failed.reason,
        error=failed.error,
        worker=worker,
        started_ms=failed.started_ms,
        duration_ms=failed.duration_us // 1000,
    )


def _address(address: RecordAddress) -> DeadLetterAddress:
    return DeadLetterAddress(address.partition, address.offset)


def _origin(record: Record) -> list[tuple[str, bytes]]:
    return [
        ("kafka_dlt-original-topic", record.topic.encode()),
        ("kafka_dlt-original-partition", str(record.partition).encode()),
        ("kafka_dlt-original-offset", str(record.offset).encode()),
    ]
