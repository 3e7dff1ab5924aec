"""The supported image formats: how a file begins, its name in the option `format`, and the function that opens it.

Each format is one line of FORMATS. Its opener is named, not imported, because the gateway reads this table and must not
load the decoders. NOT_IMAGES lists what people send by mistake; such a body is refused by name and never treated as
pixels.
"""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from regather.kinds.image.pixel_source import PixelSource


@dataclass(frozen=True, slots=True)
class Choice:
    """Selects an image of a file: `page` counts its images from 0, `level` its reduced sizes (0: full size).

    `values` is for DICOM: `rescaled` as the file defines, or `stored`.
    """

    page: int = 0
    level: int = 0
    values: Literal["rescaled", "stored"] = "rescaled"


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """One file format. `begins` is a regular expression for its first HEAD_BYTES bytes, `opener` "module:function"."""

    option: str
    name: str
    begins: bytes
    opener: str

    def matches(self, head: bytes) -> bool:
        """Whether a file that begins with `head` has this format."""
        return re.match(self.begins, head, re.DOTALL) is not None

    def open(self, path: Path, choice: Choice) -> PixelSource:
        """Open a file of this format; BadInput if it has another format, is damaged, or lacks that page or level."""
        module, name = self.opener.split(":")
        opener = cast("Callable[[Path, Choice], PixelSource]", getattr(importlib.import_module(module), name))
        return opener(path, choice)


FORMATS = (
    ImageFormat("png", "PNG", rb"\x89PNG\r\n\x1a\n", "regather.kinds.image.vips_file:open_png"),
    ImageFormat("jpeg", "JPEG", rb"\xff\xd8\xff", "regather.kinds.image.vips_file:open_jpeg"),
    ImageFormat("webp", "WebP", rb"RIFF.{4}WEBP", "regather.kinds.image.vips_file:open_webp"),
    ImageFormat("tiff", "TIFF", rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "regather.kinds.image.tiff_file:open_tiff"),
    ImageFormat(
        "jpeg2000",
        "JPEG 2000",
        rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
        "regather.kinds.image.jpeg2000_file:open_jpeg2000",
    ),
    ImageFormat("dicom", "DICOM", rb".{128}DICM", "regather.kinds.image.dicom_file:open_choice"),
)
"""Every format that has a decoder."""


def format_of(head: bytes) -> ImageFormat | None:
    """Return the format of a file that begins with `head`; None if it is none of FORMATS."""
    return next((known for known in FORMATS if known.matches(head)), None)


def format_named(option: str) -> ImageFormat | None:
    """Return the format that the option `format` names; None if it names no file format."""
    return next((known for known in FORMATS if known.option == option), None)


NOT_IMAGES = (
    ("a GIF file", rb"GIF8[79]a"),
    ("a HEIC or AVIF file", rb".{4}ftyp(heic|heix|hevc|hevx|mif1|msf1|avif|avis)"),
    ("an MP4 or QuickTime file", rb".{4}(ftyp|moov|mdat|wide|free|skip)"),
    ("a Matroska or WebM file", rb"\x1a\x45\xdf\xa3"),
    ("an AVI or WAV file", rb"RIFF.{4}(AVI |WAVE)"),
    ("a YUV4MPEG2 (y4m) file", rb"YUV4MPEG2 "),
    ("a ZIP archive (an NPZ, an office document?)", rb"PK(\x03\x04|\x05\x06|\x07\x08)"),
    ("a PDF document", rb"%PDF-"),
    ("a PostScript document", rb"%!PS-"),
    ("a BMP file", rb"BM.{4}\0{4}.{2}\0\0[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}"),
    ("a Photoshop document", rb"8BPS\0[\x01\x02]"),
    ("a JPEG XL file", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("a JPEG XR file", rb"II\xbc\x01"),
    ("an OpenEXR file", rb"\x76\x2f\x31\x01"),
    ("a FITS file", rb"SIMPLE  ="),
    ("an HDF5 file", rb"\x89HDF\r\n\x1a\n"),
    ("a Parquet file", rb"PAR1"),
    ("a netpbm file", rb"P[1-7][ \t\r\n][\d#W]"),
    ("an SVG or XML document", rb"<\?xml|<svg"),
    ("a gzip file", rb"\x1f\x8b\x08"),
    ("a Zstandard file", rb"\x28\xb5\x2f\xfd"),
    ("an xz file", rb"\xfd7zXZ\0"),
    ("a bzip2 file", rb"BZh[1-9]1AY&SY"),
    ("a 7z archive", rb"7z\xbc\xaf\x27\x1c"),
)
"""Files that people send although there is no image decoder for them, each with how it begins."""


def not_an_image(head: bytes) -> str | None:
    """Return the name of a body that begins with `head` if it is one of NOT_IMAGES and none of FORMATS; else None."""
    if format_of(head) is not None:
        return None
    return next((name for name, begins in NOT_IMAGES if re.match(begins, head, re.DOTALL)), None)
