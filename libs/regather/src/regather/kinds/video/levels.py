"""Converts luma as a file stores it to grey values, exactly as FFmpeg's swscale does.

Video mostly stores luma from 16 to 235 (limited range; times 4 for 10 bits and so on); grey values use all of 0 to 255,
or to 65535 for more than 8 bits. Each value maps independently, so a table of all values is the whole conversion. It is
made by converting one frame that contains every value. `docs/reference/kinds/video.md` gives the formula.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from regather.core.errors import PermanentError
from regather.kinds.video.pixel_layouts import FORMATS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FULL = "full"
_TABLE_WIDTH = 256


def levels_name(pixel_format: str, *, full_range: bool) -> str:
    """Return the name of a luma format for a shard's meta; empty if the stored values are grey values already."""
    known = FORMATS[pixel_format]
    if (
        pixel_format in ("gray", "gray16le")
        or (full_range and known.bits in (8, 16))
        or pixel_format.startswith("yuvj")
    ):
        return ""
    if pixel_format == "nv12":
        pixel_format = "yuv420p"
    return f"{pixel_format}:{_FULL if full_range else 'limited'}"


def to_grey(values: "NDArray[np.generic]", levels: str) -> "NDArray[np.generic]":
    """Return grey values: uint8 for luma of 8 bits, uint16 for more. PermanentError for a value above its bits."""
    if not levels:
        return values
    table = _table(levels)
    if values.dtype.itemsize > 1 and values.size and int(values.max()) >= len(table):
        raise PermanentError(f"a value of {int(values.max())} in a frame of {len(table).bit_length() - 1} bits")
    grey: NDArray[np.generic] = table[values]
    return grey


@lru_cache(maxsize=8)
def _table(levels: str) -> "NDArray[np.generic]":
    import av
    import numpy as np

    name, _, kind = levels.partition(":")
    bits = FORMATS[name].bits
    values = np.arange(1 << bits, dtype="<u2" if bits > 8 else np.uint8)
    rows = max(4, len(values) // _TABLE_WIDTH)  # a few rows, so that subsampled chroma has whole samples
    luma = np.resize(values, (rows, _TABLE_WIDTH))
    frame = av.VideoFrame(_TABLE_WIDTH, rows, name)
    for plane, number in zip(frame.planes, range(len(frame.planes)), strict=True):
        filled = np.full((plane.height, plane.line_size // values.itemsize), 1 << (bits - 1), values.dtype)
        if number == 0:
            filled[:, :_TABLE_WIDTH] = luma
        plane.update(filled.tobytes())
    frame.color_range = av.video.reformatter.ColorRange.JPEG if kind == _FULL else av.video.reformatter.ColorRange.MPEG
    grey = frame.to_ndarray(format="gray" if bits <= 8 else "gray16le", threads=1)
    return grey.ravel()[: len(values)].copy()
