"""The pixel description of a DICOM file: reads the tags that describe the pixels, and no others.

A file without the 128 bytes of preamble and the `DICM` after them is read from its first byte, as DICOM's default
(implicit VR, little-endian) or as its file meta information says.

Source of the tags: DICOM PS3.3, C.7.6.3 (Image Pixel Module) and C.7.6.16 (functional groups); PS3.5, 7 and 8; PS3.10, 7.
"""

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from regather.core.errors import BadInput
from regather.kinds.image.dicom_elements import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Bounded,
    Elements,
    quiet,
    read_elements,
    refused,
)

MAGIC = b"DICM"
MAGIC_AT = 128
UNDEFINED = 0xFFFFFFFF

_PIXEL_DATA = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_FILE_META_GROUP = 2
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


@dataclass(frozen=True, slots=True)
class Palette:
    """A palette: the stored value of the first entry, and the entries of red, green and blue as they are in the file."""

    first: int
    entries: int
    entry_bits: int
    tables: tuple[bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class PixelHeader:
    """A file's description of its pixels. `tag` names the element that holds them, at `offset` with `length` bytes.

    `slope` and `intercept` are those of the chosen frame. `modality_table`: the file has a Modality LUT instead.
    """

    syntax: str
    tag: str
    vr: str
    offset: int
    length: int
    size_bytes: int
    rows: int
    columns: int
    samples: int
    planar: bool
    photometric: str
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    modality_table: bool
    palette: Palette | None
    frame_offsets: tuple[bytes, bytes] | None

    @property
    def big_endian(self) -> bool:
        """Whether values of several bytes begin with the highest one."""
        return self.syntax == EXPLICIT_BIG

    @property
    def encapsulated(self) -> bool:
        """Whether the pixel data is compressed, in fragments."""
        return self.syntax not in (IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG)


def find_data_set(file: BinaryIO) -> tuple[str, int]:
    """Return the transfer syntax's UID and the byte where the data set begins, after preamble and meta information."""
    start = _start(file)
    bounded = Bounded(file)
    bounded.seek(start)
    with quiet():
        meta = read_elements(bounded, EXPLICIT_LITTLE, lambda tag, vr, length: tag >> 16 != _FILE_META_GROUP)
    raw = Elements(meta, big_endian=False)
    syntax = raw.text("TransferSyntaxUID")
    if syntax is None:
        if start:
            raise refused("its file meta information has no TransferSyntaxUID (0002,0010)")
        return _guessed_syntax(file), 0
    if not _UID.match(syntax):
        raise refused("its TransferSyntaxUID (0002,0010) is not a UID")
    return syntax, bounded.tell()


def read_header(file: BinaryIO, syntax: str, start: int, page: int) -> PixelHeader:
    """Read the description of frame `page` from the data set at byte `start`; BadInput if it is not supported."""
    bounded = Bounded(file)
    bounded.seek(start)
    with quiet():
        elements = read_elements(bounded, syntax, lambda tag, vr, length: tag in _PIXEL_DATA)
        found = Elements(elements, big_endian=syntax == EXPLICIT_BIG)
        tag, vr, length = _element_head(bounded, found)
        return _header(found, page, syntax=syntax, tag=tag, vr=vr, length=length, bounded=bounded)


def _header(
    found: Elements, page: int, *, syntax: str, tag: str, vr: str, length: int, bounded: Bounded
) -> PixelHeader:
    frames = found.whole_number("NumberOfFrames", default=1)
    if page >= max(1, frames):
        raise BadInput(f"there is no frame {page}; the file has {frames}, counted from 0", code="image-invalid")
    samples = found.number("SamplesPerPixel")
    floats = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(tag)
    allocated = floats or found.number("BitsAllocated")
    stored = floats or found.number("BitsStored")
    slope, intercept = _rescale(found, page)
    photometric = _photometric(found)
    return PixelHeader(
        syntax=syntax, tag=tag, vr=vr, offset=bounded.tell(), length=length, size_bytes=bounded.size_bytes,
        rows=found.number("Rows"), columns=found.number("Columns"), samples=samples,
        planar=samples > 1 and found.flag("PlanarConfiguration"),
        photometric=photometric, frames=max(1, frames), bits_allocated=allocated, bits_stored=stored,
        high_bit=stored - 1 if floats else found.number("HighBit", default=stored - 1),
        signed=not floats and found.flag("PixelRepresentation"),
        slope=slope, intercept=intercept, modality_table=found.has("ModalityLUTSequence"),
        palette=_palette(found) if photometric == "PALETTE COLOR" else None,
        frame_offsets=found.frame_offsets(),
    )  # fmt: skip


def _start(file: BinaryIO) -> int:
    file.seek(MAGIC_AT)
    return MAGIC_AT + len(MAGIC) if file.read(len(MAGIC)) == MAGIC else 0


def _guessed_syntax(file: BinaryIO) -> str:
    """Detect implicit or explicit VR by the first element, for a file without meta information."""
    file.seek(0)
    head = file.read(8)
    group = int.from_bytes(head[:2], "little")
    if len(head) < 8 or not 0 < group <= 0x0028:
        raise BadInput(
            "the body is not a DICOM file: there is no DICM at byte 128, and it does not begin with a data element",
            code="image-invalid",
        )
    return EXPLICIT_LITTLE if head[4:6].isalpha() and head[4:6].isupper() else IMPLICIT_LITTLE


def _element_head(bounded: Bounded, found: Elements) -> tuple[str, str, int]:
    """Read tag, VR and length of the pixel data, where the walk has stopped."""
    at = bounded.tell()
    head = bounded.read(8)
    tag = 0
    if len(head) == 8:
        group, element, length = struct.unpack(f"{found.order}HHI", head)
        tag = group << 16 | element
    if tag not in _PIXEL_DATA:
        raise _no_pixels(bounded, found, at)
    if found.implicit:
        return _PIXEL_DATA[tag], "OW", length
    vr, rest = head[4:6], bounded.read(4)
    if vr not in _LONG_VRS or len(rest) < 4:
        raise refused(f"the head of {_PIXEL_DATA[tag]} at byte {at} is damaged")
    (length,) = struct.unpack(f"{found.order}I", rest)
    return _PIXEL_DATA[tag], vr.decode(), length


def _no_pixels(bounded: Bounded, found: Elements, at: int) -> BadInput:
    if at > bounded.size_bytes:
        return refused(
            f"a data element ends at byte {at} and the file at {bounded.size_bytes}; it is cut off or damaged"
        )
    if at < bounded.size_bytes:
        return refused(f"its data elements end at byte {at}, before any pixel data")
    if found.has("EncryptedAttributesSequence"):
        return refused("it is encrypted (EncryptedAttributesSequence, 0400,0500) and has no readable pixel data")
    if found.has("PixelDataProviderURL"):
        return refused("its pixels are elsewhere (PixelDataProviderURL, 0028,7FE0); send a file that holds them")
    return refused("it has no pixel data (7FE0,0010); a report, a plan or a directory is not an image")


def _photometric(found: Elements) -> str:
    known = {
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
        "YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "XYB",
    }  # fmt: skip
    name = found.text("PhotometricInterpretation")
    if name is None:
        raise refused("PhotometricInterpretation (0028,0004) is missing")
    if name not in known:
        raise refused("its PhotometricInterpretation (0028,0004) is not one that DICOM defines")
    return name


def _rescale(found: Elements, page: int) -> tuple[float, float]:
    """Return slope and intercept: the frame's own, those that all frames share, or those of the whole image."""
    per_frame = found.items("PerFrameFunctionalGroupsSequence")
    groups = [*per_frame[page : page + 1], *found.items("SharedFunctionalGroupsSequence")[:1]]
    for group in groups:
        for transformation in group.items("PixelValueTransformationSequence")[:1]:
            return transformation.decimal("RescaleSlope", 1.0), transformation.decimal("RescaleIntercept", 0.0)
    return found.decimal("RescaleSlope", 1.0), found.decimal("RescaleIntercept", 0.0)


def _palette(found: Elements) -> Palette:
    if found.has("SegmentedRedPaletteColorLookupTableData"):
        raise refused("its palette is segmented (0028,1221), which is not supported; save it with plain palettes")
    described = {found.palette_descriptor(f"{name}PaletteColorLookupTableDescriptor") for name in _PRIMARIES}
    if len(described) != 1:
        raise refused("the three palettes have different sizes")
    ((entries, first, entry_bits),) = described
    tables = tuple(found.raw(f"{name}PaletteColorLookupTableData") or b"" for name in _PRIMARIES)
    sizes = {len(table) for table in tables}
    if entry_bits not in (8, 16) or not sizes <= {entries, entries + entries % 2, 2 * entries}:
        raise refused(f"a palette of {entries} entries of {entry_bits} bits has {sorted(sizes)} bytes")
    return Palette(first, entries, entry_bits, (tables[0], tables[1], tables[2]))


_PRIMARIES = ("Red", "Green", "Blue")
