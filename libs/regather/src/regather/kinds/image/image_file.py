"""Cuts image files into bands of rows while a decoder reads them; runs in a killable child.

`open_image` chooses the decoder by the file's first bytes (formats.py); the splitter uses only PixelSource. The
decoders are imported when a file is cut and not before, because the children's parent process must not have their
threads.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from regather.core.errors import BadInput
from regather.kinds.image.arriving import without_length
from regather.kinds.image.formats import Choice, ImageFormat, format_of
from regather.kinds.image.limits import check_size
from regather.kinds.image.pixel_source import PixelSource
from regather.processors.base import HEAD_BYTES, Piece, SplitRequest
from regather.processors.splitting.rows import RowLayout, RowSplitter

_STEP_BYTES = 1024 * 1024


def open_image(path: Path, choice: Choice | None = None, *, known: ImageFormat | None = None) -> PixelSource:
    """Open an image file with the format that its first bytes show, or with the `known` format.

    No pixel is decoded yet, so that the caller can check the layout first. BadInput for a file of unknown format, one
    with a damaged header, or one without that page or level.
    """
    if known is None:
        with path.open("rb") as file:
            known = format_of(file.read(HEAD_BYTES))
    if known is None:
        raise BadInput("the image file has an unknown format", code="image-invalid")
    return known.open(path, choice or Choice())


class ImageFileSplitter:
    """Cuts an image file into bands of whole rows with a halo, like RowSplitter. `choice` is for files of several images.

    `check` gets the layout before any pixel is decoded. BadInput if the file is not such an image, is cut off, has an
    unsupported type of values, or is a bomb: more than 64 MiB and more than MAX_RATIO times the file's size.
    """

    def __init__(
        self,
        request: SplitRequest,
        *,
        halo: int,
        choice: Choice | None = None,
        known: ImageFormat | None = None,
        check: Callable[[RowLayout], None] | None = None,
        inspect_bytes: int = 0,
    ) -> None:
        self.inspect_bytes = inspect_bytes
        """As in ArrivingFileSplitter."""
        self._request = request
        self._halo = halo
        self._choice = choice
        self._known = known
        self._check = check

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the bands while the file is decoded."""
        with contextlib.closing(open_image(path, self._choice, known=self._known)) as source:
            layout = source.layout
            check_size(layout, path.stat().st_size, self._request.max_bytes)
            if self._check is not None:
                self._check(layout)
            yield from cut_rows(source, RowSplitter(layout, without_length(self._request), halo=self._halo))


def cut_rows(source: PixelSource, splitter: RowSplitter) -> Iterator[Piece]:
    """Yield what `splitter` makes of all rows of `source`; holds about a megabyte of them at a time."""
    height = source.layout.height or 0
    step = max(1, _STEP_BYTES // source.layout.row_bytes)
    for first in range(0, height, step):
        yield from splitter.feed(source.rows(first, min(step, height - first)))
    yield from splitter.finish()
