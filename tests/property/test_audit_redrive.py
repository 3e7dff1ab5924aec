"""The audit of versions that a redrive opened: whose outcome counts, what is dropped, what is missing."""

import tracemalloc
from collections import Counter

import pytest
from property.audited_partition import Installation, Written, dead, done, opened, redriven
from property.test_audit import LATER_MS, bury, only, owner, rewrite_one, sealed, status_of, tick

from regather.audit.dead_letter_index import DeadLetterIndex
from regather.audit.findings import AuditTally, Inconclusive, Violation
from regather.audit.partition_audit import PartitionAudit
from regather.core.model import Abandoned, Event, Identity, JobState, OnError, Reason
from regather.wire.events import encode_event
from regather.wire.identity import HEADER, header_map

ONE, TWO, THREE = owner(), owner(version=2), owner(version=3)
FIRST = opened(ONE, on_error=OnError.SKIP)


def ended_once() -> Installation:
    """Shard 0 is done, shards 1 and 2 are dead."""
    installation = Installation()
    installation.tell(FIRST)
    installation.tell(done(ONE, 0))
    for seq in (1, 2):
        bury(ONE, seq)(installation)
    installation.tell(sealed(ONE, 3))
    tick(1)(installation)
    return installation


def redriven_once() -> Installation:
    """Shard 1 runs again and is done; shard 2 stays dead."""
    installation = ended_once()
    for event in (redriven(FIRST, 2, [1]), done(TWO, 1, b"again"), sealed(TWO, 3)):
        installation.tell(event)
    tick(1)(installation)
    return installation


def write(installation: Installation, event: Event) -> None:
    """Into the log, past the rules."""
    headers, value = encode_event(event)
    installation.events.append(Written(dict(headers), value, installation.now_ms))


def test_a_redriven_job_is_clean_and_its_gaps_letter_is_the_earlier_versions() -> None:
    installation = redriven_once()
    assert [final.value for final in installation.results] == [b"<0>", b"<0>again"]
    tally = installation.audit()
    assert (tally.findings, tally.inconclusive, tally.dropped) == ([], Counter(), Counter())
    assert (tally.opened, tally.redriven, tally.sealed, tally.checked, tally.shards) == (1, 1, 2, 2, 4)


@pytest.mark.parametrize("value", [b"<0>agaim", b"<1>again", b"<0>", b"<0>again."])
def test_a_wrong_byte_of_a_shard_that_ran_again_or_stays_is_seen(value: bytes) -> None:
    installation = redriven_once()
    installation.results[1].value = value
    assert Violation.WRONG in installation.audit().violations


@pytest.mark.parametrize("changes", [{"done": 1}, {"failed": 2}, {"gaps": ((1, 2),)}, {"gaps": ()}, {"total": 4}])
def test_counts_of_a_redriven_version_are_compared(changes: dict[str, object]) -> None:
    installation = redriven_once()
    rewrite_one(installation.results[1], **changes)
    assert only(installation, Violation.WRONG)


def test_a_second_final_and_a_missing_one_are_seen() -> None:
    installation = redriven_once()
    final = installation.results[1]
    installation.results.append(final)
    assert only(installation, Violation.DUPLICATE_FINALS)
    installation.results = installation.results[:1]
    assert (installation.audit().open, installation.audit().findings) == (1, [])
    tick(LATER_MS)(installation)
    installation.results = installation.results[:1]
    assert only(installation, Violation.UNFINISHED)


def test_a_redriven_version_of_a_job_without_an_end_is_a_ghost() -> None:
    installation = redriven_once()
    installation.results.pop(0)
    installation.events.append(Written({"event": b"tick"}, b"", installation.now_ms + LATER_MS))
    assert only(installation, Violation.GHOSTS, Violation.UNFINISHED)


def test_a_letter_of_the_version_that_did_not_run_the_shard_is_another_ones() -> None:
    installation = redriven_once()
    for headers in installation.letters.values():
        headers[HEADER] = headers[HEADER].replace(b"\x00\x01", b"\x00\x02", 1)
    assert Violation.DEAD_LETTERS_MISSING in installation.audit().violations


def test_a_shard_that_fails_again_has_a_letter_of_its_own_version() -> None:
    installation = ended_once()
    installation.tell(redriven(FIRST, 2, [1]))
    bury(TWO, 1)(installation)
    installation.tell(sealed(TWO, 3))
    assert status_of(installation.results[1]).gaps == ((1, 2),)
    assert installation.audit().findings == []
    (earlier,) = [at for at, headers in installation.letters.items() if at.offset == 0]
    installation = ended_once()
    for event in (redriven(FIRST, 2, [1]), dead(TWO, 1, earlier), sealed(TWO, 3)):
        installation.tell(event)
    assert only(installation, Violation.DEAD_LETTERS_MISSING)


def test_outcomes_between_the_end_and_the_redrive_count_and_uninvited_ones_do_not() -> None:
    installation = Installation()
    event: Event
    for event in (opened(ONE), done(ONE, 0), dead(ONE, 1, installation.bury(ONE, 1)), sealed(ONE, 3)):
        installation.tell(event)
    tick(1)(installation)
    for event in (done(ONE, 2, b"late"), redriven(opened(ONE), 2, [1]), done(TWO, 0, b"no"), done(TWO, 1, b"-")):
        installation.tell(event)
    installation.tell(sealed(TWO, 3))
    assert installation.results[1].value == b"<0>-late"
    tally = installation.audit()
    assert (tally.findings, tally.dropped["not-redriven"]) == ([], 1)
    installation.results[1].value = b"no-late"
    assert only(installation, Violation.WRONG)


def test_a_late_outcome_of_a_version_that_no_longer_runs_the_shard_does_not_count() -> None:
    installation = ended_once()
    event: Event
    for event in (redriven(FIRST, 2, [1]), done(ONE, 1, b"zombie"), Abandoned(TWO, "gone"), done(TWO, 1, b"two")):
        installation.tell(event)
    tick(1)(installation)
    for event in (redriven(FIRST, 3, [2]), done(THREE, 2, b"three"), sealed(THREE, 3)):
        installation.tell(event)
    assert installation.results[2].value == b"<0>twothree"
    assert installation.audit().findings == []
    installation.results[2].value = b"<0>zombiethree"
    assert Violation.WRONG in installation.audit().violations


def test_an_upload_that_opens_a_version_after_a_redrive_of_it_is_foreign() -> None:
    installation, upload = ended_once(), owner(submission="ff", version=3)
    event: Event
    for event in (redriven(FIRST, 2, [1]), Abandoned(TWO, "gone")):
        installation.tell(event)
    tick(1)(installation)
    for event in (redriven(FIRST, 3, [1]), opened(upload), done(upload, 0), sealed(upload, 1)):
        write(installation, event)
    alone = Installation()
    for event in (opened(upload), done(upload, 0), sealed(upload, 1)):
        alone.tell(event)
    (final,) = alone.results
    final.after = len(installation.events)
    installation.results.append(final)
    assert only(installation, Violation.FOREIGN)


def test_of_two_redrives_the_first_counts() -> None:
    installation = ended_once()
    for event in (redriven(FIRST, 2, [1]), redriven(FIRST, 2, [1, 2]), done(TWO, 2, b"no"), done(TWO, 1, b"yes")):
        installation.tell(event)
    installation.tell(sealed(TWO, 3))
    assert installation.results[1].value == b"<0>yes"
    tally = installation.audit()
    assert tally.findings == []
    assert (tally.dropped["redrive-too-late"], tally.dropped["not-redriven"], tally.redriven) == (1, 1, 1)


def test_a_redrive_before_the_end_does_not_count() -> None:
    installation = Installation()
    installation.tell(FIRST)
    installation.tell(redriven(FIRST, 2, [1]))
    tick(1)(installation)
    for event in (done(ONE, 0), sealed(ONE, 1)):
        installation.tell(event)
    tally = installation.audit()
    assert (tally.findings, tally.redriven, tally.dropped["redrive-too-late"]) == ([], 0, 1)


def test_a_clock_that_was_set_back_hides_no_redrive() -> None:
    installation = Installation()
    tick(LATER_MS)(installation)
    installation.now_ms -= LATER_MS
    for event in (FIRST, dead(ONE, 0, installation.bury(ONE, 0)), sealed(ONE, 1), redriven(FIRST, 2, [0], origin=1)):
        installation.tell(event)
    for event in (done(TWO, 0), sealed(TWO, 1)):
        installation.tell(event)
    assert len(installation.results) == 2
    tally = installation.audit()
    assert (tally.findings, tally.redriven) == ([], 1)


def test_a_redrive_of_a_version_that_cannot_be_is_dropped() -> None:
    installation = ended_once()
    write(installation, redriven(FIRST, 1, [0]))
    tally = installation.audit()
    assert (tally.findings, tally.dropped["redrive-too-late"]) == ([], 1)


@pytest.mark.parametrize("stranger", [owner(submission="ff", version=2), THREE])
def test_a_final_of_a_redrive_that_does_not_count_is_a_ghost(stranger: Identity) -> None:
    installation = ended_once()
    write(installation, redriven(opened(stranger, on_error=OnError.SKIP), stranger.version, [0, 1, 2]))
    for seq in range(3):
        write(installation, done(stranger, seq))
    write(installation, sealed(stranger, 3))
    forged = redriven_once().results[1]
    forged.after = len(installation.events)
    rewrite_one(forged, owner=stranger)
    installation.results.append(forged)
    assert only(installation, Violation.GHOSTS)


def test_a_redrive_that_is_never_sealed_ends_as_failed_and_may_be_redriven() -> None:
    installation = ended_once()
    event: Event
    for event in (redriven(FIRST, 2, [1]), done(TWO, 1, b"two"), Abandoned(TWO, "gone")):
        installation.tell(event)
    final = status_of(installation.results[1])
    assert (final.state, final.reason) == (JobState.FAILED, Reason.NOT_SEALED)
    tick(1)(installation)
    for event in (redriven(FIRST, 3, [2]), done(THREE, 2, b"three"), sealed(THREE, 3)):
        installation.tell(event)
    assert installation.results[2].value == b"<0>twothree"
    tally = installation.audit()
    assert (tally.findings, tally.inconclusive, tally.checked, tally.redriven) == ([], Counter(), 3, 2)


def test_a_redrive_whose_job_retention_took_could_not_be_told() -> None:
    for results in (slice(None), slice(0, 1)):
        installation = redriven_once()
        installation.results = installation.results[results]
        tally = installation.audit(begins_at=1)
        assert (tally.violations, set(tally.inconclusive)) == (Counter(), {Inconclusive.OPENED_GONE})
    tally = redriven_once().audit(begins_later_at=1)
    assert (tally.violations, set(tally.inconclusive)) == (Counter(), {Inconclusive.OPENED_GONE})
    tally = redriven_once().audit(results_begin=1)
    assert (tally.violations, set(tally.inconclusive)) == (Counter(), {Inconclusive.OPENED_GONE})


def test_memory_of_a_redriven_shard() -> None:
    shards = 5_000
    events = [encode_event(done(ONE, seq, b"%d" % seq * 100)) for seq in range(shards)]
    again = [encode_event(event) for event in (redriven(FIRST, 2, [0]), done(TWO, 0), sealed(TWO, shards))]
    audit = PartitionAudit(AuditTally(1), DeadLetterIndex({}), lambda _kind, _options: True, results_begin=1)
    first = header_map(again[0][0]), again[0][1]
    audit.event(*first, append_ms=1)
    audit.begin_again(0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for headers, value in (encode_event(FIRST), *events, *again):
        audit.event_again(header_map(headers), value, append_ms=1)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used // shards in range(100, 250)
