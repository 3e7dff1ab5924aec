"""The interface between decoders of image files and splitters."""

from typing import Protocol

from regather.processors.splitting.rows import RowLayout


class PixelSource(Protocol):
    """One image that is decoded while it is read, from its first row to its last."""

    @property
    def layout(self) -> RowLayout:
        """Width, channels, type of a value and height; known before any pixel is decoded."""

    def rows(self, first: int, count: int) -> bytes:
        """Return rows `first` to `first + count - 1` (row-major, channels interleaved, little-endian).

        Called once for each row, in ascending order. BadInput says what cannot be decoded.
        """

    def close(self) -> None:
        """Close the file."""
