"""Checkpoints of long jobs: a job's own events once more, without the events of other jobs that stand between them.

A restart reads job-events from where the oldest open job was last saved, not from where it began. It reads the earlier
events of the job from the checkpoints. Source: docs/protocol.md#restore.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from regather.core.grouping import groups
from regather.core.model import Identity, Outcome, Outcomes

PACK_BYTES = 768 * 1024
_ENTRY_BYTES = 64
"""An outcome or a bad row without its output and its texts."""


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
    """Yield the outcomes as events of at most PACK_BYTES; a larger outcome gets an event of its own.

    Texts count by characters, which are up to six bytes each in a record. Its limit leaves room for that.
    """
    for pack in groups(outcomes, _packed_bytes, PACK_BYTES):
        yield Outcomes(owner, "", pack)


def _packed_bytes(outcome: Outcome) -> int:
    texts = [row.error for row in outcome.bad_rows]
    if outcome.failure is not None:
        texts.append(outcome.failure.error)
    return outcome.size_bytes + _ENTRY_BYTES * (1 + len(texts)) + sum(map(len, texts))
