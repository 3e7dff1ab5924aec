"""PNG and TIFF files, decoded strip by strip by libvips; runs in a killable child.

Palettes are resolved, bit depths below 8 become 8, an orientation that the file names is applied. libvips is imported
when a file is opened, not before: the parent of the children must stay free of its threads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from regather.core.errors import BadInput
from regather.kinds.image.formats import Choice
from regather.processors.splitting.rows import RowLayout

_DTYPES = {"uchar": "uint8", "ushort": "uint16"}
_UPRIGHT = 1


def open_png(path: Path, choice: Choice) -> "VipsSource":
    """Open a PNG file."""
    import pyvips

    return VipsSource(lambda access: pyvips.Image.pngload(str(path), access=access, fail_on="truncated"))


def open_tiff(path: Path, choice: Choice) -> "VipsSource":
    """Open one page of a TIFF file."""
    import pyvips

    _check_tiff(path, choice.page)
    return VipsSource(
        lambda access: pyvips.Image.tiffload(str(path), page=choice.page, access=access, fail_on="truncated")
    )


class VipsSource:
    """A PixelSource over a libvips loader, which `load` starts with the access that it is told."""

    def __init__(self, load: Callable[[str], Any]) -> None:
        import pyvips

        pyvips.cache_set_max(0)
        self._load = load
        self._region: Any = None
        try:
            self._image = load("sequential")
            turned = self._image.autorot() if _orientation(self._image) != _UPRIGHT else self._image
        except pyvips.Error as error:
            raise _refusal(error) from error
        dtype = _DTYPES.get(turned.format)
        if dtype is None:
            raise BadInput(f"the image holds values of type {turned.format}; 8 and 16 bits without sign are taken")
        self._layout = RowLayout(turned.width, turned.bands, dtype, turned.height)

    @property
    def layout(self) -> RowLayout:
        """See PixelSource."""
        return self._layout

    def rows(self, first: int, count: int) -> bytes:
        """See PixelSource."""
        import pyvips

        try:
            if self._region is None:
                self._region = pyvips.Region.new(self._upright())
            return bytes(self._region.fetch(0, first, self._layout.width, count))
        except pyvips.Error as error:
            raise _refusal(error) from error

    def close(self) -> None:
        """See PixelSource."""
        self._region = self._image = None

    def _upright(self) -> Any:
        """Return the image as it is meant to be seen; a turned one is decoded as a whole."""
        if _orientation(self._image) == _UPRIGHT:
            return self._image
        return self._load("random").autorot()


def _check_tiff(path: Path, page: int) -> None:
    """Refuse a file that ends before its strips do: libtiff would read zeros for what is missing, and only warn."""
    import tifffile

    size_bytes = path.stat().st_size
    try:
        with tifffile.TiffFile(path) as file:
            pages = len(file.pages)
            if page >= pages:
                raise BadInput(f"there is no page {page}; the file has {pages}, counted from 0", code="image-invalid")
            parts = list(zip(file.pages[page].dataoffsets, file.pages[page].databytecounts, strict=True))
    except BadInput:
        raise
    except Exception as error:  # the library raises whatever a damaged file makes it stumble over
        raise _refusal(error) from error
    end = max((offset + count for offset, count in parts), default=0)
    if end > size_bytes:
        raise BadInput(
            f"the image cannot be decoded: its pixels end at byte {end} and the file at {size_bytes}; it is cut off",
            code="image-invalid",
        )


def _orientation(image: Any) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else _UPRIGHT


def _refusal(error: Exception) -> BadInput:
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or "no reason given"
    return BadInput(f"the image cannot be decoded: {text}", code="image-invalid")
