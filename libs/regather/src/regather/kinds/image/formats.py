"""Which file formats are images here: how each file begins, what `format=` calls it, and who opens it.

A format is one line of FORMATS. Its opener is named, not imported: the gateway reads this table and must not load the
decoders. NOT_IMAGES lists what people send by mistake; such a body is refused by its name and never taken for pixels.
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
    """Which image of a file is meant: `page` counts its images from 0, `level` its reduced sizes (0: full size).

    `values` is for DICOM: `rescaled` as the file says, or `stored`.
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
        """Whether a file that begins with `head` is of this format."""
        return re.match(self.begins, head, re.DOTALL) is not None

    def open(self, path: Path, choice: Choice) -> PixelSource:
        """Open a file of this format; BadInput if it is none, is damaged, or has no such page or level."""
        module, name = self.opener.split(":")
        opener = cast("Callable[[Path, Choice], PixelSource]", getattr(importlib.import_module(module), name))
        return opener(path, choice)


FORMATS = (
    ImageFormat("png", "PNG", rb"\x89PNG\r\n\x1a\n", "regather.kinds.image.vips_file:open_png"),
    ImageFormat("tiff", "TIFF", rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "regather.kinds.image.vips_file:open_tiff"),
    ImageFormat("dicom", "DICOM", rb".{128}DICM", "regather.kinds.image.dicom_file:open_choice"),
)
"""Every format that has a decoder."""


def format_of(head: bytes) -> ImageFormat | None:
    """Return the format of a file that begins with `head`; None if it is none of FORMATS."""
    return next((known for known in FORMATS if known.matches(head)), None)


def format_named(option: str) -> ImageFormat | None:
    """Return the format that the option `format` means; None if it means no file format."""
    return next((known for known in FORMATS if known.option == option), None)
