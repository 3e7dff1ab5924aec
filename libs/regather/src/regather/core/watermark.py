"""Which offsets of a partition may be committed: only those below which everything is settled.

A bitmap of what is settled above the watermark goes into the commit's metadata, so that the next owner repeats little.
"""

import base64
import zlib
from bisect import bisect_left

MAX_METADATA_BYTES = 3_500
"""Kafka's limit for commit metadata is 4,096 bytes."""

_MAX_BITS = 24_000


class Watermark:
    """Offsets delivered and settled of one partition and one assignment. Offsets may have gaps."""

    def __init__(self, next_offset: int = 0, metadata: str = "") -> None:
        self._next = next_offset
        self._open: dict[int, None] = {}
        self._settled: set[int] = set()
        self._skip = decode_settled(next_offset, metadata)

    def deliver(self, offset: int) -> bool:
        """Take note of a delivered record; False if an earlier owner settled it already, or it was delivered before."""
        if offset < self._next:
            return False
        self._next = offset + 1
        if offset in self._skip:
            self._skip.discard(offset)
            if self._open:
                self._settled.add(offset)
            return False
        self._open[offset] = None
        return True

    def settle(self, offset: int) -> None:
        """One delivered record is settled; repeats are harmless."""
        if offset in self._open:
            del self._open[offset]
            self._settled.add(offset)

    @property
    def open_count(self) -> int:
        """Delivered and not settled."""
        return len(self._open)

    def committable(self) -> tuple[int, str]:
        """Offset to commit, and the metadata that names what is settled above it."""
        offset = next(iter(self._open), self._next)
        self._settled = {settled for settled in self._settled if settled > offset}
        above = self._settled | self._skip
        return offset, encode_settled(offset, above)


def encode_settled(offset: int, settled: set[int]) -> str:
    """Settled offsets above `offset` as text: a compressed bitmap, cut where it would exceed the metadata's limit."""
    bits = _MAX_BITS
    ordered = sorted(settled)
    while True:
        within = ordered[: bisect_left(ordered, offset + bits)]
        if not within:
            return ""
        bitmap = bytearray((within[-1] - offset) // 8 + 1)
        for number in within:
            bitmap[(number - offset) // 8] |= 1 << (number - offset) % 8
        text = base64.b64encode(zlib.compress(bytes(bitmap), 6)).decode()
        if len(text) <= MAX_METADATA_BYTES:
            return text
        bits //= 2


def decode_settled(offset: int, metadata: str) -> set[int]:
    """Read what encode_settled() wrote; anything else names nothing, and shards run again."""
    try:
        bitmap = zlib.decompress(base64.b64decode(metadata, validate=True)) if metadata else b""
    except (ValueError, zlib.error):
        return set()
    return {offset + at * 8 + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1}
