"""One right record of every kind, and how each is read and written again: odd records are made of these."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fuzz_records.odd import Content
from regather.core.checkpoint import CheckpointMark
from regather.core.model import (
    Abandoned,
    AttemptError,
    AttemptFailed,
    BadRow,
    Cancel,
    DeadLetterAddress,
    Event,
    Failure,
    Identity,
    JobState,
    OffsetRange,
    Opened,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    RecordPlace,
    Redriven,
    Sealed,
    Shard,
    Tick,
    Uploading,
)
from regather.core.status import JobStatus, ResultAddress, ShardError
from regather.core.worker_report import WorkerReport
from regather.topics.layout import Topics
from regather.wire.checkpoints import decode_checkpoint, encode_checkpoint
from regather.wire.control import decode_ended, encode_ended
from regather.wire.documents import decode_final, decode_status, encode_final, encode_status
from regather.wire.events import decode_event, encode_event
from regather.wire.identity import HEADER, header_map, pack_identity, required, unpack_identity
from regather.wire.shards import decode_shard, released_record, shard_headers
from regather.wire.worker_reports import decode_report, encode_report

MOMENT_MS = 1_767_225_600_000
_DEADLINE_MS = MOMENT_MS + 60_000
ATTEMPT = AttemptError(1, Reason.TIMED_OUT, "too slow", "w-1", MOMENT_MS, 15_000)
FAILURE = Failure(Reason.RAISED, "no", (ATTEMPT, ATTEMPT), DeadLetterAddress(0, 77))
BAD_ROW = BadRow(9, Reason.PERMANENT, "bad", DeadLetterAddress(1, 2))
REPORT = WorkerReport("w-1", "host", "1.0", ("k", "l"), 2, 1, 4, 3, 10_000_000, 0.5, 0.1)
MARK = CheckpointMark(3, MOMENT_MS, MOMENT_MS, 2, 88)
RESULT = b"result"


@dataclass(frozen=True)
class Sample:
    """A right record of the topics `topics`. `encode(decode(content))` is the same record."""

    name: str
    topics: tuple[str, ...]
    content: Content
    decode: Callable[[Content], Any]
    encode: Callable[[Any], Content]


def samples(owner: Identity, topics: Topics | None = None) -> list[Sample]:
    """Return a sample of every kind of record of this job."""
    topics = topics or Topics()
    return [*_shards(owner, topics), *_events(owner, topics), *_documents(owner, topics), *_others(owner, topics)]


def _shards(owner: Identity, topics: Topics) -> list[Sample]:
    shard = Shard(owner, 4, "rows", b'{"rows":1}', b"x.0:ok0\n", b'{"row":1}', 2_000, 2, (ATTEMPT,), 10, skip=True)
    place = RecordPlace(topics.shards_small, 1, 12)
    released = shard._replace(kind="chained", chained=True, source=place, payload=b"", carry=b"carry")
    names = (topics.shards_small, topics.shards_bulk, topics.shards_retry, topics.dead_letters)
    return [
        Sample("shard", names, _shard_again(shard), lambda content: decode_shard(*content), _shard_again),
        Sample("released shard", names, _shard_again(released), lambda content: decode_shard(*content), _shard_again),
    ]


def _shard_again(shard: Shard) -> Content:
    return released_record(shard) if shard.source else (shard_headers(shard), shard.payload)


def _events(owner: Identity, topics: Topics) -> list[Sample]:
    opened = Opened(owner, "rows", b'{"rows":1}', "team", _DEADLINE_MS, label="x", max_failed=3)
    place = RecordPlace(topics.shards_small, 1, 12)
    outcomes = [
        Outcome(0, 1, 10, MOMENT_MS, 55, b"output"),
        Outcome(1, 4, 10, MOMENT_MS, 55, b"", FAILURE),
        Outcome(2, 1, 10, MOMENT_MS, 55, b"output", None, b"carry"),
        Outcome(3, 1, 10, MOMENT_MS, 55, b"output", None, b"", (BAD_ROW,)),
    ]
    events: tuple[Event, ...] = (
        opened,
        replace(opened, kind="chained", chained=True, max_failed=None, max_failed_pct=1.5),
        Redriven(replace(opened, owner=owner._replace(version=2)), ((0, 3), (5, 5)), 17, MOMENT_MS),
        Uploading(owner, 12),
        Sealed(owner, 8, 8_000, "ab" * 32, (OffsetRange(topics.shards_small, 0, 1, 9),)),
        Abandoned(owner, "the client went away"),
        AttemptFailed(owner, 4, ATTEMPT),
        Parked(owner, 4, place, 2_000, b'{"row":1}'),
        Cancel(owner),
        Outcomes(owner, "w-1", outcomes),
        Tick(),
    )
    return [
        Sample(
            f"event {type(event).__name__}{' of a chain' if getattr(event, 'chained', False) else ''}",
            (topics.job_events,),
            encode_event(event),
            lambda content: decode_event(*content),
            encode_event,
        )
        for event in events
    ]


def _documents(owner: Identity, topics: Topics) -> list[Sample]:
    status = JobStatus(
        owner,
        JobState.PARTIAL,
        "rows",
        total=8,
        gaps=((1, 2),),
        errors=(ShardError(1, Reason.RAISED, "no", 4, (0, 77)), ShardError(2, Reason.RAISED, "no", 4, None, 9)),
        reason=Reason.SHARD_FAILED,
        result=ResultAddress(0, 5, 30, "text/csv", ((4, 20), (5, 10)), "ab" * 32),
    )
    return [
        Sample(
            "status",
            (topics.job_status,),
            encode_status(status, RESULT),
            lambda content: decode_status(*content),
            lambda found: encode_status(*found),
        ),
        Sample(
            "final",
            (topics.results,),
            encode_final(status, RESULT, "text/csv"),
            lambda content: decode_final(content[0]),
            lambda found: encode_final(found, RESULT, "text/csv"),
        ),
    ]


def _others(owner: Identity, topics: Topics) -> list[Sample]:
    segment = ([(HEADER, pack_identity(owner)), ("segment", b"0")], RESULT)
    return [
        Sample(
            "checkpoint",
            (topics.checkpoints,),
            encode_checkpoint(Uploading(owner, 12), MARK),
            lambda content: decode_checkpoint(*content),
            lambda found: encode_checkpoint(*found) if found else ([], None),
        ),
        Sample(
            "control",
            (topics.control,),
            encode_ended(owner, JobState.FAILED),
            lambda content: decode_ended(*content),
            lambda found: encode_ended(found, JobState.FAILED),
        ),
        Sample(
            "report",
            (topics.workers,),
            ([], encode_report(REPORT)),
            lambda content: decode_report(content[1] or b""),
            lambda found: ([], encode_report(found)),
        ),
        Sample(
            "segment",
            (topics.segments,),
            segment,
            lambda content: unpack_identity(required(header_map(content[0]), HEADER)),
            lambda found: ([(HEADER, pack_identity(found)), ("segment", b"0")], RESULT),
        ),
    ]
