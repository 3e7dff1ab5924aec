"""The demo's poisoned job: sixteen small shards, one of which raises at every attempt and ends as a dead letter."""

from regather.core.model import MAX_ATTEMPTS
from regather_cli.client import JobDocument, Submission
from regather_cli.dead_letters import DeadLetter

SHARDS, SHARD_BYTES, POISONED_SEQ = 16, 1024, 5
BODY = bytes(number * 31 % 251 for number in range(SHARDS * SHARD_BYTES))
SUBMISSION = Submission(
    "diagnostics",
    {"do": "raise", "only": str(POISONED_SEQ)},
    shard_size_bytes=SHARD_BYTES,
    on_error="skip",
    label="demo poison",
)
EXPECTED_RESULT = {
    "shards": SHARDS,
    "gaps": [[POISONED_SEQ, POISONED_SEQ]],
    "size_bytes": (SHARDS - 1) * SHARD_BYTES,
    "attempts": SHARDS - 1,
}


def complaints(document: JobDocument, letters: list[DeadLetter]) -> list[str]:
    """Return the expectations not met: a partial job, one gap, and one dead letter with payload and four attempts."""
    expectations = {
        "state is partial": document["state"] == "partial",
        "the gap is named": document["shards"]["gaps"] == [[POISONED_SEQ, POISONED_SEQ]],
        "one dead letter, of the poisoned shard": [letter.seq for letter in letters] == [POISONED_SEQ],
        "the dead letter holds every attempt": all(len(letter.attempts) == MAX_ATTEMPTS for letter in letters),
        "the dead letter holds the payload": all(letter.payload == _payload(letter.seq) for letter in letters),
    }
    return [what for what, met in expectations.items() if not met]


def _payload(seq: int) -> bytes:
    return BODY[seq * SHARD_BYTES : (seq + 1) * SHARD_BYTES]
