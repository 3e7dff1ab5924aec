"""Where an image's pixels come from: what a decoder of files gives to the splitters."""

from typing import Protocol

from regather.processors.splitting.rows import RowLayout


class PixelSource(Protocol):
    """One image that is decoded as it is read, from its first row to its last one."""

    @property
    def layout(self) -> RowLayout:
        """Width, channels, type of a value and height; known before any pixel is decoded."""

    def rows(self, first: int, count: int) -> bytes:
        """Return rows `first` to `first + count - 1` (row-major, channels interleaved, little-endian).

        Asked once for each row, in ascending order. BadInput names what of the file cannot be decoded.
        """

    def close(self) -> None:
        """Let go of the file."""
