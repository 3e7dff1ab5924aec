"""Checks the structure of a PNG file: each chunk's length and checksum (PNG specification, chapter 5)."""

import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path

from regather.kinds.image.refusals import damaged, unsupported

_SIGNATURE_BYTES = 8
_FRAME_BYTES = 12  # length, name, checksum
_STEP_BYTES = 1 << 24


def check_png_file(path: Path) -> None:
    """Refuse a file with a damaged or missing chunk, or an animated one; BadInput names the byte."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        names = set()
        for at, name, end in _chunks(data):
            names.add(name)
            if name == b"acTL":
                raise unsupported("PNG", "several pictures (an animation)", "send one of them")
            if _checksum(data, at + 4, end - 4) != int.from_bytes(data[end - 4 : end], "big"):
                raise damaged("PNG", f"the checksum of the chunk at byte {at} is wrong; it is damaged")
        for needed in (b"IHDR", b"IDAT"):
            if needed not in names:
                raise damaged("PNG", f"it has no chunk {needed.decode()}")


def _chunks(data: mmap.mmap) -> Iterator[tuple[int, bytes, int]]:
    """Yield where each chunk begins, its name, and where it ends, up to IEND."""
    at, name = _SIGNATURE_BYTES, b""
    while name != b"IEND":
        head = data[at : at + 8]
        end = at + _FRAME_BYTES + int.from_bytes(head[:4], "big")
        if len(head) < 8 or end > len(data):  # length and name
            raise damaged("PNG", f"the chunk at byte {at} continues past the end, byte {len(data)}; it is cut off")
        name = head[4:]
        yield at, name, end
        at = end


def _checksum(data: mmap.mmap, first: int, end: int) -> int:
    checksum = 0
    for at in range(first, end, _STEP_BYTES):
        checksum = zlib.crc32(data[at : min(at + _STEP_BYTES, end)], checksum)
    return checksum
