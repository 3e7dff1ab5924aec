"""Checks the structure of a JPEG file: its markers from SOI to EOI (ITU-T T.81, annex B)."""

import mmap
import re
from pathlib import Path

from regather.kinds.image.refusals import damaged, unsupported

_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""The next marker after a scan: 0xFF that is not a stuffed byte, a fill byte or a restart marker."""

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = {
    0xC0: "", 0xC1: "", 0xC2: "", 0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical",
    0xC9: "arithmetically coded", 0xCA: "arithmetically coded", 0xCB: "lossless", 0xCD: "hierarchical",
    0xCE: "hierarchical", 0xCF: "hierarchical", 0xF7: "JPEG-LS",
}  # fmt: skip


def check_jpeg_file(path: Path) -> None:
    """Refuse a file whose markers do not lead to its end, or whose coding libjpeg does not support; BadInput."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        check_jpeg_markers(data)


def check_jpeg_markers(data: mmap.mmap | bytes) -> None:
    """Walk the markers of one JPEG image up to its end; BadInput names the first byte that is wrong."""
    at, frame, scans = 2, False, 0
    while True:
        marker = data[at : at + 2]
        if len(marker) < 2:
            raise damaged("JPEG", f"it ends at byte {len(data)} without an end marker; it is cut off")
        if marker[0] != 0xFF or marker[1] in (0x00, _SOI):  # every marker begins with 0xFF
            raise damaged("JPEG", f"there is no marker at byte {at}, where one must be")
        if marker[1] == 0xFF:  # a fill byte
            at += 1
            continue
        if marker[1] == _EOI:
            break
        if marker[1] in _FRAMES:
            _check_frame(data, at, marker[1])
            frame = True
        at += 2 + _length(data, at)
        if marker[1] == _SOS:
            scans += 1
            found = _IN_SCAN.search(data, at)
            if found is None:
                raise damaged("JPEG", f"it ends at byte {len(data)} without an end marker; it is cut off")
            at = found.start()
    if not frame or not scans:
        raise damaged("JPEG", "it contains no picture")


def _length(data: mmap.mmap | bytes, at: int) -> int:
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    if length < 2 or at + 2 + length > len(data):  # it counts itself
        raise damaged("JPEG", f"the segment at byte {at} continues past the end, byte {len(data)}; it is cut off")
    return length


def _check_frame(data: mmap.mmap | bytes, at: int, marker: int) -> None:
    if _FRAMES[marker]:
        raise unsupported("JPEG", f"{_FRAMES[marker]} pixels", "save it as baseline or progressive JPEG, PNG or TIFF")
    head = data[at + 4 : at + 10]
    if len(head) < 6:  # precision, height, width, components
        raise damaged("JPEG", f"its frame header at byte {at} is cut off")
    if head[0] != 8:
        raise unsupported("JPEG", f"{head[0]} bits for each value", "save it with 8, or as PNG or TIFF")
    if head[5] == 4:
        raise unsupported("JPEG", "four channels of ink (CMYK)", "convert it to RGB")
