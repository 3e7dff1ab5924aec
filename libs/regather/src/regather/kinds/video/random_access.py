"""Finds where a coded video can be cut so that a decoder that begins there returns exactly the same frames. Pure.

A container's mark "keyframe" is not enough: gradual refreshes have it, too. A cut is allowed at a packet if, by the
codec's own rules, nothing that is shown after it depends on anything before it: an IDR picture of H.264, an IDR or CRA
picture of HEVC, a key frame of VP9. *Leading* pictures follow it in the file but are shown before it, and may depend on
earlier ones (an open group); they belong to the group before. Parameter sets inside the stream must be those of its
header, which every shard gets. A stream that breaks its codec's rules fails in the decoder or in the checks of its
frames.

Sources: ITU-T H.264 7.3.1 and 7.4.1.2.4, ITU-T H.265 7.3.1.2 and table 7-1, ISO/IEC 14496-15 (avcC, hvcC), the VP9
Bitstream Specification 6.2 and Annex B.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_H264_IDR, _H264_SETS = 5, (7, 8)
_HEVC_BEGINS, _HEVC_BROKEN, _HEVC_SETS = (19, 20, 21), (16, 17, 18), (32, 33, 34)
_AVCC_LENGTH, _HVCC_LENGTH = 4, 21


class Uncuttable(Exception):
    """The stream cannot be cut as it is coded; its frames have to be decoded before they are sent."""


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """One packet: when it is shown, whether it is shown at all, its size, whether a decoder can begin here."""

    pts: int
    shown: bool
    size_bytes: int
    fresh: bool


Fresh = Callable[[bytes], bool]


def rules_of(codec: str, extradata: bytes) -> Fresh:
    """Return a test whether a decoder can begin at a packet of this codec; Uncuttable for other codecs and forms."""
    if codec == "h264" and len(extradata) > _AVCC_LENGTH and extradata[0] == 1:
        return _NalRule(extradata, (extradata[_AVCC_LENGTH] & 3) + 1, _h264_type, (_H264_IDR,), range(1, 6), _H264_SETS)
    if codec == "hevc" and len(extradata) > _HVCC_LENGTH and extradata[0] == 1:
        return _NalRule(extradata, (extradata[_HVCC_LENGTH] & 3) + 1, _hevc_type, _HEVC_BEGINS, range(32), _HEVC_SETS)
    if codec == "vp9":
        return _vp9_key
    raise Uncuttable(f"there is no rule for {codec}")


def _h264_type(first: int) -> int:
    return first & 31


def _hevc_type(first: int) -> int:
    kind = first >> 1 & 63
    if kind in _HEVC_BROKEN:
        raise Uncuttable("the stream was joined from others")
    return kind


@dataclass(frozen=True, slots=True)
class _NalRule:
    """The test for packets of length-prefixed units; `begins`, `slices` and `sets` are types of units."""

    extradata: bytes
    length_bytes: int
    type_of: Callable[[int], int]
    begins: Sequence[int]
    slices: range
    sets: Sequence[int]

    def __call__(self, packet: bytes) -> bool:
        kinds = set()
        for nal in _nals(packet, self.length_bytes):
            kind = self.type_of(nal[0])
            if kind in self.sets and nal not in self.extradata:
                raise Uncuttable("parameter sets change inside the stream")
            if kind in self.slices:
                kinds.add(kind)
        return bool(kinds) and kinds <= set(self.begins)


def _nals(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at < len(packet):
        begin = at + length_bytes
        at = begin + int.from_bytes(packet[at:begin], "big")
        if begin >= at or at > len(packet):
            raise Uncuttable("a unit of the stream has a wrong length")
        yield packet[begin:at]


def _vp9_key(packet: bytes) -> bool:
    """Whether the first frame of a packet is a key frame: marker 2 bits, profile 2 (3), show_existing, frame_type."""
    first = packet[0]
    if first >> 6 != 2:
        raise Uncuttable("a packet is not a VP9 frame")
    profile_bits = 3 if first >> 4 & 3 == 3 else 2
    show_existing = first >> 5 - profile_bits & 1
    frame_type = first >> 4 - profile_bits & 1
    return not show_existing and not frame_type


@dataclass(frozen=True, slots=True)
class Group:
    """Packets that can be decoded independently, and the frames that they show.

    The packets are `first` to `end - 1`, without the `leading` ones right after the first. Those are shown before it,
    may depend on the group before, and are decoded with that group: its packets are followed by this group's first and
    leading ones. `frame` is the number of the first frame, `frames` the number of frames up to the next group's first
    one.
    """

    first: int
    leading: int
    end: int
    frame: int
    frames: int
    size_bytes: int


def groups(coded: Sequence[CodedFrame]) -> list[Group]:
    """Return the smallest possible groups; Uncuttable if the file does not begin with one."""
    if not coded or not coded[0].fresh or min(frame.pts for frame in coded) < coded[0].pts:
        raise Uncuttable("the video does not begin with a picture that can be decoded independently")
    if len({frame.pts for frame in coded}) < len(coded):
        raise Uncuttable("two frames have the same time stamp")
    cuts = list(_cuts(coded))
    found = []
    shown = 0
    for (first, leading), (end, next_leading) in zip(cuts, [*cuts[1:], (len(coded), 0)], strict=True):
        part = [coded[first], *coded[first + 1 + leading : end], *coded[end + 1 : end + 1 + next_leading]]
        frames = sum(frame.shown for frame in part)
        found.append(Group(first, leading, end, shown, frames, sum(frame.size_bytes for frame in part)))
        shown += frames
    return found


def _cuts(coded: Sequence[CodedFrame]) -> Iterator[tuple[int, int]]:
    """Yield where groups begin, and how many leading packets each has.

    A group's first frame is shown after all packets before it, and before all that follow its leading packets.
    """
    least_behind = _least_behind([frame.pts for frame in coded])
    most = -1
    for at, frame in enumerate(coded):
        if at == 0:
            yield 0, 0
        elif frame.fresh and frame.shown and most < least_behind[at]:
            behind = at + 1
            while behind < len(coded) and coded[behind].pts < frame.pts:
                behind += 1
            if behind == len(coded) or least_behind[behind] > frame.pts:
                yield at, behind - at - 1
        most = max(most, frame.pts) if at else frame.pts


def _least_behind(pts: Sequence[int]) -> list[int]:
    least, found = pts[-1], []
    for value in reversed(pts):
        least = min(least, value)
        found.append(least)
    return found[::-1]
