"""Decoders that detect damage: each raises BadInput or another exception, and never returns more than requested."""

import lzma
from collections.abc import Callable
from typing import Any

from regather.core.errors import BadInput
from regather.kinds.image.codestream import jpeg_head
from regather.kinds.image.refusals import damaged, unsupported

Inflate = Callable[[bytes, int], bytes]
"""Gets the coded bytes and the maximum size of the output; raises the codec's own exceptions for damage."""

_SOF_BASELINE = (0xC0, 0xC1, 0xC2)
_LZMA_MEMORY_BYTES = 256 * 1024 * 1024


def inflater(compression: int) -> Inflate | None:
    """Return the decoder for a TIFF compression that codes bytes; None for no compression and for coded images."""
    return _INFLATERS.get(int(compression))


def _lzw(data: bytes, limit: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.lzw_decode(data, out=limit))


def _deflate(data: bytes, limit: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.deflate_decode(data, out=limit))


def _packbits(data: bytes, limit: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.packbits_decode(data, out=limit))


def _zstd(data: bytes, limit: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.zstd_decode(data, out=limit))


def _lzma(data: bytes, limit: int) -> bytes:
    """Inflate with the standard library, because imagecodecs accepts a stream that ends before its checksums."""
    stream = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)
    inflated = stream.decompress(data, limit)
    if not stream.eof and len(inflated) < limit:
        raise ValueError("the stream does not end")
    return inflated


_INFLATERS: dict[int, Inflate] = {
    5: _lzw, 8: _deflate, 32946: _deflate, 50013: _deflate, 32773: _packbits, 50000: _zstd, 34926: _zstd, 34925: _lzma,
}  # fmt: skip


def check_jpeg(data: bytes, tables: bytes | None) -> None:
    """Refuse a JPEG strip or tile for which libjpeg has even a warning; BadInput or pyvips.Error."""
    import pyvips

    head = jpeg_head(data)
    if head is None:
        raise damaged("JPEG", "it has no frame header")
    if head.marker not in _SOF_BASELINE:
        raise unsupported("TIFF", "lossless or arithmetic JPEG strips", "save it with deflate, LZW or Zstandard")
    whole = data if not tables else tables[:-2] + data[2:]
    pyvips.vips_lib.vips_error_clear()
    try:
        pyvips.Image.jpegload_buffer(whole, fail_on="warning", access="sequential").copy_memory()
    finally:
        pyvips.vips_lib.vips_error_clear()


def dtype_name(dtype: Any) -> str:
    """Return the name of a NumPy type as in RowLayout; BadInput for other types."""
    name = str(dtype)
    if name not in (
        "bool",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "float32",
        "float64",
    ):
        raise BadInput(f"the image has values of type {name}, which is not supported", code="image-unsupported")
    return name
