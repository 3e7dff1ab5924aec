"""Cutting PNG and TIFF files into bands of rows, decoded strip by strip by libvips; runs in a killable child.

Palettes are resolved, bit depths below 8 become 8, an orientation that the file names is applied. libvips is imported
when a file is cut, not before: the parent of the children must stay free of its threads.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from regather.core.errors import BadInput
from regather.core.sharding import DEFAULT_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.inflate import MAX_RATIO
from regather.processors.splitting.rows import RowLayout, RowSplitter

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DTYPES = {"uchar": "uint8", "ushort": "uint16"}
_FREE_BYTES = 64 * 1024 * 1024  # an image of this size does no harm, however small its file
_STEP_BYTES = 1024 * 1024
_UPRIGHT = 1


class ImageFileSplitter:
    """Bands of whole rows with a halo, like RowSplitter's. `page` is for TIFF files of several.

    BadInput for what is no such image, is cut off, has another type of values, or is a bomb: more than 64 MiB and more
    than MAX_RATIO times its file.
    """

    def __init__(
        self, request: SplitRequest, *, halo: int, page: int = 0, check: Callable[[RowLayout], None] | None = None
    ) -> None:
        self._request = request
        self._halo = halo
        self._page = page
        self._check = check

    def cut(self, path: Path) -> Iterator[Piece]:
        """See FileSplitter."""
        import pyvips

        try:
            yield from self._cut(path)
        except pyvips.Error as error:
            raise BadInput(f"the image cannot be decoded: {_one_line(str(error))}", code="image-invalid") from error

    def _cut(self, path: Path) -> Iterator[Piece]:
        import pyvips

        image = self._open(path)
        layout = self._layout(image, path.stat().st_size)
        if self._check is not None:
            self._check(layout)
        request = SplitRequest(self._request.shard_size_bytes or DEFAULT_SHARD_BYTES)
        if self._request.shards is not None:
            request = SplitRequest(shards=self._request.shards)
        rows = RowSplitter(layout, request, halo=self._halo)
        region = pyvips.Region.new(image)
        step = max(1, _STEP_BYTES // layout.row_bytes)
        for first in range(0, image.height, step):
            yield from rows.feed(bytes(region.fetch(0, first, image.width, min(step, image.height - first))))
        yield from rows.finish()

    def _open(self, path: Path) -> Any:
        import pyvips

        pyvips.cache_set_max(0)
        with path.open("rb") as file:
            png = file.read(len(PNG_MAGIC)) == PNG_MAGIC
        if png:
            load, options = pyvips.Image.pngload, {}
        else:
            _check_tiff(path, self._page)
            load, options = pyvips.Image.tiffload, {"page": self._page}
        image = load(str(path), access="sequential", fail_on="truncated", **options)
        if _orientation(image) != _UPRIGHT:
            self._layout(image, path.stat().st_size)  # before a bomb is decoded as a whole
            image = load(str(path), access="random", fail_on="truncated", **options).autorot()
        return image

    def _layout(self, image: Any, file_bytes: int) -> RowLayout:
        dtype = _DTYPES.get(image.format)
        if dtype is None:
            raise BadInput(f"the image holds values of type {image.format}; 8 and 16 bits without sign are taken")
        layout = RowLayout(image.width, image.bands, dtype, image.height)
        size_bytes = layout.row_bytes * image.height
        if size_bytes > max(_FREE_BYTES, MAX_RATIO * file_bytes):
            raise BadInput(
                f"{image.width} x {image.height} x {image.bands} pixels out of {file_bytes} bytes are {size_bytes}, "
                f"above the limit of {MAX_RATIO} times; send them raw",
                code="inflates-too-much",
            )
        limit = self._request.max_bytes
        if limit is not None and size_bytes > limit:
            raise BadInput(f"the image has {size_bytes} bytes of pixels; at most {limit}", code="inflates-too-much")
        return layout


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
        raise BadInput(f"the image cannot be decoded: {_one_line(str(error))}", code="image-invalid") from error
    end = max((offset + count for offset, count in parts), default=0)
    if end > size_bytes:
        raise BadInput(
            f"the image cannot be decoded: its pixels end at byte {end} and the file at {size_bytes}; it is cut off",
            code="image-invalid",
        )


def _orientation(image: Any) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else _UPRIGHT


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()) or "no reason given"
