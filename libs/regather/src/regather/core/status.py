"""The status of a job, and the rule by which a view keeps one of two statuses."""

from dataclasses import dataclass

from regather.core.model import Identity, JobState, OnError, Reason

MAX_ERRORS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ShardError:
    """A shard or one `row` of it that failed for good, as an entry of the job's document."""

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
    """Where the result is in the topic `results`, its length and its media type.

    `offset` is None if the status record itself contains the result. A large result is in the same partition of the
    topic `segments`: `segments` holds offset and length of each piece, in order, and `digest` is the SHA-256.
    """

    partition: int
    offset: int | None
    size_bytes: int
    media_type: str
    segments: tuple[tuple[int, int], ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job at one moment. Shards are counted once they are settled; `total` is None until the job is sealed.

    `gaps` holds the sequence numbers of shards that failed for good, as inclusive ranges. `frontier` is the length of
    the gap-free prefix of settled shards. `bad_rows` counts rows that failed by themselves in shards that are done
    without them. `events_offset` is the offset of the job's first event in its partition of job-events. `redriven`: a
    redrive began this version, so the job's upload has ended. Times are milliseconds since 1970 by the broker's clock.
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
    redriven: bool = False

    @property
    def ended_early(self) -> bool:
        """Whether the job is over while shards of it may still wait for a worker or run in one."""
        return self.state.ended and (self.total is None or self.done + self.failed < self.total)

    @property
    def uploading(self) -> bool:
        """Whether the upload of the job's body has not ended yet, as far as this status says."""
        return self.total is None and not self.state.ended and not self.redriven

    @property
    def never_uploaded(self) -> bool:
        """Whether the job ended without the whole of its input, so that it can only be submitted again."""
        return self.state is JobState.FAILED and self.reason is Reason.NOT_SEALED and not self.redriven

    @property
    def precedence(self) -> tuple[int, int, bool, int]:
        """A view keeps the status with the highest value, so a late status of a zombie never hides an end or a seal."""
        return (self.owner.version, self.state.rank, self.total is not None, self.done + self.failed)


def newer(old: JobStatus | None, new: JobStatus) -> JobStatus:
    """Return which of the two statuses a view keeps."""
    return new if old is None or new.precedence >= old.precedence else old
