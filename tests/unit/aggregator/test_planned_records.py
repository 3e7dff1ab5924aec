"""Records that would be too large for their topics are made to fit, or end their job."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.aggregator.world import TOPICS, World, done, job, opened, whole

from regather.core.job_events import Assembled, JobBroken, JobEvent
from regather.core.model import (
    Failure,
    Identity,
    JobState,
    OnError,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    RecordPlace,
    Sealed,
    Shard,
)
from regather.core.reassembly import EmitFinal, JobFold, Release
from regather.testing.waiting import eventually
from regather.topics.layout import EVENT_RECORD_BYTES, RESULT_RECORD_BYTES, RETRY_RECORD_BYTES
from regather.wire.documents import decode_final, decode_status
from regather_aggregator.planned_records import (
    WHOLE_RESULT_BYTES,
    PlannedFinal,
    PlannedRelease,
    minimal_final,
    plan_final,
    plan_progress,
    plan_release,
    record_bytes,
)

GAPS = 75_000
OWNER = job()


def failed_every_second(owner: Identity, failed: int, error: str = "boom") -> Outcomes:
    failure = Failure(Reason.RAISED, error)
    return Outcomes(owner, "w", [Outcome(2 * n, 4, 4, 0, 1, failure=failure) for n in range(failed)])


def fold_of(*events: JobEvent, label: str = "", kind: str = "diagnostics") -> JobFold:
    begin = replace(opened(OWNER, OnError.SKIP), label=label, kind=kind, tenant=label)
    fold = JobFold(begin, offset=0, opened_ms=1)
    for event in events:
        fold.handle(event, 2)
    return fold


def fits(record: tuple[list[tuple[str, bytes]], bytes]) -> bool:
    return record_bytes(record) < RESULT_RECORD_BYTES - 1024


async def test_a_status_with_more_gaps_than_a_record_holds_stops_nobody(world: World) -> None:
    aggregator = await world.start()
    owner = job()
    await world.tell(opened(owner, OnError.SKIP), failed_every_second(owner, GAPS), *whole(job(2)))
    await eventually(lambda: [s for s in world.statuses() if s.failed == GAPS], what="the progress of the large job")
    await eventually(world.finals, what="the other job's final")
    assert decode_final(world.finals()[0].headers).owner == job(2)
    await world.tell(done(owner, *range(1, 2 * GAPS, 2)), Sealed(owner, 2 * GAPS, 4, "d"))
    await eventually(lambda: len(world.finals()) == 2, what="the large job's final")
    final = decode_final(world.finals()[1].headers)
    assert (final.state, final.reason, final.failed) == (JobState.FAILED, Reason.INTERNAL, GAPS)
    assert "the final would have" in final.error
    assert aggregator.counts.restarts == 0


async def test_a_carry_that_no_record_of_the_retry_topic_holds_ends_its_job_only(world: World) -> None:
    aggregator = await world.start()
    chain = replace(opened(OWNER), chained=True)
    carry = bytes(RETRY_RECORD_BYTES)
    outcome = Outcome(0, 1, 4, 0, 1, carry=carry)
    assert len(carry) < EVENT_RECORD_BYTES
    parked = Parked(OWNER, 1, RecordPlace(TOPICS.shards_bulk, 0, 0), 1_000)
    await world.tell(chain, parked, Outcomes(OWNER, "w", [outcome]), *whole(job(2)))
    await eventually(lambda: len(world.finals()) == 2, what="both finals")
    ends = {final.owner: final for final in (decode_final(record.headers) for record in world.finals())}
    assert (ends[OWNER].reason, ends[job(2)].state) == (Reason.INTERNAL, JobState.SUCCEEDED)
    assert "shard 1 with its carry has" in ends[OWNER].error
    assert aggregator.counts.restarts == 0


@settings(max_examples=15)
@given(st.integers(0, 300), st.sampled_from(["boom", "\U0001f4a5" * 1_000, "\x01" * 1_000]), st.booleans())
def test_every_status_of_an_open_job_fits_into_its_record(failed: int, error: str, long_texts: bool) -> None:
    text = "\U0001f4a5" * RESULT_RECORD_BYTES if long_texts else "text"
    fold = fold_of(failed_every_second(OWNER, failed, error), label=text, kind=text)
    planned = plan_progress(fold)
    status, _ = decode_status(*planned.record)
    assert fits(planned.record)
    assert (status.owner, status.state, status.failed) == (OWNER, JobState.SPLITTING, failed)
    if not long_texts:
        assert status.gaps == fold.status().gaps


def test_a_large_result_is_kept_where_only_the_errors_of_its_final_are_too_large() -> None:
    fold = fold_of(failed_every_second(OWNER, 100, "\U0001f4a5" * 1_000), done(OWNER, *range(1, 200, 2)))
    fold.handle(Sealed(OWNER, 200, 4, "d"), 3)
    told = fold.handle(Assembled(bytes(WHOLE_RESULT_BYTES), "text/plain"), 4)
    assert isinstance(told, EmitFinal)
    planned = plan_final(told, 0)
    assert fits(planned.final)
    assert (planned.status.state, planned.status.failed) == (JobState.PARTIAL, 100)
    assert [error.seq for error in planned.status.errors] == list(range(0, 20, 2))
    assert len(planned.status.gaps) == 100


def test_a_final_leaves_room_for_the_addresses_of_its_segments() -> None:
    segments = 300
    result = bytes(segments * WHOLE_RESULT_BYTES)

    def planned(label: str) -> PlannedFinal:
        fold = fold_of(done(OWNER, 0), label=label)
        fold.handle(Sealed(OWNER, 1, 4, "d"), 3)
        told = fold.handle(Assembled(result, "text/plain"), 4)
        assert isinstance(told, EmitFinal)
        return plan_final(told, 0)

    room_bytes = RESULT_RECORD_BYTES - 5 * 1024 - record_bytes(planned("").final)
    near = planned("x" * (room_bytes // 2))  # the label is the tenant as well
    addresses = segments * len(",[99999999999999,786432]")
    assert record_bytes(near.final) + addresses * bool(near.result) < RESULT_RECORD_BYTES
    small = planned("x")
    assert (small.status.state, small.segmented) == (JobState.SUCCEEDED, True)


@pytest.mark.parametrize(("beyond_bytes", "planned"), [(-8 * 1024, PlannedRelease), (0, JobBroken)])
def test_a_release_counts_its_headers(beyond_bytes: int, planned: type) -> None:
    meta = b"m" * (RETRY_RECORD_BYTES + beyond_bytes)
    shard = Shard(OWNER, 1, "k", b"{}", b"", meta, chained=True, source=RecordPlace(TOPICS.shards_bulk, 0, 0))
    assert isinstance(plan_release(Release(fold_of(), shard)), planned)


def test_a_minimal_final_takes_nothing_of_any_length() -> None:
    text = "\x01" * RESULT_RECORD_BYTES
    planned = minimal_final(fold_of(label=text, kind=text), text)
    assert fits(planned.final)
    status = decode_final(planned.final[0])
    assert (status.state, status.reason) == (JobState.FAILED, Reason.INTERNAL)
