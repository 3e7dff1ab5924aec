"""Kind `bytes.digest`: checksums of any bytes, computed per shard and combined exactly."""

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

from typing_extensions import override

from regather.core.seq_ranges import ranges
from regather.processors.base import DATA_ERRORS, Options, Processor, ShardView, SplitRequest, Splitter
from regather.processors.splitting.bytes import ByteSplitter

_PART = struct.Struct("<QIII")  # size in bytes, CRC-32, Adler-32, newlines
_ADLER_BASE = 65_521
_CRC_POLYNOMIAL = 0xEDB88320
_CRC_ONE = 0x80000000

Tables = tuple[list[int], list[int], list[int], list[int]]


class BytesDigest(Processor[Options]):
    """Size, CRC-32, Adler-32 and newline count of the whole body, independent of how it is cut.

    Result: {"size_bytes", "crc32", "adler32" (both as zlib's, null if a shard failed for good), "newlines", "gaps"
    (ranges of the shards that failed for good; `size_bytes` and `newlines` do not count them), "digest" (SHA-256 of the
    other fields as JSON with sorted names and without spaces)}.
    """

    certain = DATA_ERRORS

    @override
    def splitter(self, options: Options, request: SplitRequest) -> Splitter:
        return ByteSplitter(request)

    def process(self, shard: ShardView, options: Options) -> bytes:
        """Return the shard's size, CRC-32, Adler-32 and newline count, packed into 20 bytes."""
        payload = shard.payload
        return _PART.pack(len(payload), zlib.crc32(payload), zlib.adler32(payload), payload.count(b"\n"))

    @override
    def merge(self, outputs: Sequence[bytes | None], options: Options) -> bytes:
        size_bytes, newlines, crc, adler = 0, 0, 0, 1
        for output in outputs:
            if output is None:
                continue
            part_bytes, part_crc, part_adler, part_newlines = _PART.unpack(output)
            crc = crc32_combine(crc, part_crc, part_bytes)
            adler = adler32_combine(adler, part_adler, part_bytes)
            size_bytes += part_bytes
            newlines += part_newlines
        gaps = ranges(seq for seq, output in enumerate(outputs) if output is None)
        result = {
            "size_bytes": size_bytes,
            "crc32": None if gaps else crc,
            "adler32": None if gaps else adler,
            "newlines": newlines,
            "gaps": gaps,
        }
        return json.dumps({**result, "digest": hashlib.sha256(_canonical(result)).hexdigest()}).encode()


def adler32_combine(first: int, second: int, second_bytes: int) -> int:
    """Return the Adler-32 of two joined parts (RFC 1950, section 8: both sums are linear modulo 65,521)."""
    low = first & 0xFFFF
    sum_low = (low + (second & 0xFFFF) - 1) % _ADLER_BASE
    sum_high = ((first >> 16) + (second >> 16) + second_bytes * (low - 1)) % _ADLER_BASE
    return sum_high << 16 | sum_low


def crc32_combine(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32 of two joined parts: shift the first by the length of the second, then XOR the second."""
    byte0, byte1, byte2, byte3 = _moves(second_bytes)
    moved = byte0[first & 0xFF] ^ byte1[first >> 8 & 0xFF] ^ byte2[first >> 16 & 0xFF] ^ byte3[first >> 24]
    return moved ^ second


@lru_cache(maxsize=256)
def _moves(size_bytes: int) -> Tables:
    """Return tables to multiply by x^(8 * size_bytes) modulo CRC-32's polynomial; linear, so one table per byte will do."""
    power = _power_of_x(8 * size_bytes)
    columns = [_multiply(power, 1 << bit) for bit in range(32)]
    return _table(columns[:8]), _table(columns[8:16]), _table(columns[16:24]), _table(columns[24:])


def _table(columns: Sequence[int]) -> list[int]:
    table = [0]
    for column in columns:
        table += [column ^ entry for entry in table]
    return table


def _power_of_x(exponent: int) -> int:
    power, square = _CRC_ONE, _CRC_ONE >> 1
    while exponent:
        if exponent & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        exponent >>= 1
    return power


def _multiply(first: int, second: int) -> int:
    """Multiply two polynomials over GF(2) modulo CRC-32's; the highest bit is the coefficient of x^0, as in a CRC."""
    product = 0
    while first:
        if first & _CRC_ONE:
            product ^= second
        first = first << 1 & 0xFFFFFFFF
        second = second >> 1 ^ (_CRC_POLYNOMIAL if second & 1 else 0)
    return product


def _canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
