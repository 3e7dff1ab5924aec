"""Cuts NumPy's NPY files by rows, for every kind that accepts them.

Theory of operation. The rows of an array in C order follow each other in the file, so NpySplitter cuts them while they
arrive and swaps big-endian values piece by piece. In Fortran order the values of one row are spread over the whole
file. Such a file must be complete first: NpyFileSplitter transposes it in a child, where NumPy may be imported.
npy_splitter() chooses one of the two by the header, which it finds in the body's head.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from regather.core.errors import BadInput
from regather.processors.base import FileSplitter, Piece, SplitRequest, Splitter
from regather.processors.splitting.npy_header import (
    HEADER_END_BYTES,
    MAGIC,
    NpyHeader,
    parse_header,
    refuse_other_arrays,
)
from regather.processors.splitting.rows import ITEM_BYTES, Band, RowLayout, RowSplitter

__all__ = [
    "MAGIC",
    "Check",
    "NpyFileSplitter",
    "NpyHeader",
    "NpySplitter",
    "file_rows",
    "npy_splitter",
    "parse_header",
    "read_header",
    "refuse_other_arrays",
]

_STEP_BYTES = 64 * 1024 * 1024
_TYPE_CODES = {2: "H", 4: "I", 8: "Q"}

Check = Callable[[RowLayout], None]


def npy_splitter(
    request: SplitRequest, *, halo: int = 0, check: Check | None = None, frames: bool = False, empty: bool = False
) -> Splitter | FileSplitter:
    """Return a splitter for an NPY body, for a kind that cuts it into bands of whole rows.

    The shape is (height, width) or (height, width, channels). With `frames` a row is a frame: the shape is (frames,
    height, width) or (frames, height, width, channels), and the layout's width is height x width. With `empty` an array
    without rows becomes one shard without rows; otherwise it is refused.

    `check` gets the layout before anything is cut, and raises BadInput if the kind does not support it. This function
    and the splitter raise BadInput for an unsupported header (Python objects, structures, other shapes) and name the
    byte.
    """
    header = parse_header(request.head, frames=frames) if request.head else None
    if header is not None and header.fortran:
        return NpyFileSplitter(request, halo=halo, check=check, frames=frames)
    return NpySplitter(request, halo=halo, check=check, frames=frames, empty=empty)


class NpySplitter:
    """Cuts an array in C order into bands of whole rows while it arrives. npy_splitter() creates it."""

    def __init__(
        self,
        request: SplitRequest,
        *,
        halo: int = 0,
        check: Check | None = None,
        frames: bool = False,
        empty: bool = False,
    ) -> None:
        self._request = request
        self._frames = frames
        self._halo = halo
        self._check = check
        self._empty = empty
        self._head = bytearray()
        self._rows: RowSplitter | _NoRows | None = None
        self._swapped_bytes = 0

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Parse the header, then cut rows; return the bands that are now complete."""
        if self._rows is not None:
            return self._little_endian(self._rows.feed(data))
        self._head += data
        header = parse_header(self._head, frames=self._frames)
        if header is None:
            return ()
        self._rows = self._open(header)
        first_rows = bytes(memoryview(self._head)[header.size_bytes :])
        self._head.clear()
        return self._little_endian(self._rows.feed(first_rows))

    def finish(self) -> Iterable[Piece]:
        """Return the last bands; BadInput if the body ends inside the header."""
        if self._rows is None:
            raise BadInput(f"the body ends at byte {len(self._head)}, inside the NPY header")
        return self._little_endian(self._rows.finish())

    def _open(self, header: NpyHeader) -> "RowSplitter | _NoRows":
        if header.fortran:
            raise BadInput(
                f"the array is in Fortran order, and its header of {header.size_bytes} bytes is too long to detect that; "
                "save it with numpy.ascontiguousarray"
            )
        if self._check is not None:
            self._check(header.layout)
        if self._request.size_bytes is not None:
            header.check_length(self._request.size_bytes)
        if header.big_endian:
            self._swapped_bytes = ITEM_BYTES[header.layout.dtype]
        if not header.layout.height:
            if not self._empty:
                raise BadInput(f"the array has no rows: its shape is {header.shape}")
            return _NoRows(header)
        return RowSplitter(header.layout, self._request, halo=self._halo, first_byte=header.size_bytes)

    def _little_endian(self, pieces: Iterable[Piece]) -> Iterable[Piece]:
        if not self._swapped_bytes:
            return pieces
        return [replace(piece, payload=_swapped(piece.payload, self._swapped_bytes)) for piece in pieces]


class NpyFileSplitter:
    """Cuts an array in Fortran order into bands of whole rows, from its file, with NumPy in a child."""

    def __init__(self, request: SplitRequest, *, halo: int, check: Check | None, frames: bool) -> None:
        self._request = request
        self._halo = halo
        self._check = check
        self._frames = frames

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the bands. Reads the whole file once for each 64 MiB of rows, and never holds all of it."""
        header = read_header(path, frames=self._frames)
        if self._check is not None:
            self._check(header.layout)
        rows = RowSplitter(header.layout, self._request, halo=self._halo, first_byte=header.size_bytes)
        for band in file_rows(path, header):
            yield from rows.feed(band)
        yield from rows.finish()


def read_header(path: Path, *, frames: bool = False) -> NpyHeader:
    """Return the header of a complete file; BadInput if it is not an NPY file, or if the file's length does not fit."""
    with path.open("rb") as file:
        head = file.read(HEADER_END_BYTES)
    header = parse_header(head, frames=frames)
    if header is None:
        raise BadInput(f"the body ends at byte {len(head)}, inside the NPY header")
    header.check_length(path.stat().st_size)
    return header


def file_rows(path: Path, header: NpyHeader) -> Iterator[bytes]:
    """Yield whole rows of a file, up to 64 MiB at a time, in C order and little-endian, however the file stores them."""
    import numpy as np

    stored = np.dtype(header.layout.dtype).newbyteorder(">" if header.big_endian else "<")
    values = np.memmap(path, stored, "r", header.size_bytes, header.shape, "F" if header.fortran else "C")
    step = max(1, _STEP_BYTES // header.layout.row_bytes)
    for first in range(0, header.shape[0], step):
        yield values[first : first + step].astype(stored.newbyteorder("<"), copy=False).tobytes("C")


class _NoRows:
    """Replaces the RowSplitter for an array without rows: returns one piece without rows."""

    def __init__(self, header: NpyHeader) -> None:
        self._header = header
        self._received_bytes = 0

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Count the bytes, which should be none."""
        self._received_bytes += len(data)
        return ()

    def finish(self) -> Iterable[Piece]:
        """Return the one piece; BadInput if any bytes followed the header."""
        self._header.check_length(self._header.size_bytes + self._received_bytes)
        layout = self._header.layout
        band = Band(0, 0, 0, 0, layout.width, layout.channels, layout.dtype, 0)
        return [Piece(b"", band.encode())]


def _swapped(payload: bytes, item_bytes: int) -> bytes:
    """Return the values in the other byte order."""
    values = array(_TYPE_CODES[item_bytes])
    values.frombytes(payload)
    values.byteswap()
    return values.tobytes()
