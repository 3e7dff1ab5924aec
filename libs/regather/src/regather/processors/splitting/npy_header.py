"""Parses NPY headers without NumPy.

Format: NumPy Enhancement Proposal 1 and `numpy.lib.format` (versions 1.0, 2.0 and 3.0). The parser accepts numbers and
booleans of 1 to 8 bytes in either byte order, in C or Fortran order. It also accepts the long integers that Python 2
wrote (`61L`) and type descriptions of other programs (`<u1`, `=u2`, `f4`, `float32`). A description without a byte
order counts as little-endian, the order of the machines that write such files today. It refuses every other type and
names it.
"""

import ast
import re
from dataclasses import dataclass
from math import prod

from regather.core.errors import BadInput
from regather.processors.splitting.rows import ITEM_BYTES, RowLayout

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000
"""NumPy's own limit for headers that it parses."""

HEADER_END_BYTES = len(MAGIC) + 6 + MAX_HEADER_BYTES
"""The rows begin at this byte at the latest."""

_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
_VERSION_END = len(MAGIC) + 2
_MOST_VALUES = 2**63 - 1
_SHOWN_CHARS = 200
_PYTHON_2_LONG = re.compile(r"(?<=[0-9])L\b")
_DESCRIPTION = re.compile(r"([<>=|]?)(\?|[biuf][1248])")
_DTYPES = {
    "?": "bool", "b1": "bool",
    "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64",
    "f2": "float16", "f4": "float32", "f8": "float64",
}  # fmt: skip
_REFUSED = {
    "O": "Python objects, which are never unpickled: save them as numbers",
    "S": "strings: save numbers",
    "U": "strings: save numbers",
    "a": "strings: save numbers",
    "c": "complex numbers: save real and imaginary parts, array.real and array.imag",
    "M": "dates: save them as numbers, array.astype('int64')",
    "m": "time spans: save them as numbers, array.astype('int64')",
    "V": "raw bytes without a type: save them as numbers, array.view('uint8')",
}
_OTHER_FILES = {
    b"PK\x03\x04": "an .npz archive (or another zip file); save the one array that you mean with numpy.save",
    b"PK\x05\x06": "an empty .npz archive (or another zip file); save the array with numpy.save",
    **{bytes((0x80, protocol)): "a Python pickle, which is never loaded; save the array with numpy.save"
       for protocol in range(2, 6)},
    b"\x89HDF\r\n": "an HDF5 file; save the one array that you mean with numpy.save",
    b"MATLAB ": "a MATLAB file; save the one array that you mean with numpy.save",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """A parsed NPY header: the rows' layout, the byte where they begin, and how the file stores the values.

    `layout` describes the rows as they are cut: in C order, little-endian. `big_endian` and `fortran` say how the file
    stores them; `shape` is the shape of the whole array.
    """

    layout: RowLayout
    size_bytes: int
    shape: tuple[int, ...] = ()
    big_endian: bool = False
    fortran: bool = False

    @property
    def body_bytes(self) -> int:
        """Size of the whole file."""
        return self.size_bytes + self.layout.row_bytes * (self.layout.height or 0)

    def check_length(self, found_bytes: int) -> None:
        """Raise BadInput if the file is longer or shorter than its header says."""
        if found_bytes == self.body_bytes:
            return
        rows = f"its {self.layout.height} rows of {self.layout.row_bytes} bytes"
        raise BadInput(
            f"the NPY header of {self.size_bytes} bytes and {rows} make {self.body_bytes} bytes, but the body has "
            f"{found_bytes}: {'it was cut off' if found_bytes < self.body_bytes else 'something follows the array'}"
        )


def parse_header(head: bytes | bytearray, *, frames: bool = False) -> NpyHeader | None:
    """Parse the header at the start of `head`; None while it is incomplete, BadInput with the offset if it is wrong.

    The shape must be (height, width) or (height, width, channels); with `frames`, (frames, height, width) or (frames,
    height, width, channels). The height may be 0.
    """
    if not MAGIC.startswith(bytes(head[: len(MAGIC)])):
        refuse_other_arrays(head)
        raise BadInput(
            f"byte 0: not an NPY file, which begins with {MAGIC!r}; this one begins with {bytes(head[:6])!r}"
        )
    if len(head) < _VERSION_END:
        return None
    version = bytes(head[len(MAGIC) : _VERSION_END])
    length_bytes = _LENGTH_BYTES.get(version)
    if length_bytes is None:
        raise BadInput(f"byte {len(MAGIC)}: NPY version {version[0]}.{version[1]}; supported are 1.0, 2.0 and 3.0")
    start = _VERSION_END + length_bytes
    if len(head) < start:
        return None
    header_bytes = int.from_bytes(head[_VERSION_END:start], "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise BadInput(f"byte {_VERSION_END}: an NPY header of {header_bytes} bytes; at most {MAX_HEADER_BYTES}")
    if len(head) < start + header_bytes:
        return None
    text = bytes(head[start : start + header_bytes]).decode("utf-8" if version == b"\x03\x00" else "latin-1", "replace")
    return _header(text, start, start + header_bytes, frames=frames)


def refuse_other_arrays(head: bytes | bytearray, way_out: str = "") -> None:
    """Raise BadInput if the body is not an NPY file but another file of arrays: .npz, a pickle, HDF5, MATLAB.

    `way_out` is advice for a body that only looks like one of them: some signatures have just two bytes.
    """
    for magic, name in _OTHER_FILES.items():
        if head.startswith(magic):
            raise BadInput(f"the body is {name}" + (f" ({way_out})" if way_out else ""))


def _header(text: str, offset: int, size_bytes: int, *, frames: bool) -> NpyHeader:
    fields = _fields(text, offset)
    fortran = fields["fortran_order"]
    if not isinstance(fortran, bool):
        raise BadInput(f"byte {offset}: fortran_order is {_short(fortran)}; it must be True or False")
    shape = _shape(fields["shape"], offset)
    dtype, big_endian = _dtype(fields["descr"], offset)
    layout = _layout(shape, dtype, offset, frames=frames)
    big_endian = big_endian and ITEM_BYTES[dtype] > 1
    one_line = sum(side > 1 for side in shape) < 2 or not prod(shape)  # then C and Fortran order are the same
    return NpyHeader(layout, size_bytes, shape, big_endian, fortran and not one_line)


def _shape(shape: object, offset: int) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(side) is int and 0 <= side <= _MOST_VALUES for side in shape):
        raise BadInput(f"byte {offset}: shape {_short(shape)} is not a tuple of whole numbers")
    if prod(shape) > _MOST_VALUES:
        raise BadInput(f"byte {offset}: shape {_short(shape)} has more values than any file can hold")
    return shape


def _layout(shape: tuple[int, ...], dtype: str, offset: int, *, frames: bool) -> RowLayout:
    wanted = "(frames, height, width)" if frames else "(rows, columns), of an image (height, width),"
    row = shape[1:] if not frames else (shape[1] * shape[2], *shape[3:]) if len(shape) > 2 else ()
    if len(row) not in (1, 2):
        advice = "; if each value is a row, save array.reshape(-1, 1)" if len(shape) == 1 and not frames else ""
        raise BadInput(
            f"byte {offset}: shape {_short(shape)}; {wanted} is needed, and one more for channels if there are any{advice}"
        )
    if not prod(row):
        raise BadInput(f"byte {offset}: shape {_short(shape)}: its rows have no values")
    return RowLayout(row[0], row[1] if len(row) == 2 else 1, dtype, shape[0])


def _fields(text: str, offset: int) -> dict[str, object]:
    fields = _literal(text, offset)
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise BadInput(f"byte {offset}: the NPY header must name descr, fortran_order and shape, and only these")
    return fields


def _literal(text: str, offset: int) -> object:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        longs = _PYTHON_2_LONG.sub("", text)
    try:
        return ast.literal_eval(longs.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise BadInput(f"byte {offset}: the NPY header is not a Python literal: {_short(text)}") from error


def _dtype(description: object, offset: int) -> tuple[str, bool]:
    """Return the type's name and whether its values are big-endian."""
    if isinstance(description, list | tuple):
        raise BadInput(f"byte {offset}: the array is structured ({_short(description)}); save one field: array['name']")
    if not isinstance(description, str):
        raise BadInput(f"byte {offset}: descr is {_short(description)}; it must be a string such as '<f4'")
    if description in ITEM_BYTES:
        return description, False
    found = _DESCRIPTION.fullmatch(description)
    dtype = _DTYPES.get(found[2]) if found else None
    if found and dtype:
        return dtype, found[1] == ">"
    letter = description.lstrip("<>=|")[:1]
    if letter in _REFUSED:
        raise BadInput(f"byte {offset}: the array holds {_REFUSED[letter]} (type {_short(description)})")
    raise BadInput(f"byte {offset}: values of type {_short(description)}; supported are {', '.join(ITEM_BYTES)}")


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not print a number of thousands of digits
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
