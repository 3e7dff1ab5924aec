"""Data elements of a DICOM file: which ones are read, and how their bytes become numbers.

pydicom walks the elements and skips, unread, every element that is not in TAGS. So nothing about a patient gets into
this process's memory or into an error. For the same reason this module takes values from the raw bytes and passes no
message of pydicom on: pydicom's own values and messages quote the file.
"""

import logging
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from regather.core.errors import BadInput
from regather.kinds.image.refusals import damaged

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
TAGS = {
    "SamplesPerPixel": 0x00280002, "PhotometricInterpretation": 0x00280004, "PlanarConfiguration": 0x00280006,
    "NumberOfFrames": 0x00280008, "Rows": 0x00280010, "Columns": 0x00280011, "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101, "HighBit": 0x00280102, "PixelRepresentation": 0x00280103,
    "RescaleIntercept": 0x00281052, "RescaleSlope": 0x00281053, "ModalityLUTSequence": 0x00283000,
    "EncryptedAttributesSequence": 0x04000500, "PixelDataProviderURL": 0x00287FE0,
    "SharedFunctionalGroupsSequence": 0x52009229, "PerFrameFunctionalGroupsSequence": 0x52009230,
    "PixelValueTransformationSequence": 0x00289145, "TransferSyntaxUID": 0x00020010,
    "ExtendedOffsetTable": 0x7FE00001, "ExtendedOffsetTableLengths": 0x7FE00002,
    "RedPaletteColorLookupTableDescriptor": 0x00281101, "GreenPaletteColorLookupTableDescriptor": 0x00281102,
    "BluePaletteColorLookupTableDescriptor": 0x00281103, "RedPaletteColorLookupTableData": 0x00281201,
    "GreenPaletteColorLookupTableData": 0x00281202, "BluePaletteColorLookupTableData": 0x00281203,
    "SegmentedRedPaletteColorLookupTableData": 0x00281221,
}  # fmt: skip
_MAX_TEXT_BYTES = 64


def refused(why: str) -> BadInput:
    """Return the refusal of a DICOM file because of `why`."""
    return damaged("DICOM", why)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress pydicom's warnings and log lines, which quote values of the file."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def read_elements(bounded: "Bounded", syntax: str, stop: Callable[..., bool]) -> Any:
    """Walk the data elements from the current position until `stop`; BadInput if they are damaged."""
    from pydicom.filereader import read_dataset
    from pydicom.tag import BaseTag

    wanted: list[BaseTag | int] = [BaseTag(tag) for tag in TAGS.values()]
    source: Any = bounded  # it has all methods of a file that the walk uses
    try:
        return read_dataset(
            source,
            is_implicit_VR=syntax == IMPLICIT_LITTLE,
            is_little_endian=syntax != EXPLICIT_BIG,
            stop_when=stop,
            specific_tags=wanted,
        )
    except (Exception, RecursionError):  # pydicom raises all kinds of exceptions for a damaged file
        raise refused(f"its data elements are damaged near byte {bounded.tell()}") from None


class Elements:
    """The raw values of one data set, by keyword. BadInput names the tag, never the value."""

    def __init__(self, elements: Any, *, big_endian: bool) -> None:
        self._elements = elements
        self.order = ">" if big_endian else "<"
        # Copy all bytes now: when pydicom reads a sequence, it replaces some of them by numbers.
        self._raw = {name: _raw(elements, name) for name, tag in TAGS.items() if tag in elements}
        rows = elements.get_item(TAGS["Rows"]) if self.has("Rows") else None
        self.implicit = bool(getattr(rows, "is_implicit_VR", False))
        """Whether the elements have no VRs, as found in the file; its transfer syntax may be wrong about it."""

    def has(self, name: str) -> bool:
        """Whether the element exists."""
        return name in self._raw

    def raw(self, name: str) -> bytes | None:
        """Return the bytes of an element; None if it is missing or empty."""
        return self._raw.get(name) or None

    def number(self, name: str, default: int | None = None) -> int:
        """Return a whole number of two or four bytes."""
        value = self.raw(name)
        if value is None:
            if default is None:
                raise refused(f"{_spoken(name)} is missing")
            return default
        if len(value) not in (2, 4):
            raise refused(f"{_spoken(name)} has {len(value)} bytes; a whole number has 2 or 4")
        return int(struct.unpack(self.order + ("H" if len(value) == 2 else "I"), value)[0])

    def flag(self, name: str) -> bool:
        """Return a whole number that is 0 or 1."""
        number = self.number(name)
        if number not in (0, 1):
            raise refused(f"{_spoken(name)} is {number}; it must be 0 or 1")
        return number == 1

    def text(self, name: str) -> str | None:
        """Return a short text without its padding; None if it is missing or empty."""
        value = self.raw(name)
        if value is None:
            return None
        if len(value) > _MAX_TEXT_BYTES:
            raise refused(f"{_spoken(name)} has {len(value)} bytes; at most {_MAX_TEXT_BYTES} are allowed")
        return value.decode("latin-1").strip(" \0") or None

    def whole_number(self, name: str, default: int) -> int:
        """Return a whole number that is written as text."""
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"\+?[0-9]{1,9}", text):
            raise refused(f"{_spoken(name)} is not a whole number")
        return int(text)

    def decimal(self, name: str, default: float) -> float:
        """Return a decimal number that is written as text."""
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", text):
            raise refused(f"{_spoken(name)} is not a decimal number")
        return float(text)

    def palette_descriptor(self, name: str) -> tuple[int, int, int]:
        """Return entries, first mapped value and bits of an entry. In the file, 0 entries mean 65,536."""
        value = self.raw(name)
        if value is None or len(value) != 6:
            raise refused(f"{_spoken(name)} is missing or does not have three numbers")
        entries, first, bits = struct.unpack(f"{self.order}HHH", value)
        if self.number("PixelRepresentation", 0) == 1:
            first = first - 65536 if first >= 32768 else first
        return entries or 65536, first, bits

    def items(self, name: str) -> list["Elements"]:
        """Return the data sets of a sequence; an empty list if it is missing."""
        if not self.has(name):
            return []
        try:
            items = list(self._elements[TAGS[name]].value)
        except (Exception, RecursionError):
            raise refused(f"{_spoken(name)} is damaged") from None
        return [Elements(item, big_endian=self.order == ">") for item in items]

    def frame_offsets(self) -> tuple[bytes, bytes] | None:
        """Return the extended offset table and its lengths, if the file has both."""
        offsets, lengths = self.raw("ExtendedOffsetTable"), self.raw("ExtendedOffsetTableLengths")
        return (offsets, lengths) if offsets and lengths else None


def _raw(elements: Any, name: str) -> bytes:
    """Return the bytes of an existing element; empty for a sequence."""
    try:
        value = elements.get_item(TAGS[name]).value
    except Exception:  # pydicom fails to convert an element whose length and value disagree
        raise refused(f"{_spoken(name)} is damaged") from None
    return value if isinstance(value, bytes) else b""


def _spoken(name: str) -> str:
    return f"{name} ({TAGS[name] >> 16:04X},{TAGS[name] & 0xFFFF:04X})"


class Bounded:
    """A file that is never asked for more bytes than it has, so that a false length cannot cause a large allocation."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        at = file.tell()
        self.size_bytes = file.seek(0, os.SEEK_END)
        file.seek(at)

    def read(self, size: int = -1) -> bytes:
        """Read this many bytes, or the rest if there are fewer."""
        left = max(0, self.size_bytes - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte, which may be past the file's end."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position of the byte that is read next."""
        return self._file.tell()
