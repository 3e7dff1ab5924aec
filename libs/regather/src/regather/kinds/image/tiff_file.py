"""TIFF files by tifffile and imagecodecs, one row of strips or tiles at a time; runs in a killable child.

A page's values are converted as follows (all others stay as they are stored):

- 1, 2 and 4 bits become 8, scaled to 0..255; 9 to 15 bits become 16, not scaled;
- a palette becomes RGB of 8 bits; min-is-white becomes min-is-black, extra channels stay; JPEG's YCbCr becomes RGB;
- an orientation is undone, for which the page is decoded as a whole.

CMYK stays four channels of ink.
"""

import logging
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regather.core.errors import BadInput
from regather.kinds.image.formats import Choice
from regather.kinds.image.refusals import damaged, unsupported
from regather.kinds.image.strict_decoders import dtype_name
from regather.kinds.image.tiff_pages import read_page
from regather.kinds.image.tiff_segments import Segments, check_codec
from regather.processors.splitting.byte_queue import ByteQueue
from regather.processors.splitting.rows import RowLayout

Array = NDArray[Any]
_ORIENTATION = 274
_SAMPLE_FORMAT = 339
_PHOTOMETRIC = 262
_MIN_IS_WHITE, _PALETTE, _YCBCR = 0, 3, 6
_TAKEN_AS_STORED = {1, 2, 4, 5, 32803, 34892}
"""Min-is-black, RGB, mask, CMYK, the mosaic of a camera's sensor, linear raw."""

_JPEG = {7, 33007, 34892}
_APERIO_YCBCR = 33003
"""JPEG 2000 whose three samples are YCbCr, whatever colours the page names; most decoders return them as RGB."""

_SCALED_BITS = {1: 255, 2: 85, 4: 17}
_WIDE_BITS = range(9, 16)
_WHOLE_BITS = (8, 16, 32, 64)
_MAX_SIDE = 1 << 31
_STUMBLES = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, TypeError, ValueError, struct.error)
"""Exceptions of tifffile for a damaged directory; TiffFileError is a ValueError."""


def open_tiff(path: Path, choice: Choice) -> "TiffSource":
    """Open one page, or one of its reduced sizes; BadInput if it is missing, damaged or not supported."""
    return TiffSource(path, choice)


class TiffSource:
    """A PixelSource over one page of a TIFF file."""

    def __init__(self, path: Path, choice: Choice) -> None:
        import tifffile

        logging.getLogger(
            "tifffile"
        ).disabled = True  # it logs its own complaints; everything that matters is checked here
        try:
            self._file = tifffile.TiffFile(path)
        except _STUMBLES as error:
            raise damaged("TIFF", "its header or first directory cannot be read") from error
        try:
            page = read_page(self._file, choice)
            _check_page(page)
            self._finish, channels, dtype = _finisher(page)
            self._turn = _turn(page)
            self._segments = Segments(page, path)
        except _STUMBLES as error:
            self._file.close()
            raise damaged("TIFF", "its directory is not valid: a tag has a value of another kind") from error
        except BaseException:
            self._file.close()
            raise
        height, width = page.shaped[2:4]
        if self._turn is not None and self._turn(np.empty((1, 2, 1))).shape[0] != 1:
            height, width = width, height
        self._layout = RowLayout(width, channels, dtype, height)
        self._bands: Iterator[Array] | None = None
        self._queue = ByteQueue()

    @property
    def layout(self) -> RowLayout:
        """Layout of the converted, upright page."""
        return self._layout

    def rows(self, first: int, count: int) -> bytes:
        """Return the next rows; decodes strips or tiles as needed."""
        if self._bands is None:
            self._bands = self._upright()
        wanted = count * self._layout.row_bytes
        while len(self._queue) < wanted:
            band = next(self._bands)
            self._queue.append(band.astype(band.dtype.newbyteorder("<"), copy=False).tobytes())
        data = self._queue.peek(wanted)
        self._queue.drop(wanted)
        return data

    def close(self) -> None:
        """Close both handles of the file."""
        self._segments.close()
        self._file.close()

    def _upright(self) -> Iterator[Array]:
        bands = (self._finish(band) for band in self._segments.bands())
        if self._turn is None:
            return bands
        return iter([np.ascontiguousarray(self._turn(np.concatenate(list(bands))))])


def _check_page(page: Any) -> None:
    """Refuse a page without pixels, or with unsupported pixels; BadInput."""
    _, depth, height, width, samples = page.shaped
    if not height or not width or not samples or max(height, width) > _MAX_SIDE:
        raise damaged("TIFF", f"the page is {width} x {height} pixels of {samples} samples")
    if page.dtype is None or isinstance(page.bitspersample, tuple) or page.sampleformat not in (1, 2, 3):
        raise unsupported("TIFF", "values that are not plain numbers", "save it as 8 or 16 bits, or as float32")
    if _PHOTOMETRIC not in page.tags:  # it has no default, and decoders guess: white or black, grey or RGB
        raise damaged("TIFF", "it does not state its colours: PhotometricInterpretation (262) is missing")
    formats = page.tags.valueof(_SAMPLE_FORMAT)
    if isinstance(formats, tuple) and len(set(formats)) > 1:
        raise unsupported("TIFF", "channels of different types", "save it with one type")
    if depth != 1 or page.tiledepth != 1:
        raise unsupported("TIFF", f"a page that is {depth} slices deep", "save each slice as a page")
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    if rows < 1 or columns < 1 or max(rows if page.is_tiled else 1, columns) > _MAX_SIDE:
        raise damaged("TIFF", f"its strips or tiles are {columns} x {rows} pixels")
    check_codec(page)


def _finisher(page: Any) -> tuple[Callable[[Array], Array], int, str]:
    """Return a function from a band's stored values to the image's, and the image's number of channels and type."""
    separate, _, _, _, samples = page.shaped
    channels = separate * samples
    photometric, bits = int(page.photometric), page.bitspersample
    if photometric == _PALETTE:
        return _palette(page, channels), 3, "uint8"
    if photometric not in _TAKEN_AS_STORED | {_MIN_IS_WHITE} and not (
        photometric == _YCBCR and page.compression in _JPEG
    ):
        name = getattr(page.photometric, "name", photometric)
        raise unsupported("TIFF", f"colours of the kind {name}", "save it as grey or RGB")
    if page.compression == _APERIO_YCBCR and channels > 1:
        raise unsupported("TIFF", "YCbCr colours in JPEG 2000 (compression 33003)", "save it as RGB")
    scale = _SCALED_BITS.get(bits)
    if scale is None and bits not in _WHOLE_BITS and (bits not in _WIDE_BITS or page.sampleformat != 1):
        raise unsupported("TIFF", f"{bits} bits for each value", "save it with 8 or 16")
    if photometric == _MIN_IS_WHITE and page.sampleformat != 1:
        raise unsupported("TIFF", "min-is-white values with a sign", "save it as min-is-black")
    dtype = np.dtype(np.uint8) if scale is not None else np.dtype(page.dtype)
    white = (1 << bits) - 1 if photometric == _MIN_IS_WHITE else None

    def finish(band: Array) -> Array:
        if white is not None:
            band = band.astype(dtype)
            band[:, :, 0] = dtype.type(white) - band[:, :, 0]  # alpha and other extra channels have no white
        return band.astype(dtype) * dtype.type(scale) if scale is not None else band

    return finish, channels, dtype_name(dtype)


def _palette(page: Any, channels: int) -> Callable[[Array], Array]:
    colours = page.colormap
    if channels != 1 or page.bitspersample > 8:
        raise unsupported("TIFF", "a palette of more than 8 bits or with more channels", "save it as RGB")
    if colours is None or getattr(colours, "shape", ()) != (3, 1 << page.bitspersample):
        raise damaged("TIFF", "it has a palette image but no palette of its size")
    if colours.max() > 255:  # palettes have 16 bits, old ones 8
        colours = colours >> 8
    table = np.ascontiguousarray(colours.T.astype(np.uint8))
    return lambda band: table[band[:, :, 0].astype(np.uint8)]


def _turn(page: Any) -> Callable[[Array], Array] | None:
    """Return a function that sets a stored image upright; None if it is upright already. TIFF 6.0, Orientation."""
    tag = page.tags.get(_ORIENTATION)
    orientation = 1 if tag is None else tag.value
    turns: dict[int, Callable[[Array], Array] | None] = {
        1: None,
        2: lambda image: image[:, ::-1],
        3: lambda image: image[::-1, ::-1],
        4: lambda image: image[::-1],
        5: lambda image: image.transpose(1, 0, 2),
        6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
        7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
        8: lambda image: image.transpose(1, 0, 2)[::-1],
    }
    if orientation not in turns:
        raise BadInput(f"the TIFF file has the orientation {orientation}; 1 to 8 are defined", code="image-invalid")
    return turns[orientation]
