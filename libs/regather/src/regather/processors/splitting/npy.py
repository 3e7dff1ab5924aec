"""Cutting NumPy's NPY files by rows, without NumPy: the header is read here, as its format is fixed.

Format: NumPy Enhancement Proposal 1 and `numpy.lib.format` (versions 1.0, 2.0 and 3.0).
"""

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from regather.core.errors import BadInput
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.rows import RowLayout, RowSplitter

MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
_VERSION_END = len(MAGIC) + 2
_MAX_HEADER_BYTES = 10_000
"""NumPy's own limit for headers that it parses."""

_DTYPES = {
    "|b1": "bool", "|i1": "int8", "|u1": "uint8",
    "<i2": "int16", "<u2": "uint16", "<f2": "float16",
    "<i4": "int32", "<u4": "uint32", "<f4": "float32",
    "<i8": "int64", "<u8": "uint64", "<f8": "float64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What an NPY header says: the rows' layout, and the byte where they begin."""

    layout: RowLayout
    size_bytes: int


Check = Callable[[RowLayout], None]


class NpySplitter:
    """Bands of whole rows of an array of shape (height, width) or (height, width, channels).

    With `frames` a row is a frame: the shape is (frames, height, width) or (frames, height, width, channels), and the
    layout's width is height x width.

    `check` sees the layout before anything is cut and raises BadInput if it does not suit the kind. Raises what
    RowSplitter raises, and BadInput with the byte offset for a header that is not understood: Python objects, Fortran
    order, big-endian values, other shapes.
    """

    def __init__(
        self, request: SplitRequest, *, halo: int = 0, check: Check | None = None, frames: bool = False
    ) -> None:
        self._request = request
        self._frames = frames
        self._halo = halo
        self._check = check
        self._head = bytearray()
        self._rows: RowSplitter | None = None

    def feed(self, data: bytes) -> Iterable[Piece]:
        """See Splitter."""
        if self._rows is not None:
            return self._rows.feed(data)
        self._head += data
        header = parse_header(self._head, frames=self._frames)
        if header is None:
            return ()
        self._rows = self._open(header)
        first_rows = bytes(memoryview(self._head)[header.size_bytes :])
        self._head.clear()
        return self._rows.feed(first_rows)

    def finish(self) -> Iterable[Piece]:
        """See Splitter."""
        if self._rows is None:
            raise BadInput(f"the body ends at byte {len(self._head)}, inside the NPY header")
        return self._rows.finish()

    def _open(self, header: NpyHeader) -> RowSplitter:
        layout = header.layout
        if self._check is not None:
            self._check(layout)
        expected_bytes = header.size_bytes + layout.row_bytes * (layout.height or 0)
        announced_bytes = self._request.size_bytes
        if announced_bytes is not None and announced_bytes != expected_bytes:
            raise BadInput(
                f"the NPY header of {header.size_bytes} bytes and its {layout.height} rows of {layout.row_bytes} bytes "
                f"make {expected_bytes} bytes, but the body has {announced_bytes}"
            )
        return RowSplitter(layout, self._request, halo=self._halo, first_byte=header.size_bytes)


def parse_header(head: bytes | bytearray, *, frames: bool = False) -> NpyHeader | None:
    """Read the header at the start of `head`; None while it is incomplete, BadInput with the offset if wrong."""
    if not MAGIC.startswith(bytes(head[: len(MAGIC)])):
        raise BadInput(f"byte 0: no NPY file, which begins with {MAGIC!r}; this one with {bytes(head[:6])!r}")
    if len(head) < _VERSION_END:
        return None
    version = bytes(head[len(MAGIC) : _VERSION_END])
    length_bytes = _LENGTH_BYTES.get(version)
    if length_bytes is None:
        raise BadInput(f"byte {len(MAGIC)}: NPY version {version[0]}.{version[1]}; known are 1.0, 2.0 and 3.0")
    start = _VERSION_END + length_bytes
    if len(head) < start:
        return None
    header_bytes = int.from_bytes(head[_VERSION_END:start], "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise BadInput(f"byte {_VERSION_END}: an NPY header of {header_bytes} bytes; at most {_MAX_HEADER_BYTES}")
    if len(head) < start + header_bytes:
        return None
    text = bytes(head[start : start + header_bytes]).decode("utf-8" if version == b"\x03\x00" else "latin-1", "replace")
    return NpyHeader(_layout(text, start, frames=frames), start + header_bytes)


def _layout(text: str, offset: int, *, frames: bool) -> RowLayout:
    fields = _fields(text, offset)
    if fields["fortran_order"] is not False:
        raise BadInput(f"byte {offset}: the array is in Fortran order; save it with numpy.ascontiguousarray")
    shape = fields["shape"]
    if not isinstance(shape, tuple) or not all(type(side) is int and side > 0 for side in shape):
        raise BadInput(f"byte {offset}: shape {shape!r} has no pixels or is no tuple of whole numbers")
    wanted = "(frames, height, width)" if frames else "(height, width)"
    row = shape[1:] if not frames else (shape[1] * shape[2], *shape[3:]) if len(shape) > 2 else ()
    if len(row) not in (1, 2):
        raise BadInput(
            f"byte {offset}: shape {shape!r}; {wanted} is needed, and one more for channels if there are any"
        )
    return RowLayout(row[0], row[1] if len(row) == 2 else 1, _dtype(fields["descr"], offset), shape[0])


def _fields(text: str, offset: int) -> dict[str, object]:
    try:
        fields = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise BadInput(f"byte {offset}: the NPY header is no Python literal: {error}") from error
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise BadInput(f"byte {offset}: the NPY header must name descr, fortran_order and shape, and only these")
    return fields


def _dtype(descr: object, offset: int) -> str:
    dtype = _DTYPES.get(descr) if isinstance(descr, str) else None
    if dtype is not None:
        return dtype
    if isinstance(descr, str) and "O" in descr:
        raise BadInput(f"byte {offset}: the array holds Python objects, which are never unpickled")
    if isinstance(descr, str) and descr.startswith(">"):
        raise BadInput(f"byte {offset}: values of type {descr!r} are big-endian; save them as {'<' + descr[1:]!r}")
    raise BadInput(f"byte {offset}: values of type {descr!r}; known are {', '.join(_DTYPES)}")
