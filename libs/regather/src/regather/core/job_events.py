"""What a job's fold is told beside the records of job-events: by the shell that carries out its instructions."""

from collections.abc import Mapping
from dataclasses import dataclass

from regather.core.checkpoint import CheckpointMark
from regather.core.model import (
    Abandoned,
    AttemptFailed,
    Cancel,
    Event,
    Outcome,
    Outcomes,
    Parked,
    Reason,
    Sealed,
    Uploading,
)


@dataclass(frozen=True, slots=True)
class Assembled:
    """The shell joined or merged the outputs."""

    result: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class JobBroken:
    """The job cannot go on: merge failed, result too large, silence, deadline, or an error of our own."""

    reason: Reason
    error: str


@dataclass(frozen=True, slots=True)
class InheritedLoaded:
    """The shell has read what the earlier versions of a job that was redriven have left.

    Outcomes by sequence number, and the seal of the first version; None where that cannot be read.
    """

    outcomes: Mapping[int, Outcome]
    sealed: Sealed | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """The shell has read one record of the job's checkpoint, behind the one that begins it."""

    event: Event
    mark: CheckpointMark


JobEvent = (
    InheritedLoaded
    | Restored
    | Uploading
    | Sealed
    | Abandoned
    | Outcomes
    | AttemptFailed
    | Parked
    | Cancel
    | Assembled
    | JobBroken
)
