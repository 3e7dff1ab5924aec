"""JPEG, PNG and WebP files, decoded row by row by libvips; runs in a killable child.

Palettes are resolved, bit depths below 8 become 8, and an orientation in the file is undone. Every warning of a decoder
is fatal. libvips keeps messages in one buffer for the whole process, where a message about one client's file could
reach another client. So the buffer is cleared before and after each use, and no refusal quotes it. libvips is imported
when a file is opened and not before, because the children's parent process must not have its threads.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from regather.core.errors import BadInput
from regather.kinds.image.formats import Choice
from regather.kinds.image.jpeg_stream import check_jpeg_file
from regather.kinds.image.png_chunks import check_png_file
from regather.kinds.image.refusals import damaged, unsupported
from regather.processors.splitting.rows import RowLayout

_DTYPES = {"uchar": "uint8", "ushort": "uint16"}
_UPRIGHT = 1


def open_png(path: Path, choice: Choice) -> "VipsSource":
    """Open a PNG file; BadInput if it is damaged or not supported."""
    import pyvips

    _refuse_choice("PNG", choice)
    check_png_file(path)
    return VipsSource("PNG", lambda access: pyvips.Image.pngload(str(path), access=access, fail_on="warning"))


def open_jpeg(path: Path, choice: Choice) -> "VipsSource":
    """Open a JPEG file; BadInput if it is damaged or not supported."""
    import pyvips

    _refuse_choice("JPEG", choice)
    check_jpeg_file(path)
    return VipsSource("JPEG", lambda access: pyvips.Image.jpegload(str(path), access=access, fail_on="warning"))


def open_webp(path: Path, choice: Choice) -> "VipsSource":
    """Open a WebP file; BadInput if it is damaged or not supported."""
    import pyvips

    _refuse_choice("WebP", choice)
    _check_riff(path)
    return VipsSource("WebP", lambda access: pyvips.Image.webpload(str(path), access=access, fail_on="warning"))


class VipsSource:
    """A PixelSource over a libvips loader; `load` starts the loader with the given access."""

    def __init__(self, name: str, load: Callable[[str], Any]) -> None:
        import pyvips

        pyvips.cache_set_max(0)
        self._name = name
        self._load = load
        self._region: Any = None
        with self._own_words("its header is damaged or cut off"):
            self._image = load("sequential")
            if self._image.get_typeof("n-pages") and self._image.get("n-pages") > 1:
                raise unsupported(name, f"{self._image.get('n-pages')} pictures (an animation)", "send one of them")
            turned = self._image.autorot() if _orientation(self._image) != _UPRIGHT else self._image
            self._layout = self._checked(turned)

    @property
    def layout(self) -> RowLayout:
        """Layout of the upright image."""
        return self._layout

    def rows(self, first: int, count: int) -> bytes:
        """Return rows of the upright image."""
        import pyvips

        with self._own_words(f"it is damaged or cut off near the rows {first} to {first + count - 1}"):
            if self._region is None:
                self._region = pyvips.Region.new(self._upright())
            return bytes(self._region.fetch(0, first, self._layout.width, count))

    def close(self) -> None:
        """Release the image."""
        self._region = self._image = None

    def _checked(self, image: Any) -> RowLayout:
        dtype = _DTYPES.get(image.format)
        if dtype is None:
            raise unsupported(self._name, f"values of type {image.format}", "save it with 8 or 16 bits")
        if image.interpretation == "cmyk":
            raise unsupported(self._name, "four channels of ink (CMYK)", "convert it to RGB")
        return RowLayout(image.width, image.bands, dtype, image.height)

    def _upright(self) -> Any:
        """Return the image upright; a turned one is decoded as a whole."""
        if _orientation(self._image) == _UPRIGHT:
            return self._image
        return self._load("sequential").copy_memory().autorot()  # in memory; libvips would use a file for a large image

    @contextlib.contextmanager
    def _own_words(self, what: str) -> Iterator[None]:
        """Refuse the file because of `what` if libvips fails; the message of libvips is dropped."""
        import pyvips

        pyvips.vips_lib.vips_error_clear()
        try:
            yield
        except pyvips.Error as error:
            if "out of memory" in str(error):
                raise MemoryError("libvips") from None
            raise damaged(self._name, what) from None
        finally:
            pyvips.vips_lib.vips_error_clear()


def _refuse_choice(name: str, choice: Choice) -> None:
    if choice.page:
        raise BadInput(f"there is no page {choice.page}; a {name} file has only page 0", code="image-invalid")
    if choice.level:
        raise BadInput(f"there is no level {choice.level}; a {name} file has only its full size", code="image-invalid")


def _check_riff(path: Path) -> None:
    """Refuse a WebP file that is shorter than its header states; the decoder would accept a part of its last picture."""
    with path.open("rb") as file:
        head = file.read(8)
    said, found = int.from_bytes(head[4:8], "little") + 8, path.stat().st_size
    if found < said:
        raise damaged("WebP", f"its header states {said} bytes, but it ends at byte {found}; it is cut off")


def _orientation(image: Any) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else _UPRIGHT
