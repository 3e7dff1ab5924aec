"""The invariants, and how often each was checked and violated.

Their numbers are those of the research page on Kafka, section 3.1; `VIEW` is that what a gateway shows of a job in the end,
even after compaction, is how the job ended, and `ERRORS` that no part ends by an error that nobody expected.
"""

from collections import Counter
from dataclasses import dataclass, field

NAMES = {
    "I1": "one final for each job and version, for readers from the start and for those who were there",
    "I2": "the result is the right one, in order; the end is one that the log allows",
    "I3": "no final for an unknown job, no part of a set of segments",
    "I4": "each failed shard is named, with one dead letter",
    "I5": "at most four attempts, charged only to what was executed; executions are bounded",
    "I6": "no committed offset passes an open shard or an open job",
    "I7": "after the last fault everything drains",
    "I8": "no transaction keeps readers waiting for longer than its time-out and 10 s",
    "I9": "a healthy job is not held up by others that fail, hang or wait",
    "I10": "no task is left, no loop spins",
    "I11": "every drop is counted",
    "VIEW": "the last status of a job is its end",
    "ERRORS": "no part ends by an error that nobody expected",
}


@dataclass
class Invariants:
    """Counts of one or many runs; `violations` says what was wrong, in the order in which it was found."""

    checked: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, str]] = field(default_factory=list)

    def check(self, name: str, holds: object, *what: object) -> bool:
        """Count one check of an invariant; the words of `what` say what is wrong if it does not hold."""
        self.checked[name] += 1
        if holds:
            return True
        self.violations.append((name, " ".join(map(str, what))))
        return False

    @property
    def violated(self) -> Counter[str]:
        """How often each was violated."""
        return Counter(name for name, _ in self.violations)
