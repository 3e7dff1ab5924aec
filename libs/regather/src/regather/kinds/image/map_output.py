"""Writes rows of a result as NPY or TIFF, part by part: a shard's part depends only on its own rows and on the layout.

The first part begins with the header, so the file is the parts concatenated in order. A TIFF has its directory first
and then uncompressed tiles in order, so a shard's rows must be whole rows of tiles. A result has at most 1 GiB, which
fits classic TIFF. Formats: NEP 1; TIFF 6.0 with the tiles of its section 15.
"""

import struct
from typing import Any

from regather.processors.splitting.rows import ITEM_BYTES, RowLayout

_TILE_WIDTH = 256
_TILE_STEP = 16
_TILE_ROW_BYTES = 1024 * 1024
_NPY_TYPES = {"uint8": "|u1", "uint16": "<u2", "int8": "|i1", "int16": "<i2", "float32": "<f4"}
_NPY_ALIGNMENT = 64
_SHORT, _LONG = 3, 4
_RGB, _GREY = 2, 1


def npy_header(layout: RowLayout) -> bytes:
    """Return the header of an array (height, width), or (height, width, channels) for several channels."""
    shape = (layout.height, layout.width) + ((layout.channels,) if layout.channels > 1 else ())
    text = f"{{'descr': {_NPY_TYPES[layout.dtype]!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    padding = -(10 + len(text) + 1) % _NPY_ALIGNMENT
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text) + padding + 1) + text.encode() + b" " * padding + b"\n"


def tile_size(layout: RowLayout) -> tuple[int, int]:
    """Return rows and columns of a tile: at most 256 each, with fewer rows if a row of tiles would exceed 1 MiB."""
    columns = min(_TILE_WIDTH, -(-layout.width // _TILE_STEP) * _TILE_STEP)
    row_bytes = -(-layout.width // columns) * columns * layout.channels * ITEM_BYTES[layout.dtype]
    rows = 256
    while rows > _TILE_STEP and rows * row_bytes > _TILE_ROW_BYTES:
        rows //= 2
    return rows, columns


def tile_row_bytes(layout: RowLayout) -> int:
    """Return the size of one row of tiles in bytes."""
    rows, columns = tile_size(layout)
    return rows * -(-layout.width // columns) * columns * layout.channels * ITEM_BYTES[layout.dtype]


def tiff_header(layout: RowLayout) -> bytes:
    """Return everything before the tiles: header, directory, and the position of each tile."""
    rows, columns = tile_size(layout)
    count = -(-(layout.height or 0) // rows) * -(-layout.width // columns)
    item_bytes = ITEM_BYTES[layout.dtype]
    tile_bytes = rows * columns * layout.channels * item_bytes
    colour = layout.channels in (3, 4) and layout.dtype in ("uint8", "uint16")
    extra = layout.channels - (3 if colour else 1)
    sample_format = {"u": 1, "i": 2, "f": 3}[layout.dtype[0]]
    tags: list[tuple[int, int, list[int]]] = [
        (256, _LONG, [layout.width]), (257, _LONG, [layout.height or 0]),
        (258, _SHORT, [8 * item_bytes] * layout.channels), (259, _SHORT, [1]), (262, _SHORT, [_RGB if colour else _GREY]),
        (277, _SHORT, [layout.channels]), (284, _SHORT, [1]), (322, _LONG, [columns]), (323, _LONG, [rows]),
        (324, _LONG, [0] * count), (325, _LONG, [tile_bytes] * count),
        *([(338, _SHORT, [0] * extra)] if extra else []), (339, _SHORT, [sample_format] * layout.channels),
    ]  # fmt: skip
    start = len(_directory(tags))
    offsets = [start + index * tile_bytes for index in range(count)]
    return _directory([(tag, kind, offsets if tag == 324 else values) for tag, kind, values in tags])


def _directory(tags: list[tuple[int, int, list[int]]]) -> bytes:
    """Return the header and the directory at byte 8, followed by the values that do not fit an entry."""
    values_at = 8 + 2 + 12 * len(tags) + 4
    entries, values = [], b""
    for tag, kind, numbers in tags:
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == _SHORT else 'I'}", *numbers)
        if len(packed) > 4:
            inline = struct.pack("<I", values_at + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        else:
            inline = packed.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", tag, kind, len(numbers)) + inline)
    values += b"\0" * (-(values_at + len(values)) % 16)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + struct.pack("<I", 0) + values


def tiles(pixels: Any, layout: RowLayout) -> bytes:
    """Return rows (rows, width, channels) as tiles, one row of tiles after the other, padded with zeros."""
    import numpy as np

    rows, columns = tile_size(layout)
    down, across = -(-len(pixels) // rows), -(-layout.width // columns)
    whole = np.zeros((down * rows, across * columns, layout.channels), pixels.dtype)
    whole[: len(pixels), : layout.width] = pixels
    parts = whole.reshape(down, rows, across, columns, layout.channels)
    return parts.transpose(0, 2, 1, 3, 4).tobytes()
