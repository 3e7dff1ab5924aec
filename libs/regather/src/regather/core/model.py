"""The nouns of Regather: jobs, shards, attempts and outcomes, as plain frozen values.

Values that exist once for each shard are NamedTuples: making one takes a third of the time of a frozen dataclass.
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
    """The state of a job. The last five states are final."""

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
        """True for final states: no event leaves them."""
        return self.rank >= _FIRST_END

    @property
    def rank(self) -> int:
        """Order of the states: a view never replaces a state by a lower one of the same version."""
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
    """The job, submission and version that a record belongs to. A fold drops every record that is not its owner's."""

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
    """Where a record is in the log."""

    topic: str
    partition: int
    offset: int


class Shard(NamedTuple):
    """A piece of a job's input as a worker gets it.

    `attempt` is 0 for the first execution. `meta` is the splitter's metadata of this piece (JSON bytes or empty).
    `history` holds one entry for each earlier failed execution. `delay_ms` is how long a retry has to wait.

    A `chained` shard needs the carry of the shard before it. The first worker that receives it parks it. The aggregator
    later releases it in a second record, which has the `carry` and the `source` of the payload.

    `skip` (on_error=skip): if the shard fails, the job continues without it, or without its bad rows only if the kind
    can tell its rows apart.
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
    """Where a dead letter is in the topic dead-letters."""

    partition: int
    offset: int


class Outcome(NamedTuple):
    """What became of a shard: done with `output`, or failed for good with `failure`.

    `attempts` counts executions: 1 is a success without a retry, 4 a shard that failed for good after three retries.
    `carry` is what the next shard of a chained job starts from. With `bad_rows`, the output is that of all other rows.
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

    @property
    def size_bytes(self) -> int:
        """Bytes of output and carry: what a record of outcomes is filled with."""
        return len(self.output) + len(self.carry)


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
    """With on_error=skip: the job fails when more shards than this have failed for good or have bad rows."""

    max_failed_pct: float | None = None
    """The same limit in percent of all shards. It applies once the seal has said how many there are."""


@dataclass(frozen=True, slots=True)
class Uploading:
    """Heartbeat of a slow upload: its gateway is alive and has cut `shards` shards."""

    owner: Identity
    shards: int


class OffsetRange(NamedTuple):
    """Part of one partition: its records from offset `first` to offset `last`, both included."""

    topic: str
    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """The commit point of a submission, or of a redrive: the job has exactly `shards` shards.

    `shard_ranges` is where their records are. Records of other jobs may stand between them.
    """

    owner: Identity
    shards: int
    size_bytes: int
    digest: str
    shard_ranges: tuple[OffsetRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Redriven:
    """A job that has ended begins its next version: the shards `seqs` run again, the others keep their outcomes.

    `opened` is a copy of the submission's own `opened`, with the identity of the new version. `origin` is the offset of
    the job's first event, `created_ms` the time when the job was created. The seal follows once every shard is sent.
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
    """The gateway gave up a submission before its seal. The client got `error` as the reason."""

    owner: Identity
    error: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """A client asked for the job's end."""

    owner: Identity


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcomes of one micro-batch, all of one job."""

    owner: Identity
    worker: str
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An execution of a shard failed, and the worker published the next attempt."""

    owner: Identity
    seq: int
    error: AttemptError


@dataclass(frozen=True, slots=True)
class Parked:
    """A worker received a chained shard, whose record is at `place`. It waits for the carry of the shard before it."""

    owner: Identity
    seq: int
    place: RecordPlace
    timeout_ms: int
    meta: bytes = b""


@dataclass(frozen=True, slots=True)
class Tick:
    """Moves the log's time and carries nothing else."""


Event = Opened | Redriven | Uploading | Sealed | Abandoned | Outcomes | AttemptFailed | Parked | Cancel | Tick
