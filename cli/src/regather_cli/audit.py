"""Audits a whole installation from its topics alone, as any Kafka consumer could; it calls no Regather service.

The audit reads one partition after the other. It checks each final while it reads the partition's events alongside, up
to five seconds past the final's time, so that it holds only open jobs in memory. It fixes the end of every log first,
that of results before the others: every record that led to a final is in the other logs by then.
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regather.audit.dead_letter_index import DeadLetterIndex
from regather.audit.final_check import FinalCheck
from regather.audit.findings import AuditResult, AuditTally, Inconclusive, Violation
from regather.audit.partition_audit import MissingFinal, PartitionAudit, judge_missing
from regather.core.errors import BadRequest, BrokerUnavailable, OffsetOutOfRange
from regather.core.ids import event_partition
from regather.core.model import JobId
from regather.processors.registry import all_kinds, options_from_json
from regather.topics.layout import Topics
from regather.transport.base import Consumer, Record, TopicPartition, Transport
from regather.transport.log_reader import LogReader
from regather.wire.identity import header_map

_POLL_S = 0.2
_STALL_S = 60.0
_AHEAD_MS = 5_000
"""How far past a final's time the audit reads events: the clocks of two brokers may differ."""

_FETCH_BYTES = 16 * 1024 * 1024
_BATCH_RECORDS = 500
_PIECES_A_SCAN = 16


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What to audit. A final is missing `grace_s` seconds after its job's deadline; `limit` violations are listed."""

    job: JobId | None = None
    grace_s: float = 60.0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The ends of all logs, fixed at the start. The beginnings are determined when a log is read."""

    ends: Mapping[TopicPartition, int]

    def of(self, topic: str) -> list[TopicPartition]:
        return sorted(tp for tp in self.ends if tp.topic == topic)


async def audit(transport: Transport, topics: Topics, options: AuditOptions) -> dict[str, Any]:
    """Return the report as one document; raises BrokerUnavailable, OffsetOutOfRange, TimeoutError."""
    started = time.monotonic()
    tally = AuditTally(options.limit)
    reader = LogReader(transport, fetch_max_bytes=_FETCH_BYTES)
    consumers = [transport.consumer(fetch_max_bytes=_FETCH_BYTES) for _ in range(2)]
    try:
        for consumer in consumers:
            await consumer.start()
        bounds = await _bounds(transport, consumers[0], topics)
        dead_letters = await _read_dead_letters(consumers[0], bounds, topics, options, tally)
        missing: list[MissingFinal] = []
        for number in _partitions(bounds, topics, options):
            auditor = _PartitionAuditor(number, topics, bounds, consumers, reader)
            missing += await auditor.run(tally, dead_letters, options.job)
    finally:
        for consumer in consumers:
            await consumer.stop()
        await reader.stop()
    judge_missing(missing, tally, grace_ms=int(options.grace_s * 1000), now_ms=time.time_ns() // 1_000_000)
    return _document(tally, dead_letters, time.monotonic() - started)


class _Log:
    """Yields the records of one partition from its beginning to the fixed end, without decoding them."""

    def __init__(self, consumer: Consumer, tp: TopicPartition, end: int) -> None:
        self._consumer = consumer
        self._tp = tp
        self._end = end
        self.beginning = 0

    async def batches(self) -> AsyncIterator[Sequence[Record]]:
        consumer, tp = self._consumer, self._tp
        consumer.assign([tp])
        consumer.seek(tp, self.beginning)
        consumer.resume([tp])
        stalled = time.monotonic() + _STALL_S
        while await consumer.position(tp) < self._end:
            records = (await consumer.poll(_POLL_S, _BATCH_RECORDS)).get(tp, ())
            if records:
                stalled = time.monotonic() + _STALL_S
                yield [record for record in records if record.offset < self._end]
            elif time.monotonic() > stalled:
                raise TimeoutError(f"no record of {tp.topic}-{tp.partition} arrived for {_STALL_S:g} s before its end")

    async def begin(self) -> "_Log":
        self.beginning = (await self._consumer.beginning_offsets([self._tp]))[self._tp]
        return self


class _PartitionAuditor:
    """Checks the finals of one partition."""

    def __init__(
        self, number: int, topics: Topics, bounds: _Bounds, consumers: Sequence[Consumer], reader: LogReader
    ) -> None:
        self._results = TopicPartition(topics.results, number)
        self._segments = TopicPartition(topics.segments, number)
        self._events = TopicPartition(topics.job_events, number)
        self._bounds = bounds
        self._consumers = consumers
        self._reader = reader

    async def run(self, tally: AuditTally, dead_letters: DeadLetterIndex, only: JobId | None) -> list[MissingFinal]:
        """Read results and events side by side and check every final; return the versions without one."""
        finals = await _Log(self._consumers[0], self._results, self._bounds.ends[self._results]).begin()
        events = await _Log(self._consumers[1], self._events, self._bounds.ends[self._events]).begin()
        audit = PartitionAudit(
            tally, dead_letters, joins, begins_at=events.beginning, results_begin=finals.beginning, only=only
        )
        ahead = _Ahead(events.batches(), audit)
        late: list[int] = []
        async for batch in finals.batches():
            for record in batch:
                await ahead.until(record.timestamp_ms + _AHEAD_MS)
                headers = header_map(record.headers)
                begun = audit.final(headers, append_ms=record.timestamp_ms)
                if begun is not None and not await self._judge(audit, begun, record, may_wait=True):
                    late.append(record.offset)
        await ahead.until(None)
        await self._read_again(audit)
        for offset in late:
            record = await self._reader.read(self._results, offset)
            await self._judge(audit, audit.again(header_map(record.headers)), record, may_wait=False)
        return audit.missing_finals()

    async def _read_again(self, audit: PartitionAudit) -> None:
        """Read the events of redriven jobs a second time, if there are any."""
        if audit.read_again_from is None:
            return
        events = await _Log(self._consumers[1], self._events, self._bounds.ends[self._events]).begin()
        audit.begin_again(events.beginning)
        events.beginning = max(events.beginning, audit.read_again_from)
        async for batch in events.batches():
            for record in batch:
                audit.event_again(header_map(record.headers), record.value, append_ms=record.timestamp_ms)

    async def _judge(
        self, audit: PartitionAudit, begun: FinalCheck | AuditResult, record: Record, *, may_wait: bool
    ) -> bool:
        check = begun if isinstance(begun, FinalCheck) else None
        if check is not None:
            check.whole(record.value or b"")
            await self._feed_pieces(check)
        verdict = begun if isinstance(begun, AuditResult) else begun.verdict()
        if verdict.findings and may_wait:
            return False
        audit.count(check, verdict)
        return True

    async def _feed_pieces(self, check: FinalCheck) -> None:
        pieces = check.final.pieces
        for first in range(0, len(pieces), _PIECES_A_SCAN):
            try:
                await self._feed_some(check, range(first, min(first + _PIECES_A_SCAN, len(pieces))))
            except OffsetOutOfRange:
                check.pieces_gone()
                return

    async def _feed_some(self, check: FinalCheck, indexes: range) -> None:
        """Pass some segments to the check, in the order of the final's list."""
        offsets = [check.final.pieces[index][0] for index in indexes]
        found: dict[int, Record] = {}
        end, last = self._bounds.ends[self._segments], max(offsets)

        def take(record: Record) -> bool:
            if record.offset in offsets:
                found[record.offset] = record
            return record.offset < last

        if min(offsets) < end:
            await self._reader.scan(self._segments, min(offsets), take)
        for index, offset in zip(indexes, offsets, strict=True):
            record = found.get(offset)
            check.piece(index, header_map(record.headers) if record else None, record.value or b"" if record else b"")


class _Ahead:
    """Passes events to an audit, up to a time."""

    def __init__(self, batches: AsyncIterator[Sequence[Record]], audit: PartitionAudit) -> None:
        self._batches = batches
        self._audit = audit
        self._reached_ms: int | None = 0

    async def until(self, time_ms: int | None) -> None:
        """Pass events until one is later than `time_ms`; None: pass all."""
        while self._reached_ms is not None and (time_ms is None or self._reached_ms <= time_ms):
            batch = await anext(self._batches, None)
            for record in batch or ():
                self._audit.event(header_map(record.headers), record.value, append_ms=record.timestamp_ms)
                self._reached_ms = record.timestamp_ms
            if batch is None:
                self._reached_ms = None


def joins(kind: str, options: bytes) -> bool | None:
    """Whether the kind's result is its joined outputs; None if the kind or its options are unknown here."""
    processor = all_kinds().get(kind)
    if processor is None:
        return None
    try:
        return not processor.merges_outputs(options_from_json(processor, options))
    except BadRequest:
        return None


async def _bounds(transport: Transport, consumer: Consumer, topics: Topics) -> _Bounds:
    names = [topics.results, topics.segments, topics.job_events, topics.dead_letters]
    counts = await transport.partition_counts(names)
    missing = [name for name in names if name not in counts]
    if missing:
        raise BrokerUnavailable(f"topics are missing: {', '.join(missing)}; is REGATHER_TOPIC_PREFIX (--prefix) right?")
    frozen = {name: counts[name] for name in names[:3]}
    if len(set(frozen.values())) > 1:
        raise BrokerUnavailable(f"partition counts differ: {frozen}; run `regather topics check` for the remedy")
    ends: dict[TopicPartition, int] = {}
    for name in names:
        ends |= await consumer.end_offsets([TopicPartition(name, number) for number in range(counts[name])])
    return _Bounds(ends)


def _partitions(bounds: _Bounds, topics: Topics, options: AuditOptions) -> range:
    count = len(bounds.of(topics.results))
    if options.job is None:
        return range(count)
    number = event_partition(options.job, count)
    return range(number, number + 1)


async def _read_dead_letters(
    consumer: Consumer, bounds: _Bounds, topics: Topics, options: AuditOptions, tally: AuditTally
) -> DeadLetterIndex:
    logs = [(tp, await _Log(consumer, tp, bounds.ends[tp]).begin()) for tp in bounds.of(topics.dead_letters)]
    dead_letters = DeadLetterIndex({tp.partition: log.beginning for tp, log in logs})
    for tp, log in logs:
        async for batch in log.batches():
            for record in batch:
                tally.saw(record.timestamp_ms)
                if options.job is None or record.key == options.job.encode():
                    dead_letters.add(tp.partition, record.offset, header_map(record.headers))
    return dead_letters


def _document(tally: AuditTally, dead_letters: DeadLetterIndex, seconds: float) -> dict[str, Any]:
    wrong = sum(tally.violations.values())
    inconclusive = {why.value: tally.inconclusive[why] for why in Inconclusive if tally.inconclusive[why]}
    return {
        "audit": "violations" if wrong else "inconclusive" if inconclusive else "clean",
        "seconds": round(seconds, 1),
        "opened": tally.opened,
        "redriven": tally.redriven,
        "jobs": tally.sealed,
        "open": tally.open,
        "finals": tally.finals,
        "versions_checked": tally.checked,
        "shards": tally.shards,
        "dead_letters": len(dead_letters),
        **{violation.value: tally.violations[violation] for violation in Violation},
        "executions_max": tally.executions_max,
        "duplicates_folded": tally.duplicates,
        "events_dropped": dict(tally.dropped),
        "inconclusive": inconclusive,
        "untold": inconclusive,  # its earlier name, for one release
        "violations": [
            {"violation": f.violation.value, "job": f.job_id, "version": f.version, "detail": f.detail}
            for f in tally.findings
        ],
    }
