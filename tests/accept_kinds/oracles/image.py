"""Pixels of a whole image file by tifffile, Pillow, imagecodecs, numpy and pydicom: (height, width, channels).

What is computed of them is `reference.image_features`, which is as independent. OracleRefused for a damaged file.
"""

import io
import struct
import threading
import warnings
import zlib
from typing import Any

import numpy as np

from accept_kinds.oracles import OracleRefused

Pixels = np.ndarray[Any, np.dtype[Any]]
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ONE_AT_A_TIME = threading.Lock()
"""Filters of warnings belong to the process: two threads would change each other's."""

_PNG = b"\x89PNG\r\n\x1a\n"


def pixels(body: bytes, page: int = 0) -> Pixels:
    """Decode a whole file. Every warning of a decoder is an error."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Reading `.npy`")
        try:
            return _decoded(body, page)
        except OracleRefused:
            raise
        except Exception as error:  # each library raises whatever a damaged file makes it stumble over
            raise OracleRefused(f"{type(error).__name__}: {error}") from error


def _decoded(body: bytes, page: int) -> Pixels:
    if body.startswith(b"\x93NUMPY"):
        return _channels_last(np.load(io.BytesIO(body), allow_pickle=False))
    if body.startswith(_TIFF):
        return tiff(body, page)
    if body[128:132] == b"DICM":
        from accept_kinds.oracles.dicom import dicom_pixels

        return dicom_pixels(body, page)
    if body.startswith(_PNG):
        check_png(body)
        return pillow(body)
    if body[4:12] == b"jP  \r\n\x87\n" or body.startswith(b"\xff\x4f\xff\x51"):
        import imagecodecs

        return _channels_last(imagecodecs.jpeg2k_decode(body))
    return pillow(body)


def tiff(body: bytes, page: int = 0) -> Pixels:
    """A page of a TIFF: palettes resolved, bits below 8 as 8, planes interleaved, upright, the greatest value white."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(body)) as file:
        chosen = file.pages[page]
        assert isinstance(chosen, tifffile.TiffPage)
        end = max((o + c for o, c in zip(chosen.dataoffsets, chosen.databytecounts, strict=True)), default=0)
        if end > len(body):
            raise OracleRefused(f"the pixels end at byte {end} and the file at {len(body)}")
        array = chosen.asarray()
        if chosen.planarconfig == 2 and array.ndim == 3:
            array = np.moveaxis(array, 0, -1)
        if chosen.photometric == 3:
            assert chosen.colormap is not None
            array = (chosen.colormap[:, array] // 257).astype(np.uint8)
            array = np.moveaxis(array, 0, -1)
        elif chosen.bitspersample == 1:
            array = array.astype(np.uint8) * 255
        if chosen.photometric == 0:
            array = np.iinfo(array.dtype).max - array
        return turned(_channels_last(array), chosen.tags.valueof(274, 1))


def pillow(body: bytes) -> Pixels:
    """What Pillow decodes: palettes resolved, one bit as 0 and 255, orientation applied."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(body)) as opened:
        opened.load()
        picture = ImageOps.exif_transpose(opened)
        if picture.mode == "P":
            picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        if picture.mode == "1":
            picture = picture.convert("L")
        array = np.asarray(picture)
    return _channels_last(array.astype(np.uint16) if array.dtype == np.int32 else array)


def check_png(body: bytes) -> None:
    """Every chunk's length and CRC, and the end; Pillow skips some of them."""
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        if at + 12 > len(body):
            raise OracleRefused(f"the PNG ends at byte {len(body)}, in mid-chunk")
        (size,), kind = struct.unpack_from(">I", body, at), body[at + 4 : at + 8]
        (crc,) = struct.unpack_from(">I", body.ljust(at + 12 + size, b"\0"), at + 8 + size)
        if at + 12 + size > len(body) or zlib.crc32(body[at + 4 : at + 8 + size]) != crc:
            raise OracleRefused(f"chunk {kind!r} at byte {at} is damaged")
        at += 12 + size


def turned(array: Pixels, orientation: int) -> Pixels:
    """Apply an orientation of TIFF (tag 274)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.flip(array, flips) if flips else array


def _channels_last(array: Pixels) -> Pixels:
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3:
        raise OracleRefused(f"an array of shape {array.shape} is no image")
    native = array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array.astype(native, copy=False))
