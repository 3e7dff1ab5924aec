"""Checkpoints of long jobs: a job's own events once more, without the events of other jobs that stand between them.

A restart reads job-events from where the oldest open job was last saved, not from where it began. It reads the earlier
events of the job from the checkpoints. Source: docs/protocol.md#restore.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from regather.core.grouping import groups
from regather.core.model import Identity, Outcome, Outcomes

PACK_BYTES = 768 * 1024


@dataclass(frozen=True, slots=True)
class CheckpointMark:
    """What each record of a checkpoint says about its job.

    Only the last record has `next_offset`: the checkpoint is whole, and holds everything of the job below this offset
    of job-events.
    """

    first_offset: int
    opened_ms: int
    last_sign_ms: int
    retries: int
    next_offset: int | None = None


def packs(owner: Identity, outcomes: Iterable[Outcome]) -> Iterator[Outcomes]:
    """Yield the outcomes as events with at most PACK_BYTES of outputs; a larger output gets an event of its own."""
    for pack in groups(outcomes, lambda outcome: outcome.size_bytes, PACK_BYTES):
        yield Outcomes(owner, "", pack)
