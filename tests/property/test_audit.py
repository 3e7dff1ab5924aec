"""The audit: whatever the services may do is clean, and every way of breaking the promise is seen and named."""

import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property.audited_partition import (
    JOIN,
    MERGE,
    UNKNOWN,
    Installation,
    Written,
    damaged,
    dead,
    done,
    opened,
    redriven,
)

from regather.audit.dead_letter_index import DeadLetterIndex
from regather.audit.final_check import FinalCheck, JoinedContent
from regather.audit.findings import AuditTally, Inconclusive, Violation
from regather.audit.partition_audit import PartitionAudit
from regather.audit.version_log import fingerprint
from regather.core.ids import uuid7
from regather.core.model import (
    Abandoned,
    AttemptError,
    AttemptFailed,
    Cancel,
    DeadLetterAddress,
    Event,
    Identity,
    JobState,
    OnError,
    Opened,
    Reason,
    Redriven,
    Sealed,
    SubmissionId,
    Tick,
    Uploading,
)
from regather.core.status import MAX_ERRORS_SHOWN, JobStatus, ResultAddress
from regather.wire.documents import decode_final, encode_final
from regather.wire.events import decode_event, encode_event
from regather.wire.identity import HEADER, pack_identity, unpack_identity

pytestmark = pytest.mark.long

Step = Callable[[Installation], None]
LATER_MS = 7_200_000


def owner(number: int = 1, submission: str = "aa", version: int = 1) -> Identity:
    return Identity(uuid7(number, bytes(10)), SubmissionId(submission * 8), version)


def sealed(who: Identity, shards: int) -> Sealed:
    return Sealed(who, shards, 4 * shards, "sha256:x")


def tell(event: Event) -> Step:
    return lambda installation: installation.tell(event)


def bury(who: Identity, seq: int) -> Step:
    return lambda at: at.tell(dead(who, seq, at.bury(who, seq)))


def bury_rows(who: Identity, seq: int) -> Step:
    return lambda at: at.tell(damaged(who, seq, [(row, at.bury(who, seq, row)) for row in (10 * seq, 10 * seq + 3)]))


def tick(ms: int) -> Step:
    def step(installation: Installation) -> None:
        installation.now_ms += ms
        installation.tell(Tick())

    return step


@st.composite
def steps_of_a_job(draw: st.DrawFn, number: int) -> list[Step]:
    me, other = owner(number), owner(number, "ff")
    shards = draw(st.integers(1, 5))
    skip = draw(st.booleans())
    kind = draw(st.sampled_from([JOIN, MERGE]))
    limits = {"max_failed": draw(st.none() | st.integers(0, 3)), "max_failed_pct": draw(st.none() | st.floats(1, 99))}
    first = opened(me, kind, on_error=OnError.SKIP if skip else OnError.FAIL, **limits)
    steps: list[Step] = []
    for seq in range(shards + draw(st.integers(0, 1))):
        fate = draw(st.sampled_from(["done", "done", "done", "dead", "damaged", "lost"]))
        output = draw(st.binary(max_size=12))
        steps += {
            "done": [tell(done(me, seq, output))] * draw(st.integers(1, 2)),
            "dead": [bury(me, seq)],
            "damaged": [bury_rows(me, seq)] if skip else [tell(done(me, seq))],
            "lost": [],
        }[fate]
        retry = AttemptFailed(me, seq, AttemptError(draw(st.integers(0, 2)), Reason.RAISED, "x", "w", 0, 1))
        steps += [tell(retry)] * draw(st.integers(0, 1))
        steps += [tell(done(other, seq, b"FOREIGN"))] * draw(st.integers(0, 1))
    steps += [tell(sealed(me, shards))] * draw(st.integers(0, 2))
    steps += [tell(sealed(other, 1)), tell(opened(other))] * draw(st.integers(0, 1))
    steps += [tell(Cancel(me))] * draw(st.sampled_from([0, 0, 0, 1]))
    steps += [tell(Uploading(me, 1))] * draw(st.integers(0, 1))
    steps += [tell(first)] * draw(st.integers(0, 1))
    return [tell(first), *(steps[at] for at in draw(st.permutations(range(len(steps)))))]


@st.composite
def installations(draw: st.DrawFn) -> Installation:
    """Up to four jobs side by side, each to its end, and some of them once more."""
    installation = Installation(in_pieces=draw(st.booleans()))
    queues = [draw(steps_of_a_job(number)) for number in range(1, draw(st.integers(1, 4)) + 1)]
    while any(queues):
        live = [queue for queue in queues if queue]
        live[draw(st.integers(0, len(live) - 1))].pop(0)(installation)
        if draw(st.integers(0, 9)) == 0:
            tick(draw(st.sampled_from([1, 1_000, 61_000, LATER_MS])))(installation)
    tick(LATER_MS)(installation)
    event: Event
    for final in list(installation.results):
        status = status_of(final)
        if status.reason is Reason.NOT_SEALED and draw(st.booleans()):
            again = status.owner._replace(version=2, submission=SubmissionId("bb" * 8))
            for event in (opened(again), done(again, 0), sealed(again, 1)):
                installation.tell(event)
        elif draw(st.booleans()):
            draw_redrives(draw, installation, status)
    for event in (done(owner(99), 0), sealed(owner(98), 1), Cancel(owner(97))):
        installation.tell(event)
    tick(LATER_MS)(installation)
    return installation


def draw_redrives(draw: st.DrawFn, installation: Installation, status: JobStatus) -> None:
    """One or two redrives of a job that has ended, among outcomes of earlier versions and redrives that come too late.

    Each event has a millisecond of its own: the order of an end and a redrive is told by the log's time.
    """
    total = status.total or 3
    first = opened_by(installation, status.owner)
    origin = next(n for n, event in enumerate(installation.events) if decoded(event) == first)
    for version in range(2, draw(st.integers(2, 3)) + 1):
        me = status.owner._replace(version=version)
        seqs = draw(st.sets(st.integers(0, total - 1), min_size=1))
        late = [tell(done(me._replace(version=version - 1), seq, b"LATE")) for seq in range(total)]
        steps = [*late[: draw(st.integers(0, total))], tell(redriven(first, version, sorted(seqs), origin))]
        dies = draw(st.sets(st.sampled_from(sorted(seqs))))
        rest = [bury(me, seq) if seq in dies else tell(done(me, seq, b"AGAIN")) for seq in seqs]
        rest += [tell(done(me, seq, b"UNINVITED")) for seq in range(total)]
        rest += [*late, tell(redriven(first, version, [0], origin)), tell(sealed(me, total))]
        rest += [tell_after(me, redriven(first, version + 1, [0], origin))] * draw(st.integers(0, 1))
        rest += draw(st.sampled_from([[], [], [tell(Cancel(me))], [tell(Abandoned(me, "gone"))]]))
        for step in (*steps, *draw(st.permutations(rest))):
            tick(1)(installation)
            step(installation)
        tick(draw(st.sampled_from([1, LATER_MS])))(installation)


def tell_after(who: Identity, event: Redriven) -> Step:
    """Tell it if that version has ended; no gateway redrives one that is open."""

    def step(installation: Installation) -> None:
        if any(status_of(final).owner == who for final in installation.results):
            installation.tell(event)

    return step


def decoded(event: Written) -> object:
    return decode_event(event.headers.items(), event.value)


def opened_by(installation: Installation, who: Identity) -> Opened:
    found = (event for event in map(decoded, installation.events) if isinstance(event, Opened))
    return next(event for event in found if event.owner == who)


def status_of(final: Written) -> JobStatus:
    return decode_final(final.headers.items())


@given(installations(), st.booleans())
def test_whatever_the_rules_do_is_clean(installation: Installation, eager: bool) -> None:
    tally = installation.audit(eager=eager)
    assert tally.findings == []
    assert tally.inconclusive == Counter()
    assert tally.finals == tally.checked == len(installation.results)
    assert tally.open == 0
    assert tally.executions_max <= 4


@given(installations(), st.data())
def test_a_final_that_comes_twice_or_not_at_all_is_seen(installation: Installation, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(installation.results) - 1))
    final = installation.results[at]
    installation.results.append(final)
    assert only(installation, Violation.DUPLICATE_FINALS)
    installation.results = [other for other in installation.results if other is not final]
    status = status_of(final)
    following = status.owner.job_id, status.owner.version + 1
    seal = dict(encode_event(sealed(status.owner, 1))[0])
    was_sealed = any(event.headers == seal for event in installation.events)
    if any(
        (status_of(other).owner.job_id, status_of(other).owner.version) == following for other in installation.results
    ):  # the version after it has no reason to be
        assert only(installation, Violation.GHOSTS, *([Violation.UNFINISHED] if was_sealed else []))
    elif was_sealed:
        assert only(installation, Violation.UNFINISHED)
    else:
        assert installation.audit().findings == []


@given(installations(), st.data())
def test_a_byte_that_is_changed_is_seen(installation: Installation, data: st.DataObject) -> None:
    joined = {status_of(final).owner for final in installation.results if status_of(final).kind == JOIN}
    whole = [final for final in installation.results if final.value and status_of(final).owner in joined]
    pieces = list(installation.segments.values())
    if not whole and not pieces:
        return
    victim = data.draw(st.sampled_from(whole or pieces))
    at = data.draw(st.integers(0, len(victim.value) - 1))
    victim.value = victim.value[:at] + bytes([victim.value[at] ^ 1]) + victim.value[at + 1 :]
    seen = set(installation.audit().violations)
    assert Violation.WRONG in seen if whole else Violation.SEGMENTS_WRONG in seen


def only(installation: Installation, *violations: Violation) -> bool:
    """Whether the audit finds each of these, and nothing else, whether or not the clocks of brokers agree."""
    found = [set(installation.audit(eager=eager).violations) for eager in (False, True)]
    assert found == [set(violations)] * 2, found
    return True


def finished(
    *steps: Step, shards: int = 3, in_pieces: bool = False, number: int = 1, **opened_with: Any
) -> Installation:
    """One job with some shards, of which `steps` settle the first ones and outcomes the rest."""
    installation, me = Installation(in_pieces=in_pieces), owner(number)
    installation.tell(opened(me, **opened_with))
    for step in steps:
        step(installation)
    for seq in range(len(steps), shards):
        installation.tell(done(me, seq))
    installation.tell(sealed(me, shards))
    return installation


def rewrite(installation: Installation, **changes: object) -> None:
    """Change what the one final says."""
    (final,) = installation.results
    rewrite_one(final, **changes)


def rewrite_one(final: Written, **changes: Any) -> None:
    status = replace(status_of(final), **changes)
    final.headers = dict(encode_final(status, b"", "text/plain")[0])


def partial(*steps: Step, **opened_with: Any) -> Installation:
    return finished(*steps, on_error=OnError.SKIP, **opened_with)


@pytest.mark.parametrize(
    "changes",
    [
        {"total": 4},
        {"done": 2},
        {"failed": 1},
        {"frontier": 2},
        {"bad_rows": 1},
        {"size_bytes": 1},
        {"digest": "sha256:y"},
        {"kind": MERGE},
        {"state": JobState.PARTIAL},
    ],
    ids=str,
)
def test_a_count_or_word_that_disagrees_with_the_log_is_wrong(changes: dict[str, object]) -> None:
    installation = finished()
    rewrite(installation, **changes)
    assert only(installation, Violation.WRONG)


def test_headers_that_disagree_with_the_document_are_wrong() -> None:
    for name, value in (("job_id", b"x"), ("version", b"2"), ("state", b"failed")):
        installation = finished()
        installation.results[0].headers[name] = value
        assert only(installation, Violation.WRONG)


def test_a_final_that_cannot_be_read_is_wrong() -> None:
    for name in ("document", HEADER):
        installation = finished()
        del installation.results[0].headers[name]
        tick(LATER_MS)(installation)
        assert only(installation, Violation.WRONG, Violation.UNFINISHED)


def test_gaps_must_be_those_of_the_log() -> None:
    installation = partial(bury(owner(), 0))
    assert installation.audit().findings == []
    rewrite(installation, gaps=((1, 1),))
    assert only(installation, Violation.WRONG)
    rewrite(installation, gaps=())
    assert only(installation, Violation.WRONG)
    rewrite(installation, gaps=((0, 2**40),))
    assert only(installation, Violation.WRONG)


@pytest.mark.parametrize("value", [b"<0><1>", b"<0><1><2><3>"], ids=["an output too few", "bytes too many"])
def test_a_result_whose_length_is_as_it_says_and_not_as_the_outputs_are_is_wrong(value: bytes) -> None:
    installation = finished()
    result = status_of(installation.results[0]).result
    assert result is not None
    rewrite(installation, result=replace(result, size_bytes=len(value)))
    installation.results[0].value = value
    assert only(installation, Violation.WRONG)


def test_the_first_seal_counts() -> None:
    installation = finished(tell(sealed(owner(), 3)), tell(sealed(owner(), 7)), tell(done(owner(), 0)), shards=1)
    for seq in (1, 2):
        installation.tell(done(owner(), seq))
    assert status_of(installation.results[0]).total == 3
    assert installation.audit().findings == []


def test_errors_that_are_not_named_are_missed() -> None:
    installation = partial(bury(owner(), 0))
    rewrite(installation, errors=())
    assert only(installation, Violation.WRONG)


def test_a_bad_row_beyond_those_that_are_shown_has_a_letter_too() -> None:
    def bury_many(at: Installation) -> None:
        at.tell(damaged(owner(), 0, [(row, at.bury(owner(), 0, row)) for row in range(MAX_ERRORS_SHOWN + 1)]))

    installation = partial(bury_many)
    assert installation.audit().findings == []
    installation.letters.pop(max(installation.letters, key=lambda address: address.offset))
    assert only(installation, Violation.DEAD_LETTERS_MISSING)


def test_a_job_that_failed_names_no_gap_that_did_not() -> None:
    installation = finished(bury(owner(), 0))
    assert status_of(installation.results[0]).state is JobState.FAILED
    assert installation.audit().findings == []
    rewrite(installation, gaps=((0, 1),))
    assert only(installation, Violation.WRONG)


def test_the_first_outcome_wins_and_the_second_ones_bytes_are_wrong() -> None:
    installation = finished(tell(done(owner(), 0, b"first")), shards=1)
    installation.tell(done(owner(), 0, b"other"))
    assert installation.audit().findings == []
    assert installation.audit().duplicates == 1
    installation.results[0].value = b"other"
    assert only(installation, Violation.WRONG)


def test_bytes_of_another_submission_are_foreign() -> None:
    installation = Installation()
    event: Event
    for event in (opened(owner()), opened(owner(submission="ff")), done(owner(submission="ff"), 0, b"<x>")):
        installation.tell(event)
    for event in (done(owner(), 0), sealed(owner(), 1)):
        installation.tell(event)
    assert installation.audit().findings == []
    installation.results[0].value = b"<x>"
    assert only(installation, Violation.FOREIGN)


def test_a_final_of_another_submission_is_foreign() -> None:
    installation = finished()
    status = replace(status_of(installation.results[0]), owner=owner(submission="ff"))
    installation.results[0].headers = dict(encode_final(status, b"", "text/plain")[0])
    assert only(installation, Violation.FOREIGN)


def test_a_result_that_lacks_an_outcome_is_wrong_or_foreign_where_only_another_submission_has_it() -> None:
    for foreign in (False, True):
        installation = finished(kind=MERGE)
        (lost,) = [n for n, event in enumerate(installation.events) if outcome_of(event, 1)]
        if foreign:
            headers, value = encode_event(done(owner(submission="ff"), 1))
            installation.events[lost] = Written(dict(headers), value, 1_000)
        else:
            installation.events.pop(lost)
            installation.results[0].after -= 1
        seen = set(installation.audit().violations)
        assert seen == ({Violation.WRONG, Violation.FOREIGN} if foreign else {Violation.WRONG})


def outcome_of(event: Written, seq: int) -> bool:
    return event.headers["event"] == b"outcomes" and event.value == encode_event(done(owner(), seq))[1]


def test_a_final_of_a_job_that_nobody_opened_is_a_ghost() -> None:
    installation = finished()
    ghost = replace(status_of(installation.results[0]), owner=owner(2), events_offset=1)
    headers = dict(encode_final(ghost, b"", "text/plain")[0])
    installation.results.append(Written(headers, b"<0><1><2>", 1_000, after=5))
    assert only(installation, Violation.GHOSTS)


def test_a_version_after_one_that_succeeded_is_a_ghost() -> None:
    installation = finished()
    installation.fold.final_seen(owner().job_id, 1, reopenable=True)
    for event in (opened(owner(version=2)), done(owner(version=2), 0), sealed(owner(version=2), 1)):
        installation.tell(event)
    assert len(installation.results) == 2
    assert only(installation, Violation.GHOSTS)


@pytest.mark.parametrize("change", ["missing", "another seq", "another submission", "a row's", "not named"])
def test_a_dead_letter_that_is_not_the_shards_own_is_missing(change: str) -> None:
    installation = partial(bury(owner(), 0))
    ((address, headers),) = installation.letters.items()
    if change == "missing":
        installation.letters.clear()
    elif change == "another seq":
        installation.letters[address] = headers | {HEADER: headers[HEADER][:30] + b"\1" + headers[HEADER][31:]}
    elif change == "another submission":
        stranger = pack_identity(owner(submission="ff"))
        installation.letters[address] = headers | {HEADER: stranger + headers[HEADER][27:]}
    elif change == "a row's":
        installation.letters[address] = headers | {"row": b"0"}
    else:
        installation = partial(tell(dead(owner(), 0, None)))
    assert only(installation, Violation.DEAD_LETTERS_MISSING)


def test_a_bad_row_without_its_letter_is_seen() -> None:
    installation = partial(bury_rows(owner(), 0))
    assert installation.audit().findings == []
    installation.letters.pop(next(iter(installation.letters)))
    assert only(installation, Violation.DEAD_LETTERS_MISSING)


def test_an_error_that_no_outcome_tells_is_wrong() -> None:
    installation = partial(bury(owner(), 0))
    (error,) = status_of(installation.results[0]).errors
    installation.letters[DeadLetterAddress(5, 5)] = next(iter(installation.letters.values()))
    rewrite(installation, errors=(replace(error, dead_letter=(5, 5)),))
    assert only(installation, Violation.WRONG)


@pytest.mark.parametrize(
    "change", ["hole", "another job", "another index", "shorter", "swapped", "digest", "sizes", "value beside"]
)
def test_segments_that_do_not_fit_are_seen(change: str) -> None:
    installation = finished(in_pieces=True)
    assert installation.audit().findings == []
    result = status_of(installation.results[0]).result
    assert result is not None
    first, second = installation.segments[result.segments[0][0]], installation.segments[result.segments[1][0]]
    if change == "hole":
        del installation.segments[result.segments[1][0]]
    elif change == "another job":
        second.headers[HEADER] = pack_identity(owner(2))
    elif change == "another index":
        second.headers["segment"] = b"7"
    elif change == "shorter":
        second.value = second.value[:-1]
    elif change == "swapped":
        rewrite(installation, result=replace(result, segments=result.segments[::-1]))
    elif change == "digest":
        rewrite(installation, result=replace(result, digest="sha256:0"))
    elif change == "sizes":
        rewrite(installation, result=replace(result, size_bytes=result.size_bytes + 1))
    else:
        installation.results[0].value = first.value
    assert only(installation, Violation.WRONG if change == "value beside" else Violation.SEGMENTS_WRONG)


@pytest.mark.parametrize(
    ("steps", "changes"),
    [
        ([tell(Cancel(owner()))], {"reason": Reason.DEADLINE, "state": JobState.EXPIRED}),
        ([tick(LATER_MS)], {"reason": Reason.CANCELLED, "state": JobState.CANCELLED}),
        ([tick(LATER_MS)], {"reason": Reason.SHARD_FAILED, "state": JobState.FAILED}),
        ([tick(LATER_MS)], {"reason": Reason.TOO_MANY_FAILED, "state": JobState.FAILED}),
        ([tick(LATER_MS)], {"reason": None}),
        ([tick(LATER_MS)], {"reason": None, "state": JobState.FAILED}),
        ([tick(LATER_MS)], {"result": ResultAddress(0, None, 0, "")}),
        ([tick(LATER_MS)], {"state": JobState.FAILED}),
        ([tick(LATER_MS)], {"done": 3}),
        ([tick(LATER_MS)], {"total": 5}),
        ([tick(LATER_MS)], {"failed": 1}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_end_without_a_ground_is_wrong(steps: list[Step], changes: dict[str, object]) -> None:
    installation = Installation()
    for step in (tell(opened(owner())), tell(done(owner(), 0)), tell(sealed(owner(), 3)), *steps):
        step(installation)
    assert installation.audit().findings == []
    rewrite(installation, **changes)
    assert only(installation, Violation.WRONG)


def test_more_lost_shards_than_the_job_allows_make_its_result_wrong() -> None:
    installation = partial(bury(owner(), 0), max_failed=1)
    assert installation.audit().findings == []
    for limits in ({"max_failed": 0}, {"max_failed_pct": 20.0}, {"on_error": OnError.FAIL}):
        strict = encode_event(replace(opened(owner(), on_error=OnError.SKIP), **limits))
        installation.events[0] = Written(dict(strict[0]), strict[1], 1_000)
        assert only(installation, Violation.WRONG)


def test_more_than_four_executions_are_seen() -> None:
    installation = finished(tell(done(owner(), 0, attempts=4)))
    assert installation.audit().executions_max == 4
    assert installation.audit().findings == []
    installation = finished(tell(done(owner(), 0, attempts=5)))
    assert only(installation, Violation.EXECUTIONS)
    again = AttemptFailed(owner(), 0, AttemptError(4, Reason.RAISED, "x", "w", 0, 1))
    installation = Installation()
    history: list[Event] = [opened(owner()), again, *(done(owner(), seq) for seq in range(3)), sealed(owner(), 3)]
    for event in history:
        installation.tell(event)
    assert only(installation, Violation.EXECUTIONS)


def test_a_job_that_is_not_due_is_open_and_one_that_is_late_is_unfinished() -> None:
    installation = finished()
    installation.results.clear()
    assert (installation.audit().open, installation.audit().violations) == (1, Counter())
    installation.events.append(Written({"event": b"tick"}, b"", installation.now_ms + 3_600_000 + 999))
    assert installation.audit().open == 1
    installation.events.append(Written({"event": b"tick"}, b"", installation.now_ms + 3_600_000 + 1_000))
    assert only(installation, Violation.UNFINISHED)


def test_a_job_that_is_late_by_this_machines_clock_alone_could_not_be_told() -> None:
    installation = finished()
    installation.results.clear()
    tally = installation.audit(now_ms=installation.now_ms + LATER_MS)
    assert (tally.violations, tally.inconclusive) == (Counter(), Counter({Inconclusive.LOG_TIME: 1}))


def test_a_seal_of_another_submission_owes_nothing() -> None:
    installation = Installation()
    for event in (opened(owner()), opened(owner(submission="ff")), sealed(owner(submission="ff"), 1)):
        installation.tell(event)
    installation.now_ms += LATER_MS
    installation.tell(Tick())
    installation.results.clear()
    assert installation.audit().findings == []


def test_what_retention_took_could_not_be_told() -> None:
    installation = finished()
    tally = installation.audit(begins_at=1)
    assert (tally.violations, tally.inconclusive) == (Counter(), Counter({Inconclusive.OPENED_GONE: 1}))
    installation.results.clear()
    tally = installation.audit(begins_at=1)
    assert (tally.violations, tally.inconclusive) == (Counter(), Counter({Inconclusive.OPENED_GONE: 1}))


def test_a_ghost_is_a_ghost_where_the_log_reaches_back_far_enough() -> None:
    installation = finished()
    ghost = replace(status_of(installation.results[0]), owner=owner(2))
    for events_offset, created_ms, told in ((2, 0, True), (0, 0, False), (None, 1_000, True), (None, 999, False)):
        status = replace(ghost, events_offset=events_offset, created_ms=created_ms)
        headers = dict(encode_final(status, b"", "text/plain")[0])
        installation.results[1:] = [Written(headers, b"", 1_000, after=5)]
        tally = installation.audit(begins_at=1)
        assert tally.inconclusive == Counter({Inconclusive.OPENED_GONE: 1 if told else 2})
        assert tally.violations == Counter({Violation.GHOSTS: 1} if told else {})


def test_a_version_whose_elder_is_gone_could_not_be_told() -> None:
    installation = Installation()
    installation.tell(opened(owner()))
    tick(61_000)(installation)
    for event in (opened(owner(version=2)), done(owner(version=2), 0), sealed(owner(version=2), 1)):
        installation.tell(event)
    assert [status_of(final).reason for final in installation.results] == [Reason.NOT_SEALED, None]
    assert installation.audit().findings == []
    tally = installation.audit(results_begin=1)
    assert (tally.violations, set(tally.inconclusive)) == (Counter(), {Inconclusive.OPENED_GONE})


def test_the_bytes_of_a_kind_that_is_not_installed_could_not_be_told() -> None:
    installation = finished(kind=UNKNOWN)
    tally = installation.audit()
    assert (tally.violations, tally.inconclusive) == (Counter(), Counter({Inconclusive.KIND_UNKNOWN: 1}))


def test_an_event_that_cannot_be_read_could_not_be_told() -> None:
    installation = finished()
    installation.events.append(Written({"event": b"from-the-future"}, b"", 1_000))
    assert installation.audit().inconclusive == Counter({Inconclusive.UNREADABLE: 1})


def test_an_event_of_a_later_release_is_a_violation_because_it_was_skipped() -> None:
    installation = finished()
    headers = installation.events[0].headers | {"rg": b"\x02" + installation.events[0].headers["rg"][1:]}
    installation.events.append(Written(headers, b"", 1_000))
    assert installation.audit().violations == Counter({Violation.UNREAD: 1})


@pytest.mark.parametrize(("ended", "bytes_a_job"), [(True, range(50, 250)), (False, range(500, 2_000))])
def test_memory_goes_with_open_jobs(ended: bool, bytes_a_job: range) -> None:
    jobs = 2_000
    worlds = [finished(number=number) for number in range(1, jobs + 1)]
    audit = PartitionAudit(AuditTally(1), DeadLetterIndex({}), lambda _kind, _options: True)
    for world in worlds:
        status_of(world.results[0])
        unpack_identity(world.results[0].headers[HEADER])  # its cache is bounded, and filled before we look
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for world in worlds:
        for event in world.events:
            audit.event(event.headers, event.value, append_ms=event.append_ms)
        if ended:
            check = audit.final(world.results[0].headers, append_ms=1)
            assert isinstance(check, FinalCheck)
            check.whole(world.results[0].value)
            audit.count(check, check.verdict())
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used // jobs in bytes_a_job


def test_memory_of_a_dead_letter() -> None:
    letters = DeadLetterIndex({})
    headers = next(iter(partial(bury(owner(), 0)).letters.values()))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for offset in range(5_000):
        letters.add(0, offset, headers)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used // 5_000 in range(50, 250)


@given(st.lists(st.binary(max_size=9), max_size=6), st.lists(st.integers(0, 20), max_size=6), st.data())
def test_joined_content_is_compared_whatever_pieces_it_comes_in(
    outputs: list[bytes], cuts: list[int], data: st.DataObject
) -> None:
    whole = b"".join(outputs)
    expected = {3 * seq: fingerprint(output) for seq, output in enumerate(outputs)}

    pieces = JoinedContent(expected)
    at = 0
    for size in (*cuts, len(whole)):
        pieces.feed(whole[at : at + size])
        at += len(whole[at : at + size])
    assert (pieces.wrong, pieces.surplus_bytes, pieces.missing_shards) == (None, 0, [])
    if whole:
        spot = data.draw(st.integers(0, len(whole) - 1))
        content = JoinedContent(expected)
        content.feed(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1 :])
        seq = next(seq for seq in range(len(outputs)) if spot < len(b"".join(outputs[: seq + 1])))
        assert content.wrong is not None
        assert content.wrong[0] == 3 * seq
        short = JoinedContent(expected)
        short.feed(whole[:-1])
        assert short.missing_shards
    longer = JoinedContent(expected)
    longer.feed(whole + b"x")
    assert longer.surplus_bytes == 1
