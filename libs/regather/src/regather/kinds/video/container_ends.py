"""Checks that a container is complete, by the lengths that it states. Pure: no decoder is used.

Sources: ISO/IEC 14496-12 (boxes), RFC 8794 and RFC 9559 (EBML, Matroska), the RIFF specification (AVI). Decoders accept
a file that is cut off as a shorter one, or conceal what is missing; a stated length past the end of the file reveals
it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from regather.core.errors import BadInput

Read = Callable[[int, int], bytes]

_SEGMENT, _TRACKS, _TRACK_ENTRY, _NUMBER, _CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0xD7, 0x1F43B675
_GROUP, _BLOCKS = 0xA0, (0xA3, 0xA1)
_IN_CLUSTER = frozenset((0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xAF, 0x5854, 0xEC, 0xBF))
"""Timestamp, SimpleBlock, BlockGroup, Position, PrevSize, EncryptedBlock, SilentTracks, Void, CRC-32."""

_LARGE, _REST = 1, 0


def check_ends(container: str, read: Read, size_bytes: int) -> None:
    """Raise BadInput if the file ends before what it announces, or lacks what every such file has."""
    if container == "mp4":
        _check_boxes(read, size_bytes)
    elif container == "matroska":
        _check_elements(read, size_bytes)
    elif container == "avi":
        _check_riff(read, size_bytes)


def _check_boxes(read: Read, size_bytes: int) -> None:
    at, seen = 0, set[bytes]()
    while at < size_bytes:
        head = read(at, 16)
        kind = head[4:8]
        if len(head) < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
            if {b"moov", b"mdat"} <= seen:
                return  # some recorders leave a few bytes after the last box
            raise BadInput(f"byte {at}: no box of an MP4 file begins here; the file is damaged", code="video-invalid")
        stated = int.from_bytes(head[:4], "big")
        length = {_LARGE: int.from_bytes(head[8:16], "big"), _REST: size_bytes - at}.get(stated, stated)
        if length < 8 or at + length > size_bytes:
            raise _cut_off(f"the box {kind.decode('latin-1')!r}", at, at + length, size_bytes)
        seen.add(kind)
        at += length
    if b"moov" not in seen:
        raise BadInput(
            "the MP4 file has no 'moov' box, which says where its frames are: the recording was not finished, or the "
            "upload was cut off",
            code="video-invalid",
        )


def _check_riff(read: Read, size_bytes: int) -> None:
    at = 0
    while at + 12 <= size_bytes and read(at, 4) == b"RIFF":
        length = 8 + int.from_bytes(read(at + 4, 4), "little")
        if length <= 12:
            raise BadInput("the AVI file states no length: the recording was not finished", code="video-invalid")
        if at + length > size_bytes:
            raise _cut_off("the RIFF list", at, at + length, size_bytes)
        at += length + length % 2


def _check_elements(read: Read, size_bytes: int) -> None:
    tracks: set[int] = set()
    for element in _elements(read, 0, size_bytes):
        if element.id == _TRACKS:
            entries = (entry for entry in _elements(read, element.begin, element.end) if entry.id == _TRACK_ENTRY)
            parts = (part for entry in entries for part in _elements(read, entry.begin, entry.end))
            tracks |= {int.from_bytes(read(part.begin, part.length), "big") for part in parts if part.id == _NUMBER}
        elif element.id == _CLUSTER:
            _check_blocks(read, element, tracks)


def _check_blocks(read: Read, cluster: "_Element", tracks: set[int]) -> None:
    """Refuse unknown data between frames: a demuxer skips it, and frames with it; here it counts as damage."""
    for part in _elements(read, cluster.begin, cluster.end):
        if part.id not in _IN_CLUSTER:
            raise _no_element(part.at)
        inside = _elements(read, part.begin, part.end) if part.id == _GROUP else iter((part,))
        for block in inside:
            if block.id in _BLOCKS:
                head = read(block.begin, 8)
                length_bytes = _vint_bytes(head)
                number = int.from_bytes(head[:length_bytes], "big") & (1 << 7 * length_bytes) - 1
                if not length_bytes or number not in tracks:
                    raise BadInput(
                        f"byte {block.at}: a frame of track {number}, which the file does not have; it is damaged",
                        code="video-invalid",
                    )


@dataclass(frozen=True, slots=True)
class _Element:
    """A complete EBML element; its content is at `begin` to `end - 1`."""

    id: int
    at: int
    begin: int
    length: int

    @property
    def end(self) -> int:
        return self.begin + self.length


def _elements(read: Read, at: int, end: int) -> Iterator[_Element]:
    """Yield the elements between two bytes; for the segment, yield the elements inside it."""
    while at < end:
        head = read(at, 12)
        id_bytes = _vint_bytes(head)
        length_bytes = _vint_bytes(head[id_bytes:]) if id_bytes else 0
        if not id_bytes or id_bytes > 4 or not length_bytes:
            raise _no_element(at)
        element = int.from_bytes(head[:id_bytes], "big")
        field = int.from_bytes(head[id_bytes : id_bytes + length_bytes], "big")
        unknown = (1 << 7 * length_bytes) - 1
        length = field & unknown
        begin = at + id_bytes + length_bytes
        if length != unknown and begin + length > end:
            raise _cut_off(f"the element {element:X}", at, begin + length, end)
        if element == _SEGMENT or (element == _CLUSTER and length == unknown):
            at = begin  # a cluster of a live stream ends where the next one begins, so its parts are yielded directly
        elif length == unknown:
            raise _no_element(at)
        else:
            yield _Element(element, at, begin, length)
            at = begin + length


def _no_element(at: int) -> BadInput:
    return BadInput(f"byte {at}: no Matroska element begins here; the file is damaged", code="video-invalid")


def _vint_bytes(head: bytes) -> int:
    """Return the length of the EBML number at the beginning of `head`, 0 if there is none."""
    return 9 - head[0].bit_length() if head and head[0] and len(head) >= 9 - head[0].bit_length() else 0


def _cut_off(what: str, begins: int, ends: int, size_bytes: int) -> BadInput:
    return BadInput(
        f"{what} at byte {begins} ends at byte {ends}, but its container ends at byte {size_bytes}: cut off or damaged",
        code="video-invalid",
    )
