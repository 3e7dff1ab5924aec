"""What a job's status says, and which of two statuses a view keeps."""

from dataclasses import dataclass

from regather.core.model import Identity, JobState, OnError, Reason

MAX_ERRORS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ShardError:
    """A shard that failed for good, or one `row` of it, as the job's document names it."""

    seq: int
    reason: Reason
    error: str
    attempts: int
    dead_letter: tuple[int, int] | None = None
    """Partition and offset in the dead-letters topic."""

    row: int | None = None
    """The bad row, counted from 0 in the whole body; the shard's other rows are in the result."""


@dataclass(frozen=True, slots=True)
class ResultAddress:
    """Where the result stands in the results topic, its length and its media type.

    `offset` is None where the result travels inside the status record itself. A large result stands in the segments
    topic, in the same partition: `segments` are offset and length of its pieces in order, `digest` is the SHA-256.
    """

    partition: int
    offset: int | None
    size_bytes: int
    media_type: str
    segments: tuple[tuple[int, int], ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job at one moment. Counters of shards count settled ones; `total` is None until the job is sealed.

    `gaps` are the sequence numbers of shards that failed for good as inclusive ranges; `frontier` is the length of the
    gap-free prefix of settled shards; `bad_rows` counts rows that failed by themselves in shards that are done without
    them; `events_offset` is where the job's events begin in its partition of job-events.
    Times are milliseconds since 1970 by the broker's clock.
    """

    owner: Identity
    state: JobState
    kind: str
    tenant: str = ""
    label: str = ""
    on_error: OnError = OnError.FAIL
    created_ms: int = 0
    updated_ms: int = 0
    deadline_ms: int = 0
    total: int | None = None
    done: int = 0
    failed: int = 0
    retries: int = 0
    frontier: int = 0
    bad_rows: int = 0
    size_bytes: int | None = None
    digest: str = ""
    gaps: tuple[tuple[int, int], ...] = ()
    errors: tuple[ShardError, ...] = ()
    reason: Reason | None = None
    error: str = ""
    result: ResultAddress | None = None
    events_offset: int | None = None

    @property
    def ended_early(self) -> bool:
        """Whether the job is over and shards of it may still be on their way to a worker, or in one."""
        return self.state.ended and (self.total is None or self.done + self.failed < self.total)

    @property
    def precedence(self) -> tuple[int, int, bool, int]:
        """A view keeps the status with the highest one, so a zombie's late word never hides an end, or a seal."""
        return (self.owner.version, self.state.rank, self.total is not None, self.done + self.failed)


def newer(old: JobStatus | None, new: JobStatus) -> JobStatus:
    """The status that a view keeps."""
    return new if old is None or new.precedence >= old.precedence else old
