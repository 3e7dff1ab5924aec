"""Cuts an image for `image.map`: each shard gets the rows of the image that its rows of the result are computed from."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from regather.core.errors import BadInput
from regather.kinds.image.formats import Choice, ImageFormat
from regather.kinds.image.image_file import open_image
from regather.kinds.image.limits import check_size
from regather.kinds.image.map_geometry import Geometry
from regather.kinds.image.map_plan import MapPlan
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.byte_queue import ByteQueue
from regather.processors.splitting.npy import file_rows, parse_header, read_header
from regather.processors.splitting.rows import Band, RowLayout, RowSplitter

_STEP_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MapBand:
    """A shard's `meta`: it owns rows `first` to `end - 1` of the result, and its payload begins with row `row0`.

    `width`, `channels`, `dtype` and `height` are those of the image; the height is None while it is unknown.
    """

    first: int
    end: int
    row0: int
    width: int
    channels: int
    dtype: str
    height: int | None

    @property
    def layout(self) -> RowLayout:
        """Layout of the image."""
        return RowLayout(self.width, self.channels, self.dtype, self.height)

    def encode(self) -> bytes:
        """Return the band as JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, meta: bytes) -> "MapBand":
        """Parse what encode() wrote; ValueError or TypeError for anything else."""
        return cls(**json.loads(meta))


Plan = Callable[[RowLayout], tuple[Geometry, MapPlan]]


class MapSplitter:
    """Cuts rows of an image of known height, by a plan for its layout; holds the rows that the next shard needs.

    `first_byte` is where the rows begin in the body. BadInput if the body lacks rows or continues after them.
    """

    def __init__(self, layout: RowLayout, plan: Plan, *, first_byte: int = 0) -> None:
        self._layout = layout
        self._geometry, made = plan(layout)
        self._shards = made.rows()
        self._next = next(self._shards, None)
        self._first_byte = first_byte
        self._queue = ByteQueue()
        self._row0 = 0
        self._received_bytes = 0

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Queue the bytes; return the shards whose rows are complete."""
        layout = self._layout
        self._received_bytes += len(data)
        expected_bytes = layout.row_bytes * (layout.height or 0)
        if self._received_bytes > expected_bytes:
            raise BadInput(f"{self._expectation()}, but the body goes on after that")
        self._queue.append(data)
        pieces = []
        while self._next is not None:
            first, end = self._geometry.needed(*self._next)
            if self._received_bytes < end * layout.row_bytes:
                break
            self._drop_rows(first)
            payload = self._queue.peek((end - first) * layout.row_bytes)
            band = MapBand(*self._next, first, layout.width, layout.channels, layout.dtype, layout.height)
            pieces.append(Piece(payload, band.encode()))
            self._next = next(self._shards, None)
        if self._next is None:
            self._queue.drop(len(self._queue))
        else:
            self._drop_rows(self._geometry.needed(*self._next)[0])
        return pieces

    def finish(self) -> Iterable[Piece]:
        """Check that all rows have arrived; every shard was returned by feed()."""
        if not self._received_bytes:
            raise BadInput("the body is empty: there are no rows to cut", code="empty-body")
        if self._received_bytes < self._layout.row_bytes * (self._layout.height or 0):
            raise BadInput(
                f"{self._expectation()}, but the body ends at byte {self._first_byte + self._received_bytes}"
            )
        return ()

    def _drop_rows(self, first: int) -> None:
        """Drop the rows before `first` that are in the queue."""
        rows = min(first - self._row0, len(self._queue) // self._layout.row_bytes)
        self._queue.drop(rows * self._layout.row_bytes)
        self._row0 += rows

    def _expectation(self) -> str:
        height, row_bytes = self._layout.height or 0, self._layout.row_bytes
        return f"{height} rows of {row_bytes} bytes end at byte {self._first_byte + height * row_bytes}"


class NpyMapSplitter:
    """Cuts an NPY file, whose header contains the layout."""

    def __init__(self, plan: Plan, check: Callable[[RowLayout], None], size_bytes: int | None) -> None:
        self._plan = plan
        self._check = check
        self._size_bytes = size_bytes
        self._head = bytearray()
        self._rows: MapSplitter | None = None

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Parse the header, then cut rows; return the shards whose rows are complete."""
        if self._rows is not None:
            return self._rows.feed(data)
        self._head += data
        header = parse_header(self._head)
        if header is None:
            return ()
        self._check(header.layout)
        expected_bytes = header.size_bytes + header.layout.row_bytes * (header.layout.height or 0)
        if self._size_bytes not in (None, expected_bytes):
            raise BadInput(f"the NPY header says {expected_bytes} bytes in all, but the body has {self._size_bytes}")
        self._rows = MapSplitter(header.layout, self._plan, first_byte=header.size_bytes)
        return self._rows.feed(bytes(self._head[header.size_bytes :]))

    def finish(self) -> Iterable[Piece]:
        """Check that all rows have arrived."""
        if self._rows is None:
            raise BadInput(f"the body ends at byte {len(self._head)}, inside the NPY header")
        return self._rows.finish()


class NpyMapFileSplitter:
    """Cuts an NPY file in Fortran order or with big-endian values, which must be complete first."""

    def __init__(self, plan: Plan, check: Callable[[RowLayout], None]) -> None:
        self._plan = plan
        self._check = check

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the shards, converting the file's rows to C order and little-endian."""
        header = read_header(path)
        self._check(header.layout)
        rows = MapSplitter(header.layout, self._plan)
        for band in file_rows(path, header):
            yield from rows.feed(band)
        yield from rows.finish()


class MapFileSplitter:
    """Cuts an image file that has to be decoded."""

    def __init__(
        self, plan: Plan, check: Callable[[RowLayout], None], request: SplitRequest, choice: Choice, known: ImageFormat
    ) -> None:
        self._plan = plan
        self._check = check
        self._request = request
        self._choice = choice
        self._known = known

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the shards while the file is decoded."""
        with contextlib.closing(open_image(path, self._choice, known=self._known)) as source:
            layout = source.layout
            check_size(layout, path.stat().st_size, self._request.max_bytes)
            self._check(layout)
            rows = MapSplitter(layout, self._plan)
            height, step = layout.height or 0, max(1, _STEP_BYTES // layout.row_bytes)
            for first in range(0, height, step):
                yield from rows.feed(source.rows(first, min(step, height - first)))
            yield from rows.finish()


class BandMapSplitter:
    """Cuts rows of an image of unknown height, as RowSplitter does; not for resize."""

    def __init__(self, rows: RowSplitter, layout: RowLayout) -> None:
        self._rows = rows
        self._layout = layout

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Cut rows; return the shards that are now complete."""
        return map(self._piece, self._rows.feed(data))

    def finish(self) -> Iterable[Piece]:
        """Return the last shards."""
        return map(self._piece, self._rows.finish())

    def _piece(self, piece: Piece) -> Piece:
        band, layout = Band.decode(piece.meta), self._layout
        end = band.row0 + band.rows
        meta = MapBand(band.row0, end, band.row0 - band.top, layout.width, layout.channels, layout.dtype, None)
        return Piece(piece.payload, meta.encode())
