"""Checkpoints of long jobs: their own events once more, without all that was between them in the log.

A restart begins to read job-events where the oldest open job was saved last, not where it began, and has what lies before
from the checkpoints. Source: docs/protocol.md#restore.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from regather.core.grouping import groups
from regather.core.model import Identity, Outcome, Outcomes

PACK_BYTES = 768 * 1024


@dataclass(frozen=True, slots=True)
class CheckpointMark:
    """What each record of a checkpoint says of its job. `next_offset` is only in the last one: the checkpoint is whole.

    Everything of the job below `next_offset` of job-events is saved.
    """

    first_offset: int
    opened_ms: int
    last_sign_ms: int
    retries: int
    next_offset: int | None = None


def packs(owner: Identity, outcomes: Iterable[Outcome]) -> Iterator[Outcomes]:
    """Yield the outcomes as events of about PACK_BYTES; a larger output has one to itself."""
    for pack in groups(outcomes, lambda outcome: len(outcome.output) + len(outcome.carry), PACK_BYTES):
        yield Outcomes(owner, "", pack)
