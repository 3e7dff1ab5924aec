"""The life of one submission, from its first shard to its seal, as a table: events in, instructions out.

A submission is what one upload writes to the log for one version of a job. So is a redrive, for the version that it
begins; it keeps the submission id of the upload whose shards it runs again.
Three questions make it hard:

- **Whose is the job?** With an idempotency key, two gateways may take the same job at once, and two redrives may begin the
  same version. Each first writes a claim, reads the log up to it, and goes on only if its claim is the first.
- **Does the seal count?** The aggregator ends a job whose gateway misses its heartbeats. It decides in the order of the
  log, so a gateway whose own records stand too far apart cannot know whether its seal came in time. The same holds for a
  second submission of a version that another gateway may have opened before it died. Then the submission is in doubt: the
  client gets an answer only after the aggregator has said what the job is.
- **What may the client be told?** Before the job is opened, a wrong body is refused and nothing more is written. A
  claim that was sent by then stays in the log: that of a key expires; that of a redrive, if it is the first, opens the
  version, which ends without heartbeats after a minute. The redrive must not abandon it: a rival redrive has the same
  identity, and the version may be the rival's. After the job is opened, giving up must reach the log too, or the job
  waits a minute for its heartbeats. When Kafka confirms nothing in time, a record may stand in the log or not: the state
  is unknown, the producer is thrown away, and nothing more is written, because a later record could be confirmed where
  an earlier one was lost.

    NEW --first shard--> CLAIMING --claim read--> OPEN --body ended--> SEALING --seal acked--> SEALED
     |   (no claim) ---------------------------->  |                      |                      ^
     |                      |                      |                      +--> IN_DOUBT ---------+
     v                      v                      v                                |
    REFUSED        REFUSED, GAVE_WAY           ABANDONED                         UNKNOWN (from any open state)

The shell (`regather_gateway.submission.upload`) sends the records, waits for their acks, and reports what it saw. It
keeps no state of its own: `handle()` returns the one thing that it has to do next, or nothing. docs/protocol.md#submission
shows the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from itertools import pairwise

from regather.core.transition_row import Row, row


class SubmissionState(StrEnum):
    """Where a submission is. Once it has `ended`, no event changes it."""

    NEW = "new"
    CLAIMING = "claiming"
    OPEN = "open"
    SEALING = "sealing"
    IN_DOUBT = "in doubt"
    SEALED = "sealed"
    REFUSED = "refused"
    """Given up before it opened the job. Its claim may stand in the log."""
    GAVE_WAY = "gave way"
    """Another submission claimed the version first."""
    ABANDONED = "abandoned"
    """Given up after it opened the job. The shell still has to write `abandoned`."""
    UNKNOWN = "unknown"
    """Kafka did not confirm a record, or the aggregator did not answer: what stands in the log is not known."""

    @property
    def ended(self) -> bool:
        """True once no event changes the state. In ABANDONED one record is still to be written."""
        return self not in (_S.NEW, _S.CLAIMING, _S.OPEN, _S.SEALING, _S.IN_DOUBT)


_S = SubmissionState


class Doubt(Enum):
    """Why an acked seal may not count."""

    HEARTBEAT_MISSED = auto()
    OPENED_BEFORE = auto()


class Instruction(Enum):
    """What the shell has to do next."""

    CLAIM = auto()
    """Write the claim, read the log up to it, hand back ClaimRead."""
    GIVE_WAY = auto()
    """Tell the client that another submission has the job."""
    OPEN = auto()
    """Open the job, unless the claim has done so, and send heartbeats from now on."""
    SEAL = auto()
    """Write the seal, hand back SealAcked."""
    AWAIT_AGGREGATOR = auto()
    """Wait until the aggregator has said what the job is, hand back AggregatorAnswered."""
    ABANDON = auto()
    """Write `abandoned`: it ends the job at once."""
    DISCARD_PRODUCER = auto()
    """Throw the producer away, with whatever is still on its way."""


@dataclass(frozen=True, slots=True)
class FirstShard:
    """The body's first shard is cut: the body is one that can be cut."""


@dataclass(frozen=True, slots=True)
class ClaimRead:
    """The log was read up to this submission's claim; `first`: no other submission claimed the version before.

    `log_ms` is when the claim was appended, if it is an event of the job.
    """

    first: bool
    log_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Acked:
    """An event of this submission stands in the log since `log_ms`, by the broker's clock."""

    log_ms: int


@dataclass(frozen=True, slots=True)
class BodyEnded:
    """The body has ended, and every shard of it is acked."""


@dataclass(frozen=True, slots=True)
class SealAcked:
    """The seal stands in the log since `log_ms`, by the broker's clock."""

    log_ms: int


@dataclass(frozen=True, slots=True)
class AggregatorAnswered:
    """The wait for the aggregator is over; `in_time`: it has said what the version is."""

    in_time: bool


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The body was refused, its client went away, or the gateway stops."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Kafka refused a record, or did not confirm it in time."""


SubmissionEvent = FirstShard | ClaimRead | Acked | BodyEnded | SealAcked | AggregatorAnswered | GivenUp | Unconfirmed


class Submission:
    """One submission. `claims`: it writes a claim first. `heartbeat_ms`: how often it sends heartbeats while it is open.

    `opened_before`: another submission that nobody hears of any more may have opened the same version.
    """

    def __init__(self, *, heartbeat_ms: int, claims: bool = False, opened_before: bool = False) -> None:
        self.state = _S.NEW
        self._claims = claims
        self._opened_before = opened_before
        self._longest_gap_ms = 2 * heartbeat_ms
        self._acked_ms: list[int] = []

    def handle(self, event: SubmissionEvent) -> Instruction | None:
        """Apply one event; what the shell has to do now, if anything. An event without a row changes nothing."""
        row = TRANSITIONS.get((self.state, type(event)))
        return None if row is None else row.apply(self, event)

    @property
    def doubt(self) -> Doubt | None:
        """Why an acked seal would have to be confirmed by the aggregator; None if it counts as it is."""
        if self._heartbeat_missed():
            return Doubt.HEARTBEAT_MISSED
        return Doubt.OPENED_BEFORE if self._opened_before else None

    def _heartbeat_missed(self) -> bool:
        """Whether two neighbouring events stand more than two heartbeats apart in the log.

        Twice the interval is far below the heartbeat time-out: a slow broker raises a doubt long before the aggregator
        ends a job.
        """
        gaps_ms = (later - earlier for earlier, later in pairwise(sorted(self._acked_ms)))
        return max(gaps_ms, default=0) > self._longest_gap_ms

    def _on_first_shard(self, _: FirstShard) -> Instruction:
        self.state = _S.CLAIMING if self._claims else _S.OPEN
        return Instruction.CLAIM if self._claims else Instruction.OPEN

    def _on_claim_read(self, claim: ClaimRead) -> Instruction:
        if claim.log_ms is not None:
            self._acked_ms.append(claim.log_ms)
        self.state = _S.OPEN if claim.first else _S.GAVE_WAY
        return Instruction.OPEN if claim.first else Instruction.GIVE_WAY

    def _on_acked(self, acked: Acked) -> None:
        self._acked_ms.append(acked.log_ms)

    def _on_body_ended(self, _: BodyEnded) -> Instruction:
        self.state = _S.SEALING
        return Instruction.SEAL

    def _on_seal_acked(self, acked: SealAcked) -> Instruction | None:
        self._acked_ms.append(acked.log_ms)
        self.state = _S.SEALED if self.doubt is None else _S.IN_DOUBT
        return None if self.doubt is None else Instruction.AWAIT_AGGREGATOR

    def _on_answered(self, answered: AggregatorAnswered) -> None:
        self.state = _S.SEALED if answered.in_time else _S.UNKNOWN

    def _refuse(self, _: GivenUp) -> None:
        self.state = _S.REFUSED

    def _abandon(self, _: GivenUp) -> Instruction:
        self.state = _S.ABANDONED
        return Instruction.ABANDON

    def _on_unconfirmed(self, _: Unconfirmed) -> Instruction:
        self.state = _S.UNKNOWN
        return Instruction.DISCARD_PRODUCER


TRANSITIONS: Mapping[tuple[SubmissionState, type], Row[Submission, SubmissionState, Instruction]] = {
    (_S.NEW, FirstShard): row(Submission._on_first_shard, _S.CLAIMING, _S.OPEN),
    (_S.NEW, GivenUp): row(Submission._refuse, _S.REFUSED),
    (_S.NEW, Unconfirmed): row(Submission._on_unconfirmed, _S.UNKNOWN),
    (_S.CLAIMING, ClaimRead): row(Submission._on_claim_read, _S.OPEN, _S.GAVE_WAY),
    (_S.CLAIMING, GivenUp): row(Submission._refuse, _S.REFUSED),
    (_S.CLAIMING, Unconfirmed): row(Submission._on_unconfirmed, _S.UNKNOWN),
    (_S.OPEN, Acked): row(Submission._on_acked, _S.OPEN),
    (_S.OPEN, BodyEnded): row(Submission._on_body_ended, _S.SEALING),
    (_S.OPEN, GivenUp): row(Submission._abandon, _S.ABANDONED),
    (_S.OPEN, Unconfirmed): row(Submission._on_unconfirmed, _S.UNKNOWN),
    (_S.SEALING, Acked): row(Submission._on_acked, _S.SEALING),
    (_S.SEALING, SealAcked): row(Submission._on_seal_acked, _S.SEALED, _S.IN_DOUBT),
    (_S.SEALING, GivenUp): row(Submission._abandon, _S.ABANDONED),
    (_S.SEALING, Unconfirmed): row(Submission._on_unconfirmed, _S.UNKNOWN),
    (_S.IN_DOUBT, AggregatorAnswered): row(Submission._on_answered, _S.SEALED, _S.UNKNOWN),
    (_S.IN_DOUBT, Unconfirmed): row(Submission._on_unconfirmed, _S.UNKNOWN),
}
"""Every pair of state and event that means something, and where it may lead."""
