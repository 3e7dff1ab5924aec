"""Whatever stands in a topic: it is read as a right value, or refused by a WireError. Nothing else happens."""

import random
from collections.abc import Callable

import pytest
from odd_records import DEEP, Content, odd

from regather.core.checkpoint import CheckpointMark
from regather.core.errors import WireError
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
    JobId,
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
    SubmissionId,
    Tick,
    Uploading,
)
from regather.core.status import JobStatus, ResultAddress, ShardError
from regather.core.worker_report import WorkerReport
from regather.wire.checkpoints import decode_checkpoint, encode_checkpoint
from regather.wire.commits import decode_commit
from regather.wire.control import decode_ended, encode_ended
from regather.wire.documents import decode_final, decode_status, encode_final, encode_status
from regather.wire.events import decode_event, encode_event
from regather.wire.restart_point import decode_restart_point
from regather.wire.shards import decode_shard, released_record, shard_headers
from regather.wire.worker_reports import decode_report, encode_report

OWNER = Identity(JobId("01939f00-0000-7000-8000-000000000001"), SubmissionId("00ff" * 4), 2)
ATTEMPT = AttemptError(1, Reason.TIMED_OUT, "too slow", "w-1", 1_700_000_000_000, 15_000)
FAILURE = Failure(Reason.RAISED, "no", (ATTEMPT, ATTEMPT), DeadLetterAddress(3, 77))
BAD_ROW = BadRow(9, Reason.PERMANENT, "bad", DeadLetterAddress(1, 2))
OPENED = Opened(OWNER, "rows-csv-sum", b'{"a":1}', "team", 1_800_000_000_000, label="x", chained=True, max_failed=3)
PLACE = RecordPlace("regather.shards", 3, 12)
SHARD = Shard(OWNER, 4, "k", b'{"a":1}', b"payload", b'{"row":1}', 15_000, 2, (ATTEMPT,), 10, skip=True)
PARKED = SHARD._replace(chained=True, source=PLACE, payload=b"", carry=b"carry")
EVENTS: tuple[Event, ...] = (
    OPENED,
    Redriven(OPENED, ((0, 3), (5, 5)), 17, 1_700_000_000_000),
    Uploading(OWNER, 12),
    Sealed(OWNER, 8, 8_000, "ab" * 32, (OffsetRange("regather.shards", 0, 1, 9),)),
    Abandoned(OWNER, "the client went away"),
    AttemptFailed(OWNER, 4, ATTEMPT),
    Parked(OWNER, 4, PLACE, 15_000, b'{"row":1}'),
    Cancel(OWNER),
    Outcomes(
        OWNER,
        "w-1",
        [
            Outcome(0, 1, 10, 1_700_000_000_000, 55, b"output"),
            Outcome(1, 4, 10, 1_700_000_000_000, 55, b"", FAILURE),
            Outcome(2, 1, 10, 1_700_000_000_000, 55, b"output", None, b"carry"),
            Outcome(3, 1, 10, 1_700_000_000_000, 55, b"output", None, b"", (BAD_ROW,)),
        ],
    ),
    Tick(),
)
STATUS = JobStatus(
    OWNER,
    JobState.PARTIAL,
    "k",
    total=8,
    gaps=((1, 2),),
    errors=(ShardError(1, Reason.RAISED, "no", 4, (3, 77)), ShardError(2, Reason.RAISED, "no", 4, None, 9)),
    reason=Reason.SHARD_FAILED,
    result=ResultAddress(1, 5, 30, "text/csv", ((4, 20), (5, 10)), "ab" * 32),
)
REPORT = WorkerReport("w-1", "host", "1.0", ("k", "l"), 2, 1, 4, 3, 10_000_000, 0.5, 0.1)
MARK = CheckpointMark(3, 1_700_000_000_000, 1_700_000_000_000, 2, 88)

LONE = b'"\\ud800"'

Decode = Callable[[Content], object]
Encode = Callable[[object], Content]


def _of_shard(content: Content) -> Shard:
    return decode_shard(*content)


def _shard_again(shard: object) -> Content:
    assert isinstance(shard, Shard)
    return released_record(shard) if shard.source else (shard_headers(shard), shard.payload)


RECORDS: dict[str, tuple[Content, Decode, Callable[..., Content]]] = {
    "shard": ((shard_headers(SHARD), SHARD.payload), _of_shard, _shard_again),
    "released shard": (released_record(PARKED), _of_shard, _shard_again),
    **{
        f"event {type(event).__name__}": (encode_event(event), lambda content: decode_event(*content), encode_event)
        for event in EVENTS
    },
    "checkpoint": (
        encode_checkpoint(EVENTS[2], MARK),
        lambda content: decode_checkpoint(*content),
        lambda found: encode_checkpoint(*found) if found else ([], None),
    ),
    "status": (
        encode_status(STATUS, b"result"),
        lambda content: decode_status(*content),
        lambda found: encode_status(*found),
    ),
    "final": (
        encode_final(STATUS, b"result", "text/csv"),
        lambda content: decode_final(content[0]),
        lambda status: encode_final(status, b"result", "text/csv"),
    ),
    "control": (
        encode_ended(OWNER, JobState.FAILED),
        lambda content: decode_ended(*content),
        lambda owner: encode_ended(owner, JobState.FAILED),
    ),
    "report": (
        ([], encode_report(REPORT)),
        lambda content: decode_report(content[1] or b""),
        lambda report: ([], encode_report(report)),
    ),
}


@pytest.mark.parametrize("sort", RECORDS)
def test_an_odd_record_is_a_value_that_can_be_written_again_or_a_wire_error(sort: str) -> None:
    content, decode, encode = RECORDS[sort]
    refused = longest = 0
    for seed in range(1_500):
        changed = odd(content, random.Random(f"{sort} {seed}"))
        try:
            found = decode(changed)
        except WireError as error:
            refused += 1
            longest = max(longest, len(str(error)))
            continue
        assert decode(encode(found)) == found, f"seed {seed}"
    assert refused > 100 or sort == "event Tick"
    assert longest < 1_500  # a log line, not the record


@pytest.mark.parametrize(
    "metadata", ["[" * 4_000, "{", "null", '{"farewell":1}', '{"merges":[["x",1e999,2]]}', "\ud800"]
)
def test_odd_metadata_of_a_commit_counts_as_none_or_is_a_wire_error(metadata: str) -> None:
    assert decode_commit(7, metadata)[1] == set()
    with pytest.raises(WireError):
        decode_restart_point(metadata)


@pytest.mark.parametrize(
    ("sort", "field", "value"),
    [
        ("event Sealed", "shards", b"1000000000000"),
        ("event Sealed", "shards", b"true"),
        ("event Sealed", "shards", b'"8"'),
        ("event Sealed", "size_bytes", b"-1"),
        ("event Sealed", "places", b'[["no topic!",0,1,2]]'),
        ("event Opened", "deadline_ms", b"99999999999999999"),
        ("event Opened", "options", DEEP),
        ("event Opened", "on_error", b'"retry"'),
        ("event Redriven", "seqs", b"[[5,3]]"),
        ("event Redriven", "created_ms", b"1e999"),
        ("event Abandoned", "error", LONE),
        ("event Parked", "place", b'["regather.shards",-1,0]'),
        ("event AttemptFailed", "reason", b'"bad-luck"'),
        ("control", "ended", b'"maybe"'),
        ("report", "kinds", b"[1]"),
        ("report", "lag_s", b"NaN"),
        ("status", "version", b"65536"),
        ("status", "updated_ms", b"99999999999999999999999"),
        ("status", "job_id", b'"../x"'),
    ],
)
def test_a_field_of_another_type_or_range_is_refused_by_its_name(sort: str, field: str, value: bytes) -> None:
    (headers, written), decode, _ = RECORDS[sort]
    assert written is not None
    start = written.index(b'"%s":' % field.encode())
    with pytest.raises(WireError, match="JSON" if value in (DEEP, LONE) else field):
        decode(
            (
                headers,
                written[:start]
                + b'"%s":%s,"%s-old":' % (field.encode(), value, field.encode())
                + written[start + len(field) + 3 :],
            )
        )
