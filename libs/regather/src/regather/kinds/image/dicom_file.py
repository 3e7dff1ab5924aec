"""DICOM files as pixels: one frame of a file, decoded while it is read.

Uncompressed frames, in planes or interleaved, are read from the file row by row, so that a file of 200 MB needs no
memory; a compressed frame is decoded as a whole. A deflated data set is first inflated to an unnamed file. pydicom
reads the data elements, imagecodecs decodes. dicom_header, dicom_frames and dicom_values describe what each step
accepts and refuses. Errors name only tags, sizes and places.
"""

import io
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from regather.core.errors import BadInput
from regather.kinds.image.arriving import ArrivingPlan
from regather.kinds.image.dicom_elements import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE, refused
from regather.kinds.image.dicom_frames import Decoded, decoder, read_frame
from regather.kinds.image.dicom_header import MAGIC, MAGIC_AT, UNDEFINED, PixelHeader, find_data_set, read_header
from regather.kinds.image.dicom_values import ValueRules, Values, value_rules
from regather.kinds.image.formats import Choice
from regather.kinds.image.limits import is_bomb, too_large
from regather.processors.splitting.rows import RowLayout

__all__ = ["MAGIC", "MAGIC_AT", "MEDIA_TYPE", "is_dicom", "open_choice", "open_dicom", "plan_arriving"]

MEDIA_TYPE = "application/dicom"
_STEP_BYTES = 1024 * 1024


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes show a DICOM file; one without a preamble is recognized only by its media type."""
    return head[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC


def open_dicom(path: Path, *, page: int = 0, values: Values = "rescaled") -> "DicomFile":
    """Open frame `page` of a file; BadInput if it is not an image, cut off, damaged or not supported.

    `values`: `rescaled` as the file defines (Hounsfield units of a CT), or `stored` unchanged; see dicom_values.
    """
    file: BinaryIO = path.open("rb")
    try:
        syntax, start = find_data_set(file)
        if syntax == DEFLATED:
            file, start = _inflated(file, start, path.stat().st_size), 0
        header = read_header(file, syntax, start, page)
        if header.encapsulated:
            return DicomFile(file, _Compressed(file, header, page, values))
        return DicomFile(file, _Plain(file, header, page, values))
    except BaseException:
        file.close()
        raise


def open_choice(path: Path, choice: Choice) -> "DicomFile":
    """Open the image that `choice` selects; BadInput as in open_dicom(), and for a level, because DICOM has one size."""
    if choice.level:
        raise BadInput("a DICOM file has no levels; choose a frame by page", code="image-invalid")
    return open_dicom(path, page=choice.page, values=choice.values)


def plan_arriving(head: bytes, size_bytes: int, choice: Choice) -> ArrivingPlan | None:
    """Return how to cut an arriving file with this beginning; None if only the complete file can be examined or cut.

    Works for uncompressed frames whose samples have the order of the pixels; `size_bytes` is the file's length. Returns
    None if `head` ends before the pixel data or is damaged: only the whole file shows which of the two it is.
    """
    file = io.BytesIO(head)
    try:
        syntax, start = find_data_set(file)
        if syntax not in (IMPLICIT_LITTLE, EXPLICIT_LITTLE) or choice.level:
            return None
        header = read_header(file, syntax, start, choice.page)
        return _Plain(file, replace(header, size_bytes=size_bytes), choice.page, choice.values).arriving()
    except BadInput:
        return None


class DicomFile:
    """A PixelSource: one frame of a DICOM file."""

    def __init__(self, file: BinaryIO, frame: "_Plain | _Compressed") -> None:
        self._file = file
        self._frame = frame
        rules, header = frame.rules, frame.header
        self._layout = RowLayout(header.columns, rules.channels, rules.dtype, header.rows)

    @property
    def layout(self) -> RowLayout:
        """Width, channels, type of a value and height."""
        return self._layout

    def rows(self, first: int, count: int) -> bytes:
        """Return rows `first` to `first + count - 1`, as PixelSource defines them."""
        import numpy as np

        raw = self._frame.raw(first, count)
        values = self._frame.rules.apply(raw)
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Plain:
    """An uncompressed frame."""

    def __init__(self, file: BinaryIO, header: PixelHeader, page: int, values: Values) -> None:
        self._file = file
        self.header = header
        self.rules: ValueRules = value_rules(header, header.photometric, values)
        self._halved = header.photometric == "YBR_FULL_422"
        if self._halved and (header.planar or header.columns % 2):
            raise refused("YBR_FULL_422 needs an even number of columns, and samples that are interleaved")
        item_bytes = header.bits_allocated // 8
        self._row_bytes = header.columns * item_bytes * (2 if self._halved else 1 if header.planar else header.samples)
        self._plane_bytes = self._row_bytes * header.rows
        self._planes = header.samples if header.planar else 1
        self._swapped = header.big_endian and header.vr == "OW" and item_bytes == 1
        frame_bytes = self._plane_bytes * self._planes
        self._check_size(frame_bytes)
        self._first_byte = frame_bytes * page

    def arriving(self) -> ArrivingPlan | None:
        """Return where little-endian rows begin and the rule for their samples; None if rows alone are not enough."""
        rule, header = self.rules.by_sample(), self.header
        if rule is None or self._planes > 1:
            return None
        layout = RowLayout(header.columns, self.rules.channels, rule.dtype, header.rows)
        identity = self.rules.table is None
        return ArrivingPlan(header.offset + self._first_byte, layout, b"" if identity else rule.encode())

    def raw(self, first: int, count: int) -> Any:
        """Return samples (rows, columns, samples) as they are in the file, in this machine's byte order."""
        import numpy as np

        header = self.header
        dtype = np.dtype(self.rules.raw_dtype).newbyteorder(">" if header.big_endian else "<")
        begin = self._first_byte + first * self._row_bytes
        planes = [
            np.frombuffer(self._read(begin + plane * self._plane_bytes, count * self._row_bytes), dtype)
            for plane in range(self._planes)
        ]
        if self._halved:
            return _both_pixels(planes[0].reshape(count, header.columns // 2, 4))
        if header.planar:
            samples = np.stack([plane.reshape(count, header.columns) for plane in planes], axis=2)
        else:
            samples = planes[0].reshape(count, header.columns, header.samples)
        return samples.astype(self.rules.raw_dtype, copy=False)

    def _read(self, begin: int, size: int) -> bytes:
        """Read bytes of the pixel data; swap the bytes of each pair if they are stored in big-endian words."""
        odd = begin % 2 if self._swapped else 0
        wanted = size + odd + (size + odd) % 2 if self._swapped else size
        self._file.seek(self.header.offset + begin - odd)
        data = self._file.read(wanted)
        if self._swapped:
            data = data + b"\0" * (len(data) % 2)
            swapped = bytearray(len(data))
            swapped[::2], swapped[1::2] = data[1::2], data[::2]
            data = bytes(swapped[odd : odd + size])
        if len(data) != size:
            raise refused(f"the file ends at byte {self.header.size_bytes}, inside its pixel data; it is cut off")
        return data

    def _check_size(self, frame_bytes: int) -> None:
        """Refuse a length that is not that of the frames. A surplus of less than a row counts as padding.

        So does the byte that makes an odd length even; in an image of one column it may be as long as a row.
        """
        header = self.header
        if header.length == UNDEFINED:
            raise refused(
                "its pixel data has no length, which only compressed data may lack; the transfer syntax is wrong"
            )
        expected = frame_bytes * header.frames
        surplus = header.length - expected
        if not 0 <= surplus < self._row_bytes and surplus != expected % 2:
            raise refused(
                f"{header.frames} frames of {header.rows} rows and {header.columns} columns are {expected} bytes, "
                f"but its pixel data says {header.length}"
            )
        if header.offset + header.length > header.size_bytes:
            raise refused(
                f"its pixel data ends at byte {header.offset + header.length} and the file at {header.size_bytes}; "
                "it is cut off"
            )


class _Compressed:
    """A compressed frame, which is decoded when its first row is requested."""

    def __init__(self, file: BinaryIO, header: PixelHeader, page: int, values: Values) -> None:
        self.header = header
        self._file = file
        self._page = page
        self._values = values
        self._decode = decoder(header.syntax)
        inner = header.photometric in ("YBR_ICT", "YBR_RCT")  # colours inside the codestream; decoding gives RGB
        self.rules: ValueRules = value_rules(header, "RGB" if inner else header.photometric, values)
        self._samples: Any = None

    def raw(self, first: int, count: int) -> Any:
        """Return samples (rows, columns, samples). The first call may change the frame's rules."""
        header = self.header
        if self._samples is None:
            decoded: Decoded = self._decode(header, read_frame(self._file, header, self._page))
            self.rules = value_rules(header, decoded.photometric, self._values)
            self._samples = decoded.samples.reshape(header.rows, header.columns, header.samples)
        return self._samples[first : first + count].astype(self.rules.raw_dtype, copy=False)


def _both_pixels(pairs: Any) -> Any:
    """Return (rows, columns, 3) for pairs of pixels Y1 Y2 Cb Cr that share their colour."""
    import numpy as np

    both = np.stack([pairs[:, :, [0, 2, 3]], pairs[:, :, [1, 2, 3]]], axis=2)
    return both.reshape(len(pairs), -1, 3)


def _inflated(file: BinaryIO, start: int, size_bytes: int) -> BinaryIO:
    """Return the data set after byte `start`, inflated to a temporary file that is deleted when it is closed."""
    target = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the source
    try:
        file.seek(start)
        _inflate(file, target, size_bytes)
        target.flush()
    except zlib.error:
        target.close()
        raise refused("its deflated data is damaged") from None
    except BaseException:
        target.close()
        raise
    finally:
        file.close()
    return target


def _inflate(file: BinaryIO, target: BinaryIO, size_bytes: int) -> None:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof and (chunk := file.read(_STEP_BYTES)):
        while chunk and not inflater.eof:
            target.write(inflater.decompress(chunk, _STEP_BYTES))
            chunk = inflater.unconsumed_tail
            if is_bomb(target.tell(), size_bytes):
                raise too_large("DICOM", f"{size_bytes} bytes inflate to more than {target.tell()}")
    if not inflater.eof:
        target.write(inflater.flush())
    if not inflater.eof:
        raise refused("its deflated data ends early")
