"""Reads the size of a coded strip in pixels from its header, before a decoder allocates memory for it."""

import re
import struct
from collections.abc import Callable

from regather.kinds.image.codestream import Codestream, jpeg_2000_head, jpeg_head

_JPEG = {7, 33007, 34892}
_JPEG_2000 = {33003, 33004, 33005, 34712}
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""JPEG XL's aspect ratios: width to height."""


def coded_size(compression: int, data: bytes) -> tuple[int, int] | None:
    """Return width and height; None for a codec that codes bytes, (0, 0) for a header that cannot be read."""
    reader = _READERS.get(int(compression))
    if reader is None:
        return None
    try:
        return reader(data)
    except (LookupError, ValueError, struct.error):
        return 0, 0


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _codestream_size(head: Codestream | None) -> tuple[int, int]:
    return (0, 0) if head is None else (head.width, head.height)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return the size by RFC 9649: an extended file, a lossless bit stream, or a lossy one."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _jpegxr_size(data: bytes) -> tuple[int, int]:
    """Return the size by ITU-T T.832, annex A: a directory as in TIFF, with the size in the tags 0xBC80 and 0xBC81."""
    at = int.from_bytes(data[4:8], "little")
    sides = {}
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        code, kind, _, value = struct.unpack_from("<HHII", data, at + 2 + 12 * entry)
        sides[code] = value & 0xFFFF if kind == 3 else value  # 3: a number of 16 bits
    return sides[0xBC80], sides[0xBC81]


def _jpegxl_size(data: bytes) -> tuple[int, int]:
    """Return the size by ISO/IEC 18181-1, SizeHeader, of a codestream, or of the first part of one in boxes."""
    if not data.startswith(b"\xff\x0a"):
        box = re.search(rb"jxlc|jxlp.{4}", data, re.DOTALL)
        data = b"" if box is None else data[box.end() :]
    if not data.startswith(b"\xff\x0a"):
        return 0, 0
    bits = _Bits(data[2:18])
    small = bits.take(1)
    height = bits.jpegxl_side(small)
    ratio = bits.take(3)
    if ratio:
        return height * _RATIOS[ratio][0] // _RATIOS[ratio][1], height
    return bits.jpegxl_side(small), height


class _Bits:
    """Reads numbers of any bit length, lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._left & ((1 << count) - 1)
        self._left >>= count
        return value

    def jpegxl_side(self, small: int) -> int:
        """Return one side of a JPEG XL image."""
        return 8 * (1 + self.take(5)) if small else 1 + self.take((9, 13, 18, 30)[self.take(2)])


_READERS: dict[int, Callable[[bytes], tuple[int, int]]] = {
    **dict.fromkeys(_JPEG, lambda data: _codestream_size(jpeg_head(data))),
    **dict.fromkeys(_JPEG_2000, lambda data: _codestream_size(jpeg_2000_head(data))),
    34933: _png_size,
    **dict.fromkeys((34927, 50001), _webp_size),
    **dict.fromkeys((22610, 34934), _jpegxr_size),
    **dict.fromkeys((50002, 52546), _jpegxl_size),
}
