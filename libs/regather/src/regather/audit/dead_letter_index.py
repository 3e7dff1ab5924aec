"""Which shard, or bad row, each dead letter is about: an index without the payloads."""

from collections.abc import Mapping
from enum import Enum, auto

from regather.core.errors import WireError
from regather.core.model import DeadLetterAddress, Identity
from regather.wire.identity import HEADER, IDENTITY_BYTES, pack_identity, required

_SEQ_BYTES = 4
_OFFSET_BITS = 48


class Letter(Enum):
    """What stands at an address."""

    RIGHT = auto()
    MISSING = auto()
    ANOTHERS = auto()
    GONE = auto()


class DeadLetterIndex:
    """Filled from the start of the topic before any job is judged. One letter takes about 150 bytes."""

    def __init__(self, beginnings: Mapping[int, int]) -> None:
        self._beginnings = dict(beginnings)
        self._letters: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, partition: int, offset: int, headers: Mapping[str, bytes]) -> None:
        """Note one letter; a record that could not be decoded has no owner, and no outcome names it."""
        try:
            head = required(headers, HEADER)
        except WireError:
            return
        about = head[: IDENTITY_BYTES + _SEQ_BYTES] + headers.get("row", b"")
        self._letters[partition << _OFFSET_BITS | offset] = about

    def look(self, address: DeadLetterAddress, owner: Identity, seq: int, row: int | None) -> Letter:
        """Return whether the letter of this shard (or row) stands there."""
        about = self._letters.get(address.partition << _OFFSET_BITS | address.offset)
        if about is None:
            gone = address.offset < self._beginnings.get(address.partition, 0)
            return Letter.GONE if gone else Letter.MISSING
        wanted = pack_identity(owner) + seq.to_bytes(_SEQ_BYTES, "big") + (b"" if row is None else str(row).encode())
        return Letter.RIGHT if about == wanted else Letter.ANOTHERS
