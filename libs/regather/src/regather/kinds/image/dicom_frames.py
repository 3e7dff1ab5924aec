"""One compressed frame of a DICOM file: joins its fragments, checks its codestream, then decodes it.

pydicom finds the bytes of a frame. Before that, this module walks the fragments, so that an item that extends past the
end of the file is refused before any of it is read. imagecodecs decodes. Several of its codecs accept a stream that
ends early or is damaged, and fill in what is missing, so each frame has to pass these checks:

- its codestream has the size and the number of samples that the file states, and no more bits than BitsAllocated;
- JPEG and JPEG-LS end in their end marker; OpenJPEG decodes JPEG 2000 in its strict mode;
- libvips decodes JPEG of 8 bits as well, with every warning of libjpeg fatal; a second decoder decodes lossless JPEG
  and must find the same samples, because the first one does not report that it ran out of data;
- every segment of an RLE frame gives exactly its plane.

Damage that leaves a well-formed stream cannot be detected: these formats have no checksums.
"""

import contextlib
import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from regather.kinds.image.codestream import Codestream, jpeg_2000_head, jpeg_end, jpeg_head
from regather.kinds.image.dicom_elements import Bounded, quiet, refused
from regather.kinds.image.dicom_header import UNDEFINED, PixelHeader
from regather.kinds.image.refusals import unsupported

_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_RLE_HEAD_BYTES = 64
_LOSSLESS_JPEG = 0xC3
_JPEG = "1.2.840.10008.1.2.4."


@dataclass(frozen=True, slots=True)
class Decoded:
    """A frame's samples: an array (rows, columns) or (rows, columns, samples). `photometric` is what the stream states."""

    samples: Any
    photometric: str


def decoder(syntax: str) -> Callable[[PixelHeader, bytes], Decoded]:
    """Return the decoder of a transfer syntax; BadInput names a syntax that has none."""
    found = _DECODERS.get(syntax)
    if found is None:
        raise unsupported("DICOM", f"transfer syntax {_named(syntax)}", _remedy(syntax))
    return found


def read_frame(file: BinaryIO, header: PixelHeader, page: int) -> bytes:
    """Return the bytes of a compressed frame, its fragments joined; BadInput if they cannot be found."""
    from pydicom.encaps import get_frame

    if header.length != UNDEFINED:
        raise refused(
            f"transfer syntax {_named(header.syntax)} has fragments, but the pixel data has {header.length} bytes in one"
        )
    _check_fragments(file, header)
    offsets = _offsets(header, header.size_bytes)
    bounded = Bounded(file)
    bounded.seek(header.offset)
    try:
        with quiet():
            frame = get_frame(bounded, page, number_of_frames=header.frames, extended_offsets=offsets)
    except Exception:  # pydicom raises all kinds of exceptions for a damaged table
        raise refused(f"the fragments do not show where frame {page} begins and ends") from None
    if not frame:
        raise refused(f"frame {page} is empty")
    return frame


def _named(syntax: str) -> str:
    from pydicom.uid import UID

    name = UID(syntax).name
    return f"{syntax} ({name})" if name != syntax and len(syntax) <= 64 else f"{syntax[:64]} (not defined by DICOM)"


def _remedy(syntax: str) -> str:
    if syntax.startswith(_JPEG) and syntax.split(".")[7:8] and 100 <= int(syntax.split(".")[7]) <= 109:
        return "it holds a video; save its frames as images"
    return "decompress the file, or save it with JPEG, JPEG-LS, JPEG 2000 or RLE"


def _check_fragments(file: BinaryIO, header: PixelHeader) -> None:
    """Walk the items from the offset table to the end of the sequence."""
    at, count = header.offset, 0
    begins: list[int] = []
    while True:
        file.seek(at)
        tag, length = file.read(4), int.from_bytes(file.read(4), "little")
        if tag == _DELIMITER:
            break
        if tag != _ITEM:
            where = "the file ends" if len(tag) < 4 else "there is no fragment"
            raise refused(f"{where} at byte {at}, after {count} items and before the end of the pixel data")
        begins.append(at)
        at += 8 + length
        count += 1
        if at > header.size_bytes:
            raise refused(f"fragment {count - 2} ends at byte {at} and the file at {header.size_bytes}; it is cut off")
    if count < 2:
        raise refused("its pixel data has no fragments")
    _check_offset_table(file, header, begins)


def _check_offset_table(file: BinaryIO, header: PixelHeader, begins: list[int]) -> None:
    """Refuse more frames than fragments, and an offset table that does not lead from frame to frame.

    `begins` are the bytes where the table's own item and the fragments begin.
    """
    if header.frames > len(begins) - 1:
        raise refused(f"it states {header.frames} frames but has {len(begins) - 1} fragments")
    file.seek(begins[0] + 4)
    size = int.from_bytes(file.read(4), "little")
    tables = {"Basic Offset Table": [offset for (offset,) in struct.iter_unpack("<I", file.read(size // 4 * 4))]}
    extended = _offsets(header, header.size_bytes)
    if extended is not None:
        tables["extended offset table"] = extended[0]
    known = {begin - begins[1] for begin in begins[1:]}
    for name, offsets in tables.items():
        ascending = all(before < after for before, after in itertools.pairwise(offsets))
        lies = len(offsets) != header.frames or offsets[0] or not ascending or not known.issuperset(offsets)
        if offsets and lies:
            raise refused(
                f"its {name} does not lead to the {header.frames} frames one after the other; "
                "save the file again with a new table, or an empty one"
            )


def _offsets(header: PixelHeader, limit: int) -> tuple[list[int], list[int]] | None:
    """Return the extended offset table as numbers; BadInput if it points outside of the file."""
    if header.frame_offsets is None:
        return None
    offsets, lengths = (
        list(struct.unpack(f"<{len(part) // 8}Q", part[: len(part) // 8 * 8])) for part in header.frame_offsets
    )
    if len(offsets) != len(lengths) or any(begin + size > limit for begin, size in zip(offsets, lengths, strict=False)):
        raise refused("its extended offset table points outside of the file")
    return offsets, lengths


@contextlib.contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Replace a codec's error by our own: its message may be about another file."""
    try:
        yield
    except (Exception, RecursionError) as error:
        from regather.core.errors import UserError

        if isinstance(error, UserError):
            raise
        raise refused(f"its {what} data is damaged") from None


def _jpeg(header: PixelHeader, data: bytes) -> Decoded:
    import imagecodecs

    stream, head = _jpeg_stream(header, data, "JPEG")
    colours = {1: "GRAYSCALE", 3: "YCBCR"}.get(head.components)
    with _decoding("JPEG"):
        if head.marker == _LOSSLESS_JPEG:
            plain = "RGB" if head.components == 3 else colours
            samples = imagecodecs.jpeg8_decode(stream, colorspace=plain, outcolorspace=plain)
            second = imagecodecs.jpegsof3_decode(stream)
            if samples.shape != second.shape or not (samples == second).all():
                raise refused("its JPEG data is damaged: two decoders disagree about it")
            return Decoded(samples, header.photometric)
        if head.precision == 8:
            _check_by_vips(stream)
        photometric = _jpeg_colours(header, head)
        if head.components == 3 and photometric == "RGB":
            colours = "RGB"
        return Decoded(imagecodecs.jpeg8_decode(stream, colorspace=colours, outcolorspace=colours), photometric)


def _jpeg_colours(header: PixelHeader, head: Codestream) -> str:
    """Return the colours of a JPEG stream; what the stream states has priority over the file, as in pydicom."""
    if head.components != 3:
        return header.photometric
    if head.ids in (b"RGB", b"rgb"):
        return "RGB"
    if head.jfif and "YBR" not in header.photometric:
        return "YBR_FULL_422"
    return header.photometric


def _check_by_vips(stream: bytes) -> None:
    """Decode with every warning fatal."""
    import pyvips

    pyvips.vips_lib.vips_error_clear()
    try:
        pyvips.Image.jpegload_buffer(stream, access="sequential", fail_on="warning").avg()
    except pyvips.Error:
        raise refused("its JPEG data is damaged") from None
    finally:
        pyvips.vips_lib.vips_error_clear()


def _jpeg_ls(header: PixelHeader, data: bytes) -> Decoded:
    import imagecodecs

    stream, _ = _jpeg_stream(header, data, "JPEG-LS")
    with _decoding("JPEG-LS"):
        return Decoded(imagecodecs.jpegls_decode(stream), header.photometric)


def _jpeg_stream(header: PixelHeader, data: bytes, what: str) -> tuple[bytes, Codestream]:
    head = _checked(header, jpeg_head(data), what)
    stream = jpeg_end(data)
    if stream is None:
        raise refused(f"its {what} data has no end marker; it is cut off or damaged")
    return stream, head


def _jpeg_2000(header: PixelHeader, data: bytes) -> Decoded:
    import imagecodecs

    _checked(header, jpeg_2000_head(data), "JPEG 2000")
    with _decoding("JPEG 2000"):
        samples = imagecodecs.jpeg2k_decode(data)
    inner = header.photometric in ("YBR_ICT", "YBR_RCT")  # the decoder undoes the stream's own colour transform
    return Decoded(samples, "RGB" if inner else header.photometric)


def _checked(header: PixelHeader, head: Codestream | None, what: str) -> Codestream:
    if head is None:
        raise refused(f"its {what} data has no valid header")
    if (head.height, head.width, head.components) != (header.rows, header.columns, header.samples):
        raise refused(
            f"the file states {header.rows} rows, {header.columns} columns and {header.samples} samples, its {what} data "
            f"{head.height}, {head.width} and {head.components}"
        )
    if head.precision > header.bits_allocated:
        raise refused(f"its {what} data has {head.precision} bits a sample, BitsAllocated is {header.bits_allocated}")
    return head


def _rle(header: PixelHeader, data: bytes) -> Decoded:
    """Decode RLE: one segment for each byte of a sample, the highest byte first (PS3.5, annex G)."""
    import imagecodecs
    import numpy as np

    item_bytes = header.bits_allocated // 8
    planes = header.samples * item_bytes
    heads = struct.unpack("<16I", data[:_RLE_HEAD_BYTES]) if len(data) >= _RLE_HEAD_BYTES else (0,)
    ends = [*heads[2 : planes + 1], len(data)]
    if heads[0] != planes or not all(
        64 <= begin < end <= len(data) for begin, end in zip(heads[1:], ends, strict=False)
    ):
        raise refused(f"its RLE header does not give {planes} consecutive segments")
    pixels = header.rows * header.columns
    whole = np.empty((header.samples, item_bytes, pixels), np.uint8)
    for index, (begin, end) in enumerate(zip(heads[1:], ends, strict=False)):
        with _decoding("RLE"):
            plane = np.frombuffer(imagecodecs.packbits_decode(data[begin:end]), np.uint8)
        if not pixels <= plane.size <= pixels + 1:
            raise refused(f"RLE segment {index} has {plane.size} values; {pixels} are needed")
        whole[index // item_bytes, item_bytes - 1 - index % item_bytes] = plane[:pixels]
    values = np.ascontiguousarray(whole.transpose(2, 0, 1)).view(f"<u{item_bytes}")
    return Decoded(values.reshape(header.rows, header.columns, header.samples), header.photometric)


_DECODERS: dict[str, Callable[[PixelHeader, bytes], Decoded]] = {
    **dict.fromkeys([f"{_JPEG}50", f"{_JPEG}51", f"{_JPEG}57", f"{_JPEG}70"], _jpeg),
    **dict.fromkeys([f"{_JPEG}80", f"{_JPEG}81"], _jpeg_ls),
    **dict.fromkeys([f"{_JPEG}90", f"{_JPEG}91", f"{_JPEG}201", f"{_JPEG}202", f"{_JPEG}203"], _jpeg_2000),
    "1.2.840.10008.1.2.5": _rle,
}
