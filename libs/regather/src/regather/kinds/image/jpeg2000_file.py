"""JPEG 2000: JP2 files and raw codestreams, decoded as a whole by OpenJPEG (imagecodecs); runs in a killable child.

The layout is read from the codestream's SIZ marker (ITU-T T.800, annex A.5.1) before anything is decoded. The
tile-parts are followed to the end marker, because OpenJPEG accepts a stream that is cut off.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from regather.core.errors import BadInput
from regather.kinds.image.formats import Choice
from regather.kinds.image.refusals import damaged, unsupported
from regather.kinds.image.strict_decoders import dtype_name
from regather.processors.splitting.rows import RowLayout

_NAME = "JPEG 2000"
_SOC_SIZ = b"\xff\x4f\xff\x51"
_SOT, _EOC = b"\xff\x90", b"\xff\xd9"
_SIZ = struct.Struct(">HHIIIIIIIIH")
_STRANGE_COLOURS = {
    1: "YCC", 3: "YCC", 4: "YCC", 9: "PhotoYCC", 11: "CMY", 13: "YCCK", 14: "CIELab", 18: "YCC", 19: "CIEJab", 24: "YCC",
}  # fmt: skip
"""Enumerated colour spaces that are neither grey, nor RGB, nor CMYK (T.800, I.5.3.3; T.801, annex M)."""


def open_jpeg2000(path: Path, choice: Choice) -> "Jpeg2000Source":
    """Open a JP2 file or a codestream; BadInput if it is damaged or not supported."""
    if choice.page or choice.level:
        raise BadInput(f"a {_NAME} file has only page 0 and level 0", code="image-invalid")
    return Jpeg2000Source(path)


class Jpeg2000Source:
    """A PixelSource that decodes the whole image when its first row is requested."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        stream = self._data if self._data.startswith(_SOC_SIZ) else _codestream(self._data)
        self._layout = _layout(stream)
        _check_tile_parts(stream)
        self._pixels: memoryview | None = None

    @property
    def layout(self) -> RowLayout:
        """Layout by the codestream's SIZ marker."""
        return self._layout

    def rows(self, first: int, count: int) -> bytes:
        """Return rows of the image, which the first call decodes."""
        if self._pixels is None:
            self._pixels = self._decoded()
        size = self._layout.row_bytes
        return bytes(self._pixels[first * size : (first + count) * size])

    def close(self) -> None:
        """Release the decoded pixels."""
        self._pixels = None

    def _decoded(self) -> memoryview:
        import imagecodecs

        try:
            image = imagecodecs.jpeg2k_decode(self._data)
        except MemoryError:
            raise
        except Exception as error:  # the codec has its own exception
            raise damaged(_NAME, "its pixels are damaged or cut off") from error
        layout = self._layout
        shape = (layout.height or 0, layout.width, layout.channels)
        if image.size != math.prod(shape) or dtype_name(image.dtype) != layout.dtype:
            raise damaged(_NAME, f"it decodes to {image.dtype} of shape {image.shape}, not {layout.dtype} of {shape}")
        return memoryview(image.reshape(shape).astype(image.dtype.newbyteorder("<"), copy=False).tobytes())


@dataclass(frozen=True, slots=True)
class _Box:
    name: bytes
    start: int
    end: int


def _boxes(data: bytes, start: int, end: int) -> list[_Box]:
    """Return the boxes between two bytes of a JP2 file (annex I.4)."""
    boxes = []
    while start + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1 and start + 16 <= end:
            head, length = 16, struct.unpack_from(">Q", data, start + 8)[0]
        length = length or end - start
        if length < head or start + length > end:
            raise damaged(_NAME, f"the box at byte {start} continues past byte {end}; it is cut off")
        boxes.append(_Box(name, start + head, start + length))
        start += length
    return boxes


def _codestream(data: bytes) -> bytes:
    for box in _boxes(data, 0, len(data)):
        if box.name == b"jp2h":
            _check_header(data, box)
        if box.name == b"jp2c":
            return data[box.start : box.end]
    raise damaged(_NAME, "it contains no codestream; it is cut off or damaged")


def _check_header(data: bytes, header: _Box) -> None:
    """Refuse what OpenJPEG does not convert: a palette, and colours that are not grey or RGB."""
    for box in _boxes(data, header.start, header.end):
        if box.name == b"pclr":
            raise unsupported(_NAME, "a palette", "save it as RGB")
        if box.name == b"colr" and data[box.start] == 1:
            space = int.from_bytes(data[box.start + 3 : box.start + 7], "big")
            if space in _STRANGE_COLOURS:
                raise unsupported(_NAME, f"colours of the kind {_STRANGE_COLOURS[space]}", "save it as grey or RGB")


def _layout(stream: bytes) -> RowLayout:
    if not stream.startswith(_SOC_SIZ) or len(stream) < 4 + _SIZ.size:
        raise damaged(_NAME, "its codestream does not begin with a size")
    _, _, right, bottom, left, top, _, _, _, _, channels = _SIZ.unpack_from(stream, 4)
    parts = stream[4 + _SIZ.size : 4 + _SIZ.size + 3 * channels]
    if not channels or len(parts) < 3 * channels or right <= left or bottom <= top:
        raise damaged(_NAME, "its size is not valid")
    if any(parts[at + 1 : at + 3] != b"\1\1" for at in range(0, len(parts), 3)):
        raise unsupported(_NAME, "channels of different sizes", "save it without subsampling")
    if len({parts[at] for at in range(0, len(parts), 3)}) > 1:
        raise unsupported(_NAME, "channels of different bit depths", "save it with one depth")
    bits, signed = (parts[0] & 0x7F) + 1, bool(parts[0] & 0x80)
    if not 8 <= bits <= 16:
        raise unsupported(_NAME, f"{bits} bits for each value", "save it with 8 to 16")
    dtype = ("int" if signed else "uint") + ("8" if bits == 8 else "16")
    return RowLayout(right - left, channels, dtype, bottom - top)


def _check_tile_parts(stream: bytes) -> None:
    """Follow the tile-parts to the end marker; BadInput if they do not lead there."""
    at = 2
    while at + 4 <= len(stream) and stream[at : at + 2] != _SOT:
        if stream[at] != 0xFF:  # every marker begins with this byte
            raise damaged(_NAME, f"there is no marker at byte {at} of its codestream, where one must be")
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    while stream[at : at + 2] == _SOT and at + 12 <= len(stream):
        length = int.from_bytes(stream[at + 6 : at + 10], "big")
        at = at + length if length else len(stream) - 2
        if length and length < 14:  # 14: its header and the marker of its data
            raise damaged(_NAME, "one of its tiles has no pixels")
    if stream[at : at + 2] != _EOC:
        raise damaged(
            _NAME, f"its codestream has no end marker at byte {at}, where it must be; it is cut off or damaged"
        )
