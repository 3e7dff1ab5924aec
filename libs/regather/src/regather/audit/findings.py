"""What an audit finds, what it cannot tell, and the count of both; the list of findings is cut, the counts are whole."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from regather.core.model import JobId


class Violation(StrEnum):
    """What may never be; the value is its name in the report."""

    UNFINISHED = "unfinished"
    DUPLICATE_FINALS = "duplicate_finals"
    GHOSTS = "ghosts"
    WRONG = "wrong"
    FOREIGN = "foreign"
    DEAD_LETTERS_MISSING = "dead_letters_missing"
    SEGMENTS_WRONG = "segments_wrong"
    EXECUTIONS = "too_many_executions"


class Inconclusive(StrEnum):
    """Why something could not be told."""

    OPENED_GONE = "opened_gone"
    """Retention took the job's first event, or the final of the version before."""

    LETTER_GONE = "letter_gone"
    SEGMENT_GONE = "segment_gone"
    KIND_UNKNOWN = "kind_unknown"
    """The kind is not installed here, so whether its result is its outputs joined is not known."""

    LOG_TIME = "log_time"
    """Overdue by this machine's clock, but the log's own time stands still: nobody writes."""

    UNREADABLE = "unreadable"


class Finding(NamedTuple):
    """One violation: what, of which job and version, and in words."""

    violation: Violation
    job_id: JobId
    version: int
    detail: str


@dataclass(slots=True)
class AuditResult:
    """What is wrong with one final, and what could not be told of it."""

    findings: list[Finding] = field(default_factory=list)
    inconclusive: list[Inconclusive] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong and nothing is left open."""
        return not self.findings and not self.inconclusive


class AuditTally:
    """Counts over all partitions. `findings` are the first `limit`; `dropped` are events that no fold takes, by why."""

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
        """Count what is wrong, and what could not be told."""
        for finding in verdict.findings:
            self.violations[finding.violation] += 1
            if len(self.findings) < self._limit:
                self.findings.append(finding)
        self.inconclusive.update(verdict.inconclusive)

    def saw(self, append_ms: int) -> None:
        """A record of any topic moves the log's time on."""
        self.log_ms = max(self.log_ms, append_ms)
