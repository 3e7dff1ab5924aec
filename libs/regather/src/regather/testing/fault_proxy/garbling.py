"""Breaks a checksum inside a reply to Fetch, and nothing else: every length and offset stays correct."""

import struct

_VERSIONS = range(4, 12)  # version 12 changes the encoding; current brokers still support these
_LENGTH_BYTES, _CORRELATION_BYTES = 4, 4
_CHECKSUM_AT = 17  # base offset, batch length, leader epoch, magic
_BATCH_HEAD_BYTES = 61


class _Cursor:
    """Reads big-endian numbers one after the other."""

    def __init__(self, frame: bytearray, at: int) -> None:
        self.frame = frame
        self.at = at

    def skip(self, size: int) -> None:
        self.at += size

    def short(self) -> int:
        return int(self._number(">h"))

    def integer(self) -> int:
        return int(self._number(">i"))

    def _number(self, layout: str) -> int:
        (value,) = struct.unpack_from(layout, self.frame, self.at)
        self.at += struct.calcsize(layout)
        return int(value)


def garble(frame: bytearray, version: int) -> bool:
    """Flip a bit in the checksum of the first batch of the last partition with records; return False if none has any.

    `frame` is a whole reply to a Fetch request of this version. A client reads the partitions in this order, so it has
    already accepted the records of the earlier ones when it meets the error. False for versions other than 4 to 11.
    """
    if version not in _VERSIONS:
        return False
    batches = [at for at, size in _record_sets(frame, version) if size >= _BATCH_HEAD_BYTES]
    if not batches:
        return False
    frame[batches[-1] + _CHECKSUM_AT] ^= 0x01
    return True


def _record_sets(frame: bytearray, version: int) -> list[tuple[int, int]]:
    """Return the offset and size in bytes of each partition's records in the frame."""
    cursor = _Cursor(frame, _LENGTH_BYTES + _CORRELATION_BYTES)
    cursor.skip(4)  # throttle time
    if version >= 7:
        cursor.skip(2 + 4)  # error, session
    found: list[tuple[int, int]] = []
    for _ in range(cursor.integer()):
        cursor.skip(cursor.short())  # topic
        found += [_record_set(cursor, version) for _ in range(cursor.integer())]
    return found


def _record_set(cursor: _Cursor, version: int) -> tuple[int, int]:
    cursor.skip(4 + 2 + 8 + 8)  # partition, error, high watermark, last stable offset
    if version >= 5:
        cursor.skip(8)  # beginning of the log
    cursor.skip(16 * max(0, cursor.integer()))  # aborted transactions
    if version >= 11:
        cursor.skip(4)  # preferred replica
    size = max(0, cursor.integer())
    begin = cursor.at
    cursor.skip(size)
    return begin, size
