"""An index of dead letters without their payloads: the shard or bad row that each one is of."""

from collections.abc import Mapping
from enum import Enum, auto

from regather.core.errors import WireError
from regather.core.model import DeadLetterAddress, Identity
from regather.wire.identity import HEADER, IDENTITY_BYTES, HeaderMap, pack_identity, required

_SEQ_BYTES = 4
_OFFSET_BITS = 48


class DeadLetterState(Enum):
    """What the audit finds at the address of a dead letter."""

    RIGHT = auto()
    MISSING = auto()
    ANOTHERS = auto()
    GONE = auto()


class DeadLetterIndex:
    """Fill it from the start of the topic before any job is checked. One dead letter takes about 150 bytes."""

    def __init__(self, beginnings: Mapping[int, int]) -> None:
        self._beginnings = dict(beginnings)
        self._dead_letters: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._dead_letters)

    def add(self, partition: int, offset: int, headers: HeaderMap) -> None:
        """Add one dead letter. Skip that of an undecodable record: it has no owner, and no outcome names it."""
        try:
            head = required(headers, HEADER)
        except WireError:
            return
        about = head[: IDENTITY_BYTES + _SEQ_BYTES] + (headers.get("row") or b"")
        self._dead_letters[partition << _OFFSET_BITS | offset] = about

    def look(self, address: DeadLetterAddress, owner: Identity, seq: int, row: int | None) -> DeadLetterState:
        """Return whether the dead letter of this shard (or row) is at the address."""
        about = self._dead_letters.get(address.partition << _OFFSET_BITS | address.offset)
        if about is None:
            gone = address.offset < self._beginnings.get(address.partition, 0)
            return DeadLetterState.GONE if gone else DeadLetterState.MISSING
        wanted = pack_identity(owner) + seq.to_bytes(_SEQ_BYTES, "big") + (b"" if row is None else str(row).encode())
        return DeadLetterState.RIGHT if about == wanted else DeadLetterState.ANOTHERS
