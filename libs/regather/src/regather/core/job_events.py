"""Inputs of a job's fold that are no records of job-events: results of the instructions that the shell carried out."""

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
    """The job cannot go on: failed merge, result too large, missed heartbeat, deadline passed, or internal error."""

    reason: Reason
    error: str


@dataclass(frozen=True, slots=True)
class InheritedLoaded:
    """The shell has read what the earlier versions of a redriven job have left.

    `outcomes` are by sequence number. `sealed` is the seal of the first version, None if there is none.
    """

    outcomes: Mapping[int, Outcome]
    sealed: Sealed | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """The shell has read one record of the job's checkpoint, any but the first."""

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
