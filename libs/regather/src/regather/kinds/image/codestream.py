"""Reads the header of a JPEG, JPEG-LS or JPEG 2000 codestream before anything is decoded.

A decoder trusts its codestream. So code that decodes a frame of known size checks the header here first: a stream that
claims 60,000 x 60,000 pixels is refused and not allocated. Sources: ISO/IEC 10918-1, B.2 (frame header); 14495-1,
C.2.2; 15444-1, A.5.1 (SIZ).
"""

import struct
from dataclasses import dataclass

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_J2K_START = b"\xff\x4f\xff\x51"
_JP2_BOX = b"\0\0\0\x0cjP  "
_SOF = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_MAX_COMPONENTS = 16


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size, components and bits per sample. `marker` is that of the frame (0xC0 baseline, 0xC3 lossless, ...).

    `ids` are the components' names in the stream; `jfif` and `adobe` are what its application segments say of colours.
    """

    marker: int
    precision: int
    height: int
    width: int
    components: int
    ids: bytes = b""
    jfif: bool = False
    adobe: int | None = None


def jpeg_head(data: bytes) -> Codestream | None:
    """Read the frame header of JPEG or JPEG-LS; None if there is none."""
    if data[:2] != _SOI:
        return None
    at, jfif, adobe = 2, False, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
            continue
        segment = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        if marker in _SOF:
            return _frame(marker, segment, jfif=jfif, adobe=adobe)
        if marker in (0xD9, 0xDA):
            return None
        jfif = jfif or (marker == 0xE0 and segment.startswith(b"JFIF\0"))
        if marker == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12:
            adobe = segment[11]
        at += 4 + max(0, int.from_bytes(data[at + 2 : at + 4], "big") - 2)
    return None


def jpeg_2000_head(data: bytes) -> Codestream | None:
    """Read the SIZ segment of JPEG 2000 (or HTJ2K), bare or in a JP2 file; None if there is none."""
    if data.startswith(_JP2_BOX):
        data = data[max(0, data.find(_J2K_START)) :]
    if data[:4] != _J2K_START or len(data) < 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, 8)
    (components,) = struct.unpack_from(">H", data, 40)
    return Codestream(0x51, (data[42] & 0x7F) + 1, bottom - top, right - left, components)


def jpeg_end(data: bytes) -> bytes | None:
    """Return the stream up to its end marker, without the padding after it; None if it has no end marker."""
    end = data.rstrip(b"\0") if data[-1:] == b"\0" else data.rstrip(b"\xff") if data[-1:] == b"\xff" else data
    return end if end.endswith(_EOI) else None


def _frame(marker: int, segment: bytes, *, jfif: bool, adobe: int | None) -> Codestream | None:
    if len(segment) < 6:
        return None
    precision, height, width, components = struct.unpack_from(">BHHB", segment)
    if components > _MAX_COMPONENTS or len(segment) < 6 + 3 * components:
        return None
    ids = bytes(segment[6 + 3 * index] for index in range(components))
    return Codestream(marker, precision, height, width, components, ids, jfif, adobe)
