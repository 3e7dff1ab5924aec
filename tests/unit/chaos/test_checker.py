"""The checker finds each kind of violation in made-up records, and none in records that are right."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from chaos.checker import ChaosResult, Disturbance, Evidence, check
from chaos.jobs import Answer, Job
from chaos.ledger import Ledger, Told
from chaos.records import Final, Letter, Line, Outcome, Place

JOB_ID, SUBMISSION = "0193d4f0-0000-7000-8000-000000000001", "aa" * 8
OWNER = (JOB_ID, SUBMISSION, 1)
PIECES = [b"zero", b"one", b"two"]
BAD = 1


def right(result: bytes) -> str:
    return "" if result == b"zero-two" else f"{result!r}"


PARTIAL = Job("poison", "diagnostics", b"", lambda: Answer("partial", right, failed={BAD: PIECES[BAD]}))


def told_of(job: Job = PARTIAL, **changes: Any) -> Told:
    told = Ledger().begin(job, "key", 0.0)
    told.accepted = {(JOB_ID, 1): 1.0}
    for name, value in changes.items():
        setattr(told, name, value)
    return told


def line(offset: int, sort: str, **more: Any) -> Line:
    return Line(Place(0, offset), 1_000 + offset, sort, *OWNER, **more)


def outcome(offset: int, seq: int, attempts: int = 1, *, failed: bool = False) -> Line:
    return line(offset, "Outcomes", outcomes=(Outcome(seq, attempts, failed),))


LINES = [
    line(0, "Opened", label="chaos-0"),
    line(1, "Sealed", shards=3),
    outcome(2, 0),
    *(line(3 + attempt, "AttemptFailed", failed_attempt=BAD) for attempt in range(3)),
    outcome(6, BAD, 4, failed=True),
    outcome(7, 2),
]
ERROR = {"seq": BAD, "reason": "raised", "error": "x", "attempts": 4, "dead_letter": [2, 9]}
DOCUMENT: dict[str, Any] = {
    "submission": SUBMISSION,
    "reason": None,
    "error": "",
    "total": 3,
    "gaps": [[BAD, BAD]],
    "errors": [ERROR],
    "result": {"size_bytes": 8},
}
FINAL = Final(Place(0, 5), 2_000, JOB_ID, 1, "partial", DOCUMENT, b"zero-two")
LETTER = Letter(Place(2, 9), JOB_ID, BAD, None, "raised", PIECES[BAD])


def judged(
    *,
    told: Told | None = None,
    finals: Sequence[Final] = (FINAL,),
    letters: Sequence[Letter] = (LETTER,),
    lines: Sequence[Line] = LINES,
    beside: Sequence[tuple[Place, str, int]] | None = None,
    disturbances: Sequence[Disturbance] = (),
    drained: bool = True,
) -> ChaosResult:
    told = told or told_of()
    if beside is None:
        beside = [(final.place, final.job_id, final.version) for final in finals]
    return check(Evidence({told.label: told}, finals, beside, letters, lines, disturbances, drained))


def sorts(verdict: ChaosResult) -> list[str]:
    return [violation.sort for violation in verdict.violations]


def final_with(**changes: Any) -> Final:
    return replace(FINAL, document=DOCUMENT | changes)


def test_records_that_are_right_break_nothing() -> None:
    verdict = judged(told=told_of(ended=("partial", 1, FINAL.digest)))
    assert verdict.violations == []
    assert (verdict.jobs, verdict.shards, verdict.versions_checked) == (1, 3, 1)
    assert (verdict.executions_max, verdict.duplicates_folded, verdict.letters_unnamed) == (4, 0, 0)


def test_an_accepted_job_without_a_final_is_lost_if_nothing_is_open_any_more() -> None:
    assert sorts(judged(finals=[])) == ["lost"]
    assert sorts(judged(finals=[], drained=False)) == ["unfinished"]


def test_an_accepted_job_that_the_log_has_never_heard_of_is_lost() -> None:
    assert sorts(judged(finals=[], letters=[], lines=[])) == ["lost"]


def test_a_version_that_was_accepted_needs_a_final_of_its_own() -> None:
    assert sorts(judged(told=told_of(accepted={(JOB_ID, 1): 1.0, (JOB_ID, 2): 2.0}))) == ["lost"]


def test_two_finals_of_one_version() -> None:
    assert sorts(judged(finals=[FINAL, replace(FINAL, place=Place(0, 8))])) == ["duplicate-final"]


@pytest.mark.parametrize(
    ("final", "complaint"),
    [
        (replace(FINAL, value=b"zero-TWO"), "b'zero-TWO'"),
        (replace(FINAL, value=b"short"), "there are 5 bytes"),
        (replace(FINAL, state="succeeded"), "it ended as succeeded"),
        (replace(FINAL, state="expired"), "it ended as expired"),
        (final_with(result=None), "names the result None"),
        (final_with(result={"size_bytes": 8, "digest": "sha256:00"}), "the segments do not have the digest"),
        (final_with(gaps=[]), "gaps are []"),
        (final_with(gaps=[[0, 1]]), "gaps are [0, 1]"),
        (final_with(total=4), "speaks of 4 shards, its seal of 3"),
        (replace(FINAL, state="cancelled"), "nobody asked for that"),
        (replace(FINAL, state="failed", document=DOCUMENT | {"reason": "not-sealed"}), "ended as not sealed"),
    ],
)
def test_a_final_that_says_something_else_is_wrong(final: Final, complaint: str) -> None:
    verdict = judged(finals=[final])
    assert sorts(verdict) == ["wrong"]
    assert complaint in verdict.violations[0].text


def test_a_shard_that_failed_and_is_not_named_is_wrong() -> None:
    assert sorts(judged(finals=[final_with(errors=[])])) == ["wrong"]


def test_a_result_of_a_job_that_was_never_sealed_is_wrong() -> None:
    assert sorts(judged(lines=[entry for entry in LINES if entry.sort != "Sealed"])) == ["wrong"]


def test_a_job_that_must_fail_may_not_have_a_result() -> None:
    doomed = Job("doomed", "diagnostics", b"", lambda: Answer("failed", reason="shard-failed"))
    failed = final_with(reason="shard-failed", result=None)
    assert sorts(judged(told=told_of(doomed), finals=[replace(failed, state="failed", value=b"")])) == []
    assert sorts(judged(told=told_of(doomed), finals=[replace(failed, state="failed")])) == ["wrong"]
    late = final_with(reason="deadline", result=None)
    assert sorts(judged(told=told_of(doomed), finals=[replace(late, state="failed", value=b"")])) == ["wrong"]


def test_a_cancelled_job_is_right_only_if_its_cancel_stands_in_the_log() -> None:
    final = replace(final_with(result=None, reason="cancelled"), state="cancelled", value=b"")
    assert sorts(judged(told=told_of(cancelled=True), finals=[final], lines=[*LINES, line(9, "Cancel")])) == []
    assert sorts(judged(told=told_of(cancelled=True), finals=[final])) == ["wrong"]


@pytest.mark.parametrize("shown", [("succeeded", 1, FINAL.digest), ("partial", 1, "00" * 32)])
def test_a_gateway_that_shows_something_else_than_the_final(shown: tuple[str, int, str]) -> None:
    assert sorts(judged(told=told_of(ended=shown))) == ["wrong"]


def test_a_version_without_the_one_before_it_is_wrong() -> None:
    told = told_of(accepted={(JOB_ID, 2): 1.0})
    lines = [replace(entry, version=2) for entry in LINES]
    assert sorts(judged(told=told, finals=[replace(FINAL, version=2)], lines=lines)) == ["wrong"]


def test_an_upload_that_was_not_sealed_and_not_accepted_is_right_and_its_repeat_is_the_next_version() -> None:
    told = told_of(accepted={(JOB_ID, 2): 1.0})
    empty = final_with(reason="not-sealed", result=None, gaps=[], errors=[], total=None)
    first = replace(empty, state="failed", value=b"", place=Place(0, 1))
    lines = [line(0, "Opened", label="chaos-0"), *(replace(entry, version=2) for entry in LINES)]
    assert judged(told=told, finals=[first, replace(FINAL, version=2)], lines=lines).violations == []


@pytest.mark.parametrize(
    "letters",
    [
        [],
        [replace(LETTER, place=Place(2, 8))],
        [replace(LETTER, job_id="other")],
        [replace(LETTER, seq=2)],
        [replace(LETTER, row=0)],
        [replace(LETTER, payload=b"two")],
    ],
    ids=["none", "elsewhere", "other-job", "other-shard", "row", "other-payload"],
)
def test_a_failed_shard_without_the_letter_that_its_final_names(letters: list[Letter]) -> None:
    assert sorts(judged(letters=letters)) == ["dead-letter-missing"]


def test_bad_rows_are_named_and_each_has_a_letter() -> None:
    rows = Job("rows", "diagnostics", b"", lambda: Answer("partial", right, bad_rows=frozenset({7})))
    final = final_with(gaps=[], errors=[ERROR | {"row": 7}])
    assert sorts(judged(told=told_of(rows), finals=[final], letters=[replace(LETTER, row=7)])) == []
    assert sorts(judged(told=told_of(rows), finals=[final])) == ["dead-letter-missing"]
    other = final_with(gaps=[], errors=[ERROR | {"row": 8}])
    assert sorts(judged(told=told_of(rows), finals=[other], letters=[replace(LETTER, row=8)])) == ["wrong"]


def test_letters_that_nothing_names_are_counted() -> None:
    assert judged(letters=[LETTER, replace(LETTER, place=Place(2, 10))]).letters_unnamed == 1


def test_a_final_of_a_job_that_nobody_opened_is_a_ghost() -> None:
    ghost = replace(FINAL, job_id="0193d4f0-0000-7000-8000-00000000dead", place=Place(0, 9))
    assert sorts(judged(finals=[FINAL, ghost])) == ["ghost"]


def test_a_final_of_a_submission_that_was_never_opened_is_a_ghost() -> None:
    assert sorts(judged(finals=[final_with(submission="bb" * 8)])) == ["ghost"]


def test_a_job_that_nobody_labelled_is_a_ghost() -> None:
    lines = [replace(LINES[0], label="somebody-else"), *LINES[1:]]
    assert "ghost" in sorts(judged(lines=lines))


def test_a_job_that_was_opened_and_never_ended_is_unfinished_though_nobody_was_told_of_it() -> None:
    told = told_of(accepted={}, key=None, given_up=True)
    assert sorts(judged(told=told, finals=[], letters=[], lines=LINES[:1])) == ["unfinished"]


def test_a_client_with_a_key_that_was_never_accepted_is_unfinished() -> None:
    assert sorts(judged(told=told_of(accepted={}), finals=[], letters=[], lines=[])) == ["unfinished"]


def test_a_shard_that_ran_more_often_than_attempts_and_faults_explain() -> None:
    often = [*LINES, *(outcome(20 + number, 0) for number in range(4))]
    verdict = judged(lines=often)
    assert sorts(verdict) == ["executions"]
    assert (verdict.executions_max, verdict.duplicates_folded) == (5, 4)
    during, before = Disturbance(1_500, 1_600, 1), Disturbance(0, 500, 1)
    assert sorts(judged(lines=often, disturbances=[during])) == []
    assert sorts(judged(lines=often, disturbances=[before])) == ["executions"]


def test_the_shard_that_ran_most_often_is_named_and_those_that_never_failed_are_counted_apart() -> None:
    verdict = judged(lines=[*LINES, outcome(20, 0), outcome(21, 0)])
    assert verdict.most_executed == (*OWNER, BAD)
    assert (verdict.executions_max, verdict.executions_max_unfailed) == (4, 3)


def test_a_shard_that_ran_long_after_its_final() -> None:
    again = replace(outcome(20, 0), at_ms=FINAL.at_ms + 61_000)
    fault = Disturbance(FINAL.at_ms + 50_000, FINAL.at_ms + 60_000, 4)
    assert sorts(judged(lines=[*LINES, again], disturbances=[fault])) == ["late"]
    soon = replace(again, at_ms=FINAL.at_ms + 59_000)
    assert sorts(judged(lines=[*LINES, soon], disturbances=[fault])) == []


def test_a_shard_that_was_charged_too_often() -> None:
    assert sorts(judged(lines=[*LINES[:-1], outcome(7, 2, attempts=5)])) == ["executions"]


def test_the_reader_beside_the_run_and_the_one_from_the_start_see_the_same() -> None:
    seen = (FINAL.place, FINAL.job_id, FINAL.version)
    assert sorts(judged(beside=[])) == ["reader"]
    assert sorts(judged(beside=[seen, (Place(0, 77), JOB_ID, 1)])) == ["reader"]
    assert sorts(judged(beside=[seen, seen])) == ["reader"]


def test_a_client_that_had_to_wait_long_for_its_202() -> None:
    assert sorts(judged(told=told_of(accepted={(JOB_ID, 1): 59.0}))) == []
    assert sorts(judged(told=told_of(accepted={(JOB_ID, 1): 61.0}))) == ["unavailable"]


def test_a_version_that_took_long_to_its_final() -> None:
    assert sorts(judged(finals=[replace(FINAL, at_ms=120_000)])) == []
    assert sorts(judged(finals=[replace(FINAL, at_ms=122_000)])) == ["slow"]


def test_refusals_and_404_after_202_are_told() -> None:
    assert sorts(judged(told=told_of(refused="422 bad-input"))) == ["refused"]
    assert sorts(judged(told=told_of(forgotten=["404"]))) == ["forgotten"]


def test_every_gateway_has_to_show_the_newest_version_when_all_is_quiet() -> None:
    assert sorts(judged(told=told_of(shown=[(1, "partial", 1), (2, "partial", 1)]))) == []
    assert sorts(judged(told=told_of(shown=[(1, "partial", 1), (2, "running", 1)]))) == ["wrong"]
    assert sorts(judged(told=told_of(shown=[(1, "404", 0)]))) == ["wrong"]
