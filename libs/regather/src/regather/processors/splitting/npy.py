"""Cutting NumPy's NPY files by rows: one definition for every kind that takes them.

Theory of operation. Rows of an array in C order stand one after the other, so NpySplitter cuts them while they arrive;
big-endian values are swapped piece by piece on the way. In Fortran order the first row has a value in every part of the
file: such a file has to be there as a whole, and NpyFileSplitter transposes it in a child, where NumPy may be imported.
npy_splitter() picks one of the two by the header, which it sees in the body's head.
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
    """Return the splitter of an NPY body, for a kind that cuts it into bands of whole rows.

    The shape is (height, width) or (height, width, channels). With `frames` a row is a frame: the shape is (frames,
    height, width) or (frames, height, width, channels), and the layout's width is height x width. With `empty` an array
    of no rows is one shard of no rows; else it is refused.

    `check` sees the layout before anything is cut and raises BadInput if it does not suit the kind. BadInput, here or by
    the splitter, names the byte of a header that is not understood: Python objects, structures, other shapes.
    """
    header = parse_header(request.head, frames=frames) if request.head else None
    if header is not None and header.fortran:
        return NpyFileSplitter(request, halo=halo, check=check, frames=frames)
    return NpySplitter(request, halo=halo, check=check, frames=frames, empty=empty)


class NpySplitter:
    """Bands of whole rows of an array in C order, while it arrives. See npy_splitter(), which makes it."""

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
        """See Splitter."""
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
        """See Splitter."""
        if self._rows is None:
            raise BadInput(f"the body ends at byte {len(self._head)}, inside the NPY header")
        return self._little_endian(self._rows.finish())

    def _open(self, header: NpyHeader) -> "RowSplitter | _NoRows":
        if header.fortran:
            raise BadInput(
                f"the array is in Fortran order, and its header ends at byte {header.size_bytes}, too late to tell; "
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
    """Bands of whole rows of an array in Fortran order, from its file, by NumPy in a child."""

    def __init__(self, request: SplitRequest, *, halo: int, check: Check | None, frames: bool) -> None:
        self._request = request
        self._halo = halo
        self._check = check
        self._frames = frames

    def cut(self, path: Path) -> Iterator[Piece]:
        """See FileSplitter. Reads all of the file once for each 64 MiB of it, a part at a time."""
        header = read_header(path, frames=self._frames)
        if self._check is not None:
            self._check(header.layout)
        rows = RowSplitter(header.layout, self._request, halo=self._halo, first_byte=header.size_bytes)
        for band in file_rows(path, header):
            yield from rows.feed(band)
        yield from rows.finish()


def read_header(path: Path, *, frames: bool = False) -> NpyHeader:
    """Return the header of a whole file; BadInput for one that is no NPY file, or shorter or longer than it says."""
    with path.open("rb") as file:
        head = file.read(HEADER_END_BYTES)
    header = parse_header(head, frames=frames)
    if header is None:
        raise BadInput(f"the body ends at byte {len(head)}, inside the NPY header")
    header.check_length(path.stat().st_size)
    return header


def file_rows(path: Path, header: NpyHeader) -> Iterator[bytes]:
    """Yield whole rows of a file, some at a time, in C order and little-endian, whatever they are in the file."""
    import numpy as np

    stored = np.dtype(header.layout.dtype).newbyteorder(">" if header.big_endian else "<")
    values = np.memmap(path, stored, "r", header.size_bytes, header.shape, "F" if header.fortran else "C")
    step = max(1, _STEP_BYTES // header.layout.row_bytes)
    for first in range(0, header.shape[0], step):
        yield values[first : first + step].astype(stored.newbyteorder("<"), copy=False).tobytes("C")


class _NoRows:
    """Stands for the RowSplitter of an array of no rows: one piece with none."""

    def __init__(self, header: NpyHeader) -> None:
        self._header = header
        self._received_bytes = 0

    def feed(self, data: bytes) -> Iterable[Piece]:
        """See Splitter."""
        self._received_bytes += len(data)
        return ()

    def finish(self) -> Iterable[Piece]:
        """See Splitter."""
        self._header.check_length(self._header.size_bytes + self._received_bytes)
        layout = self._header.layout
        band = Band(0, 0, 0, 0, layout.width, layout.channels, layout.dtype, 0)
        return [Piece(b"", band.encode())]


def _swapped(payload: bytes, item_bytes: int) -> bytes:
    """Return whole values in the other byte order."""
    values = array(_TYPE_CODES[item_bytes])
    values.frombytes(payload)
    values.byteswap()
    return values.tobytes()
