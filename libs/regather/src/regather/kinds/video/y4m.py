"""YUV4MPEG2 (y4m): a line that describes the frames, then each frame after a line of its own. Pure.

Source: yuv4mpeg(5) of mjpegtools, and for more than 8 bits the names that FFmpeg writes. A stream header has parameters
W, H, F, I, A, C and X, separated by spaces; a frame header is `FRAME` with parameters I and X, if any.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from regather.core.errors import BadInput
from regather.kinds.video.pixel_layouts import FORMATS, PixelFormat

MAGIC = b"YUV4MPEG2"
FRAME = b"FRAME"
_MAX_LINE_BYTES = 1024
_OLD_COLOUR = "YSCSS="
"""An extension that names the colour space, in capitals; FFmpeg writes it beside C, which then has priority."""

_SIDE = re.compile(r"[1-9][0-9]{0,4}")
_RATIO = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")
_COLOURS = {
    "420": "yuv420p", "420jpeg": "yuv420p", "420mpeg2": "yuv420p", "420paldv": "yuv420p", "411": "yuv411p",
    "422": "yuv422p", "444": "yuv444p", "444alpha": "yuva444p", "mono": "gray",
    **{f"mono{bits}": f"gray{bits}le" for bits in (9, 10, 12, 14, 16)},
    **{f"{name}p{bits}": f"yuv{name}p{bits}le" for name in ("420", "422", "444") for bits in (9, 10, 12, 14, 16)},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Y4mHeader:
    """A parsed stream header. `rate` is frames per second, None for 0:0; `size_bytes` is the length of the line."""

    width: int
    height: int
    format: PixelFormat
    full_range: bool
    rate: Fraction | None
    size_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Size of a frame without its header."""
        return self.format.frame_bytes(self.width, self.height)


def parse_header(head: bytes | bytearray) -> Y4mHeader | None:
    """Parse the line at the start of `head`; None while it is incomplete, BadInput with the reason if it is wrong."""
    if not bytes(head[: len(MAGIC)]) == MAGIC[: len(head)]:
        raise BadInput(
            f"byte 0: not a y4m file (these begin with {MAGIC.decode()}): it begins with {bytes(head[:9])!r}"
        )
    end = head.find(b"\n", 0, _MAX_LINE_BYTES)
    if end < 0:
        if len(head) >= _MAX_LINE_BYTES:
            raise BadInput(f"the y4m header has no end within {_MAX_LINE_BYTES} bytes")
        return None
    words = bytes(head[len(MAGIC) : end]).decode("ascii", "replace").split(" ")
    if words[0]:
        raise BadInput(f"the y4m header begins with {MAGIC.decode()}{words[0][:20]!r}; a space is needed")
    return _parsed([word for word in words if word], end + 1)


def _parsed(words: list[str], size_bytes: int) -> Y4mHeader:
    found: dict[str, str] = {}
    extensions: list[str] = []
    for word in words:
        if word[0] == "X":
            extensions.append(word[1:])
        elif word[0] in "WHFIAC":
            found[word[0]] = word[1:]
        else:
            raise BadInput(f"the y4m header has a parameter {word[:20]!r}; supported are W, H, F, I, A, C and X")
    old_names = [text.removeprefix(_OLD_COLOUR).lower() for text in extensions if text.startswith(_OLD_COLOUR)]
    found.setdefault("C", old_names[-1] if old_names else "420jpeg")
    pixel_format = _COLOURS.get(found["C"])
    if pixel_format is None:
        raise BadInput(
            f"the y4m colour space {found['C'][:20]!r} is not supported; supported are {', '.join(_COLOURS)}"
        )
    full = "COLORRANGE=FULL" in extensions
    width, height = _side(found, "W", "width"), _side(found, "H", "height")
    return Y4mHeader(width, height, FORMATS[pixel_format], full, _rate(found.get("F", "0:0")), size_bytes)


def _side(found: dict[str, str], name: str, meaning: str) -> int:
    text = found.get(name, "")
    if not _SIDE.fullmatch(text):
        raise BadInput(f"the y4m header's {meaning} is {name}{text[:20]!r}; it must be a whole number from 1 to 99,999")
    return int(text)


def _rate(text: str) -> Fraction | None:
    match = _RATIO.fullmatch(text)
    if match is None:
        raise BadInput(f"the y4m header's frame rate is F{text[:20]!r}; it must look like F30000:1001")
    above, below = map(int, match.groups())
    return Fraction(above, below) if above and below else None


def frame_header_bytes(line: bytes | bytearray, frame: int, offset: int) -> int | None:
    """Return the length of the frame header at the beginning of `line`; None while incomplete, BadInput if wrong."""
    known = bytes(line[: len(FRAME)])
    end = line.find(b"\n", 0, _MAX_LINE_BYTES)
    after = bytes(line[len(FRAME) : len(FRAME) + 1])
    if known != FRAME[: len(known)] or after not in (b"", b" ", b"\n") or (end < 0 and len(line) >= _MAX_LINE_BYTES):
        raise BadInput(
            f"byte {offset}: frame {frame} begins with {bytes(line[:12])!r}, not with FRAME: the file is damaged, "
            "or its header names another size or colour space"
        )
    return None if end < 0 else end + 1


def truncated(frame: int, begins: int, needs: int, ends: int) -> BadInput:
    """Return the refusal of a file that ends inside a frame."""
    return BadInput(f"frame {frame} begins at byte {begins} and has {needs} bytes, but the body ends at byte {ends}")


def frame_offsets(read: Callable[[int, int], bytes], size_bytes: int, header: Y4mHeader) -> Iterator[int]:
    """Yield where each frame's values begin in a complete file; `read(offset, size)` returns its bytes."""
    at, frame = header.size_bytes, 0
    while at < size_bytes:
        found = frame_header_bytes(read(at, _MAX_LINE_BYTES), frame, at)
        if found is None or at + found + header.frame_bytes > size_bytes:
            raise truncated(frame, at, (found or len(FRAME) + 1) + header.frame_bytes, size_bytes)
        yield at + found
        at += found + header.frame_bytes
        frame += 1
