"""The audit of one partition: folds job-events without payloads, and checks the finals against them.

It is independent of the aggregator's fold (`partition_fold`, `reassembly`): it shares the protocol's rules, but no
code. It forgets a job as soon as its final was found right, so memory grows with the open jobs and not with all jobs.
The caller has to check a final that does not fit again after all events: the clocks of two brokers may differ, and the
events of the final may come after it.

A redrive builds on versions that the audit has forgotten by then. So if there was one, the caller reads the events a
second time, and the audit keeps all outcomes of redriven jobs, as fingerprints, until the partition is done.
"""

from collections.abc import Callable
from typing import NamedTuple

from regather.audit.dead_letter_index import DeadLetterIndex
from regather.audit.final_check import Final, FinalCheck
from regather.audit.findings import AuditResult, AuditTally, Finding, Inconclusive, Violation
from regather.audit.redriven_job import RedrivenJob
from regather.audit.version_log import VersionLog
from regather.core.errors import NewerRecord, WireError
from regather.core.model import (
    MAX_ATTEMPTS,
    Abandoned,
    AttemptFailed,
    Cancel,
    Identity,
    JobId,
    JobState,
    Opened,
    Outcomes,
    Parked,
    Reason,
    Redriven,
    Sealed,
    Tick,
    Uploading,
)
from regather.wire.events import decode_event
from regather.wire.identity import HEADER, HeaderMap, unpack_identity

Joins = Callable[[str, bytes], bool | None]
"""Called with kind and options: returns whether the result is the joined outputs; None if that is unknown."""

_JOB_BYTES, _VERSION_BYTES = 16, 2
_ENDED, _REOPENABLE, _WHOLE, _RIGHT = 0, 1, 2, 4
_FLAG_BITS = 3
"""One number for each final. Above these bits: when its version ended, by the log's time. In them: how it ended, and
whether it was found right. If so, the audit has forgotten the version."""

_Owned = Uploading | Sealed | Abandoned | Outcomes | AttemptFailed | Parked | Cancel


class MissingFinal(NamedTuple):
    """A sealed version without a final, and the time when its deadline passes."""

    job_id: JobId
    version: int
    due_ms: int


class PartitionAudit:
    """Mutable, without IO. Call event() and final() in the order of their logs, each from its beginning.

    If `read_again_from` is an offset then, call begin_again(), and event_again() with the events from this offset on.
    Only after that call again() with the finals that did not fit.

    `begins_at` is the first offset of job-events that is still in the log, `results_begin` that of results. With
    `only`, records of other jobs are ignored.
    """

    def __init__(
        self,
        tally: AuditTally,
        dead_letters: DeadLetterIndex,
        joins: Joins,
        *,
        begins_at: int = 0,
        results_begin: int = 0,
        only: JobId | None = None,
    ) -> None:
        self._tally = tally
        self._dead_letters = dead_letters
        self._joins = joins
        self._begins_at = begins_at
        self._results_begin = results_begin
        self._only = only
        self._first_ms: int | None = None
        self._versions: dict[bytes, VersionLog] = {}
        self._finals: dict[bytes, int] = {}
        self._unopened: set[bytes] = set()
        """Sealed versions without an event that opens them."""
        self._redrives: set[Identity] = set()
        self._redriven_versions: set[bytes] = set()
        self._redriven_jobs: dict[bytes, RedrivenJob | None] = {}
        """Redriven jobs by job id, in bytes; None until the second reading comes to the `opened` of the job."""
        self._read_again_from: int | None = None
        self._reads_again = False
        self._log_ms = 0
        self._again_ms = 0
        """The log's time in the second reading. It begins with that of the first redrive, the earliest needed."""

    def event(self, headers: HeaderMap, value: bytes | None, *, append_ms: int) -> None:
        """Fold one record of job-events."""
        self._tally.saw(append_ms)
        self._first_ms = append_ms if self._first_ms is None else self._first_ms
        self._log_ms = max(self._log_ms, append_ms)
        if not self._wanted(headers):
            return
        try:
            event = decode_event(headers.items(), value)
        except NewerRecord as error:
            self._tally.add(AuditResult([Finding(Violation.UNREAD, _job_of(headers), 0, str(error))]))
            return
        except WireError:
            self._tally.add(AuditResult(inconclusive=[Inconclusive.UNREADABLE]))
            return
        if isinstance(event, Opened):
            self._open(event, append_ms)
        elif isinstance(event, Redriven):
            self._note(event)
        elif not isinstance(event, Tick) and event.owner not in self._redrives:
            self._fold(event)

    @property
    def read_again_from(self) -> int | None:
        """The offset of the first event of all redriven jobs; None if there is none."""
        return self._read_again_from

    def begin_again(self, begins_at: int) -> None:
        """Begin the second reading. `begins_at` is the first offset of job-events that is still in the log by now."""
        self._begins_at = max(self._begins_at, begins_at)
        self._reads_again = True

    def event_again(self, headers: HeaderMap, value: bytes | None, *, append_ms: int) -> None:
        """Fold one record of job-events in the second reading: of versions that redrives build on or open."""
        self._again_ms = max(self._again_ms, append_ms)
        if (headers.get(HEADER) or b"")[1 : 1 + _JOB_BYTES] not in self._redriven_jobs:
            return
        try:
            event = decode_event(headers.items(), value)
        except WireError:  # counted in the first reading
            return
        if isinstance(event, Opened):
            self._open_again(event)
        elif isinstance(event, Redriven):
            self._redrive(event, append_ms)
        elif not isinstance(event, Tick):
            job = self._redriven_jobs[_job_key(event.owner)]
            if job is not None and isinstance(event, Outcomes):
                job.apply(event)
            if event.owner in self._redrives:
                self._fold(event)

    def final(self, headers: HeaderMap, *, append_ms: int) -> FinalCheck | AuditResult | None:
        """Begin to check one record of results. Return a check that needs the result's bytes, or a verdict at once.

        None: nothing is left to check. A repeated or an unreadable final is counted here.
        """
        self._tally.saw(append_ms)
        if not self._wanted(headers):
            return None
        self._tally.finals += 1
        try:
            final = Final(headers)
        except WireError as error:
            self._tally.add(
                AuditResult([Finding(Violation.WRONG, _job_of(headers), 0, f"a final cannot be read: {error}")])
            )
            return None
        key = _key(final.owner)
        if key in self._finals:
            detail = "one more final of the same version"
            self._tally.add(AuditResult([_finding(Violation.DUPLICATE_FINALS, final.owner, detail)]))
            return None
        self._finals[key] = final.status.updated_ms << _FLAG_BITS | _flag(final)
        self._unopened.discard(key)
        return self._check(final)

    def again(self, headers: HeaderMap) -> FinalCheck | AuditResult:
        """Begin to check a final again that did not fit before, after all events were read."""
        return self._check(Final(headers))

    def count(self, check: FinalCheck | None, verdict: AuditResult) -> None:
        """Count a verdict that is definite, and forget the version if it is right."""
        self._tally.add(verdict)
        self._tally.checked += check is not None
        if check is not None and not verdict.findings:
            key = _key(check.final.owner)
            self._finals[key] |= _RIGHT
            self._forget(key)

    def missing_finals(self) -> list[MissingFinal]:
        """Return, at the end, the sealed versions without a final. Count and forget all versions that are left."""
        missing: list[MissingFinal] = []
        unended = [(key, log) for key, log in self._versions.items() if log.sealed and key not in self._finals]
        for key, log in unended:
            may_be = self._may_be(log)
            if may_be:
                missing.append(MissingFinal(log.owner.job_id, log.owner.version, log.due_ms))
            elif may_be is None:
                self._unopened.add(key)
        for key in list(self._versions):
            self._forget(key)
        if self._begins_at or self._results_begin:
            self._tally.add(AuditResult(inconclusive=[Inconclusive.OPENED_GONE] * len(self._unopened)))
        return missing

    def _open(self, event: Opened, append_ms: int) -> None:
        key = _key(event.owner)
        if key in self._versions or self._finals.get(key, 0) & _RIGHT:
            self._tally.dropped["opened-again"] += 1
            return
        self._tally.opened += 1
        self._versions[key] = VersionLog(event, opened_ms=append_ms, joined=self._joins(event.kind, event.options))

    def _fold(self, event: _Owned) -> None:
        key = _key(event.owner)
        log = self._versions.get(key)
        if log is None:
            self._late(event, key)
        elif event.owner != log.owner:
            self._tally.dropped["foreign-submission"] += 1
            if isinstance(event, Outcomes):
                log.apply_foreign(event)
        else:
            log.fold(event)

    def _note(self, event: Redriven) -> None:
        """Note a redrive in the first reading. The second reading decides whether it opens its version."""
        if not self._redrives:
            self._again_ms = self._log_ms
        self._redrives.add(event.owner)
        self._redriven_versions.add(_key(event.owner))
        self._redriven_jobs[_job_key(event.owner)] = None
        before = self._read_again_from
        self._read_again_from = event.origin if before is None else min(before, event.origin)

    def _open_again(self, event: Opened) -> None:
        key, owner = _job_key(event.owner), event.owner
        job = self._redriven_jobs[key]
        if self._may_open(owner) is not False and (job is None or owner.version == job.newest + 1):
            self._redriven_jobs[key] = RedrivenJob(event, joined=self._joins(event.kind, event.options))

    def _redrive(self, event: Redriven, append_ms: int) -> None:
        """Open the next version of a job that has ended; the first redrive in log order does it."""
        key, job = _key(event.owner), self._redriven_jobs[_job_key(event.owner)]
        base = job.redrive(event) if job is not None and self._has_ended_before(event.owner) else None
        if base is None:
            self._tally.dropped["redrive-too-late"] += 1
            return
        self._tally.redriven += 1
        joined = self._joins(event.opened.kind, event.opened.options)
        self._versions[key] = VersionLog(event.opened, opened_ms=append_ms, joined=joined, base=base)

    def _has_ended_before(self, owner: Identity) -> bool:
        """Whether the previous version had ended by the log's time. True if retention may have deleted its final."""
        before = self._before(owner)
        return self._results_begin > 0 if before is None else self._again_ms >= before >> _FLAG_BITS

    def _late(self, event: _Owned, key: bytes) -> None:
        """Count an event of a version that is unknown, or whose final was found right already."""
        known = self._finals.get(key)
        if known is None:
            self._tally.dropped["unknown-job"] += 1
            if isinstance(event, Sealed):
                self._unopened.add(key)
            return
        self._tally.dropped["after-end"] += 1
        if isinstance(event, Outcomes) and known & _WHOLE:
            self._tally.duplicates += len(event.outcomes)

    def _check(self, final: Final) -> FinalCheck | AuditResult:
        key = _key(final.owner)
        waits = key in self._redriven_versions and not self._reads_again
        log = None if waits else self._versions.get(key)
        if log is not None and self._may_be(log):
            return FinalCheck(final, log, self._dead_letters)
        if not waits and (self._too_old(final) or (log is not None and self._may_be(log) is None)):
            return AuditResult(inconclusive=[Inconclusive.OPENED_GONE])
        detail = (
            "nobody opened the job" if log is None else "the previous version did not end in a way that allows another"
        )
        return AuditResult([_finding(Violation.GHOSTS, final.owner, detail)])

    def _may_be(self, log: VersionLog) -> bool | None:
        """Whether this version may exist; None: inconclusive. _redrive() has checked the base of a redriven version."""
        if log.base is None:
            return self._may_open(log.owner)
        return True if self._before(log.owner) is not None else None

    def _before(self, owner: Identity) -> int | None:
        """Return the number of the previous version's final (see _FLAG_BITS); None without a final."""
        if owner.version < 1:
            return None
        return self._finals.get(_key(owner._replace(version=owner.version - 1)))

    def _may_open(self, owner: Identity) -> bool | None:
        """Whether an `opened` may open this version: the first one, or one after a reopenable final; None: unknown."""
        if owner.version == 1:
            return True
        before = self._before(owner)
        if before is None:
            return None if self._results_begin > 0 else False
        return bool(before & _REOPENABLE)

    def _too_old(self, final: Final) -> bool:
        """Whether retention may have deleted the `opened` of this final."""
        if self._begins_at == 0:
            return False
        if final.status.events_offset is not None:
            return final.status.events_offset < self._begins_at
        return self._first_ms is None or final.status.created_ms < self._first_ms

    def _forget(self, key: bytes) -> None:
        """Count a version and drop it. The second reading reads what a redrive builds on again."""
        log = self._versions.pop(key, None)
        if log is None:
            return
        tally = self._tally
        tally.sealed += log.sealed is not None
        tally.shards += log.settled_here()
        if log.unexpected:
            tally.dropped["not-redriven"] += log.unexpected
        tally.duplicates += log.duplicates
        tally.executions_max = max(tally.executions_max, log.executions)
        if log.executions > MAX_ATTEMPTS:
            detail = f"a shard was executed {log.executions} times, at most {MAX_ATTEMPTS} are allowed"
            tally.add(AuditResult([_finding(Violation.EXECUTIONS, log.owner, detail)]))

    def _wanted(self, headers: HeaderMap) -> bool:
        head = headers.get(HEADER)
        if self._only is None or head is None:
            return True
        return head[1 : 1 + _JOB_BYTES].hex() == self._only.replace("-", "")


def judge_missing(missing: list[MissingFinal], tally: AuditTally, *, grace_ms: int, now_ms: int) -> None:
    """Count sealed versions without a final: overdue by the log's time, inconclusive if only by `now_ms`, else open."""
    for job_id, version, due_ms in missing:
        if tally.log_ms >= due_ms + grace_ms:
            late_s = (tally.log_ms - due_ms) // 1000
            detail = f"it was sealed and has no final; its deadline passed {late_s} s ago by the log's time"
            tally.add(AuditResult([Finding(Violation.UNFINISHED, job_id, version, detail)]))
        elif now_ms >= due_ms + grace_ms:
            tally.add(AuditResult(inconclusive=[Inconclusive.LOG_TIME]))
        else:
            tally.open += 1


def _flag(final: Final) -> int:
    if final.status.state in (JobState.SUCCEEDED, JobState.PARTIAL):
        return _WHOLE
    again = (final.status.state, final.status.reason) == (JobState.FAILED, Reason.NOT_SEALED)
    return _REOPENABLE if again else _ENDED


def _job_key(owner: Identity) -> bytes:
    return bytes.fromhex(owner.job_id.replace("-", ""))


def _key(owner: Identity) -> bytes:
    return _job_key(owner) + owner.version.to_bytes(_VERSION_BYTES, "big")


def _finding(violation: Violation, owner: Identity, detail: str) -> Finding:
    return Finding(violation, owner.job_id, owner.version, detail)


def _job_of(headers: HeaderMap) -> JobId:
    try:
        return unpack_identity(headers.get(HEADER) or b"").job_id
    except WireError:
        return JobId("unknown")
