"""The nouns of Regather: jobs, shards, attempts and outcomes, as plain frozen values.

What exists once for each shard is a NamedTuple: made in a third of the time that a frozen dataclass takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, NewType

JobId = NewType("JobId", str)
"""Canonical UUID text, 36 characters."""

SubmissionId = NewType("SubmissionId", str)
"""One upload of a job's body: 16 hexadecimal digits, random."""

MAX_ATTEMPTS = 4
"""The first execution and at most three retries."""


class JobState(StrEnum):
    """Where a job is; the last five are ends."""

    ACCEPTED = "accepted"
    SPLITTING = "splitting"
    RUNNING = "running"
    ASSEMBLING = "assembling"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """True for the states that no event leaves."""
        return self.rank >= _FIRST_END

    @property
    def rank(self) -> int:
        """Order in which a view lets one state replace another of the same version."""
        return _RANKS[self]


_RANKS = {state: rank for rank, state in enumerate(JobState)}
_FIRST_END = _RANKS[JobState.SUCCEEDED]


class Reason(StrEnum):
    """Why an attempt, a shard or a job failed."""

    RAISED = "raised"
    PERMANENT = "permanent"
    TIMED_OUT = "timed-out"
    CRASHED = "crashed"
    EXITED = "exited"
    OUT_OF_MEMORY = "out-of-memory"
    CPU_TIME = "cpu-time"
    RETURNED_TOO_MUCH = "returned-too-much"
    WORKER_LOST = "worker-lost"
    UNREADABLE = "unreadable"
    SHARD_FAILED = "shard-failed"
    NOT_SEALED = "not-sealed"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    TOO_MANY_FAILED = "too-many-failed"
    MERGE_FAILED = "merge-failed"
    RESULT_TOO_LARGE = "result-too-large"
    PAST_RETENTION = "past-retention"
    INTERNAL = "internal"


class OnError(StrEnum):
    """What a shard that failed for good does to its job."""

    FAIL = "fail"
    SKIP = "skip"


class Identity(NamedTuple):
    """Whose record this is. A fold drops whatever does not belong to the job's owner."""

    job_id: JobId
    submission: SubmissionId
    version: int = 1


@dataclass(frozen=True, slots=True)
class AttemptError:
    """One failed execution of a shard."""

    attempt: int
    reason: Reason
    error: str
    worker: str
    started_ms: int
    duration_ms: int


class RecordPlace(NamedTuple):
    """Where a record stands in the log."""

    topic: str
    partition: int
    offset: int


class Shard(NamedTuple):
    """A piece of a job's input as a worker gets it.

    `attempt` is 0 for the first execution; `meta` is what the splitter says of this piece (JSON bytes or empty);
    `history` holds one entry for each earlier failed execution; `delay_ms` is how long a retry has to wait. A `chained`
    shard needs the carry of the one before it: it is parked when it first comes, and comes again, released, with `carry`
    and with the `source` of its payload. `skip`: its job goes on without it (on_error=skip), and without its bad rows alone
    if they can be told from the good ones.
    """

    owner: Identity
    seq: int
    kind: str
    options: bytes
    payload: bytes
    meta: bytes = b""
    timeout_ms: int = 15_000
    attempt: int = 0
    history: tuple[AttemptError, ...] = ()
    delay_ms: int = 0
    chained: bool = False
    carry: bytes = b""
    source: RecordPlace | None = None
    skip: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetterAddress:
    """Where the dead letter of a shard stands in the dead-letters topic."""

    partition: int
    offset: int


class Outcome(NamedTuple):
    """What became of a shard: done with `output`, or failed for good with `failure`.

    `attempts` counts executions, so 1 is a first success and 4 a shard that failed for good after three retries. `carry`
    is what the next shard of a chained job begins with. With `bad_rows` the output is that of all the other rows.
    """

    seq: int
    attempts: int
    input_bytes: int
    started_ms: int
    duration_us: int
    output: bytes = b""
    failure: "Failure | None" = None
    carry: bytes = b""
    bad_rows: "tuple[BadRow, ...]" = ()


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that failed by itself; `row` counts from 0 in the whole body."""

    row: int
    reason: Reason
    error: str
    dead_letter: DeadLetterAddress | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a shard failed for good, with every attempt's error and the address of its dead letter."""

    reason: Reason
    error: str
    history: tuple[AttemptError, ...] = ()
    dead_letter: DeadLetterAddress | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A submission begins. The first one in log order owns the job."""

    owner: Identity
    kind: str
    options: bytes
    tenant: str
    deadline_ms: int
    on_error: OnError = OnError.FAIL
    label: str = ""
    chained: bool = False
    max_failed: int | None = None
    """With on_error=skip: more shards than this that failed for good end the job."""

    max_failed_pct: float | None = None
    """The same as a share of all shards, decided once their number is known."""


@dataclass(frozen=True, slots=True)
class Uploading:
    """The sender of a slow upload is alive and has cut `shards` shards."""

    owner: Identity
    shards: int


class OffsetRange(NamedTuple):
    """Part of one partition: all of its records from offset `first` to offset `last`."""

    topic: str
    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """The commit point of a submission, or of a redrive: the job has exactly `shards` shards.

    Their records stand in `places`, among those of others.
    """

    owner: Identity
    shards: int
    size_bytes: int
    digest: str
    shard_ranges: tuple[OffsetRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Redriven:
    """A job that has ended begins its next version: the shards `seqs` run again, of all others the outcomes stay.

    `opened` is the submission's own with the new version's identity; the job's events begin at offset `origin`, and it was
    created at `created_ms`. A seal follows once every shard is on its way.
    """

    opened: Opened
    seqs: tuple[tuple[int, int], ...]
    origin: int
    created_ms: int

    @property
    def owner(self) -> Identity:
        """Job, submission and the new version."""
        return self.opened.owner


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The gateway gave a submission up before its seal, for a reason that the client was told."""

    owner: Identity
    error: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody asked for the end of the job."""

    owner: Identity


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcomes of one micro-batch, all of one job."""

    owner: Identity
    worker: str
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A shard's execution failed and a retry was published."""

    owner: Identity
    seq: int
    error: AttemptError


@dataclass(frozen=True, slots=True)
class Parked:
    """A chained shard has come and waits at `place` for the carry of the one before it."""

    owner: Identity
    seq: int
    place: RecordPlace
    timeout_ms: int
    meta: bytes = b""


@dataclass(frozen=True, slots=True)
class Tick:
    """Carries nothing but the log's time."""


Event = Opened | Redriven | Uploading | Sealed | Abandoned | Outcomes | AttemptFailed | Parked | Cancel | Tick
