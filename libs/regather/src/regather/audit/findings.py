"""What an audit finds and what it cannot decide. The list of findings is limited; the counts are complete."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from regather.core.model import JobId


class Violation(StrEnum):
    """What must never happen; the value is its name in the report."""

    UNFINISHED = "unfinished"
    DUPLICATE_FINALS = "duplicate_finals"
    GHOSTS = "ghosts"
    WRONG = "wrong"
    FOREIGN = "foreign"
    DEAD_LETTERS_MISSING = "dead_letters_missing"
    SEGMENTS_WRONG = "segments_wrong"
    EXECUTIONS = "too_many_executions"
    UNREAD = "unread"
    """A record of a later release: what was skipped with it may be anything. Audit with that release."""


class Inconclusive(StrEnum):
    """Why the audit could not decide something."""

    OPENED_GONE = "opened_gone"
    """Retention deleted the job's first event, or the final of the previous version."""

    DEAD_LETTER_GONE = "letter_gone"
    SEGMENT_GONE = "segment_gone"
    KIND_UNKNOWN = "kind_unknown"
    """The kind is not installed here, so it is unknown whether its result is its joined outputs."""

    LOG_TIME = "log_time"
    """The job is overdue by this machine's clock, but not by the log's time, because nobody writes to the log."""

    UNREADABLE = "unreadable"


class Finding(NamedTuple):
    """One violation of one job and version, with a description."""

    violation: Violation
    job_id: JobId
    version: int
    detail: str


@dataclass(slots=True)
class AuditResult:
    """What is wrong with one final, and what could not be decided about it."""

    findings: list[Finding] = field(default_factory=list)
    inconclusive: list[Inconclusive] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong and nothing is inconclusive."""
        return not self.findings and not self.inconclusive


class AuditTally:
    """Counts over all partitions. `findings` holds the first `limit`; `dropped` counts ignored events by reason."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.violations: Counter[Violation] = Counter()
        self.inconclusive: Counter[Inconclusive] = Counter()
        self.dropped: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self.opened = 0
        self.redriven = 0
        self.sealed = 0
        self.finals = 0
        self.checked = 0
        self.shards = 0
        self.duplicates = 0
        self.executions_max = 0
        self.open = 0
        self.log_ms = 0

    def add(self, verdict: AuditResult) -> None:
        """Count what is wrong and what is inconclusive."""
        for finding in verdict.findings:
            self.violations[finding.violation] += 1
            if len(self.findings) < self._limit:
                self.findings.append(finding)
        self.inconclusive.update(verdict.inconclusive)

    def saw(self, append_ms: int) -> None:
        """Advance the log's time to that of a record of any topic."""
        self.log_ms = max(self.log_ms, append_ms)
