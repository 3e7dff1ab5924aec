"""Memory layouts of frames: the pixel formats of raw files and y4m, and which of their values are analysed. Pure.

Names are FFmpeg's. YUV formats are planar with Y first, so the luma of a frame is one run of bytes at its beginning;
the chroma after it is skipped. Values of more than 8 bits are 16-bit words, little-endian.
"""

from dataclasses import dataclass

YUV_NAMES = ("yuv420p", "yuv422p", "yuv444p", "yuv411p")


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """One format. `chroma` describes both chroma planes as (planes, columns per sample, rows per sample)."""

    name: str
    bits: int
    channels: int = 1
    chroma: tuple[int, int, int] | None = None
    alpha: bool = False

    @property
    def item_bytes(self) -> int:
        """Size of one value in bytes."""
        return 1 if self.bits <= 8 else 2

    @property
    def dtype(self) -> str:
        """Type of one value."""
        return "uint8" if self.bits <= 8 else "uint16"

    @property
    def is_yuv(self) -> bool:
        """Whether luma and chroma are separate."""
        return self.chroma is not None

    def analysed_values(self, width: int, height: int) -> int:
        """Return how many values of a frame are analysed; they are its first ones."""
        return width * height * self.channels

    def frame_bytes(self, width: int, height: int) -> int:
        """Return the size of a whole frame. Odd sides of chroma are rounded up."""
        values = self.analysed_values(width, height)
        if self.chroma is not None:
            planes, columns, rows = self.chroma
            values += planes * -(-width // columns) * -(-height // rows)
        if self.alpha:
            values += width * height
        return values * self.item_bytes


def _yuv() -> list[PixelFormat]:
    samplings = {"yuv420p": (2, 2, 2), "yuv422p": (2, 2, 1), "yuv444p": (2, 1, 1)}
    deep = [
        PixelFormat(f"{name}{bits}le", bits, chroma=chroma)
        for name, chroma in samplings.items()
        for bits in (9, 10, 12, 14, 16)
    ]
    plain = [PixelFormat(name, 8, chroma=chroma) for name, chroma in samplings.items()]
    full = [PixelFormat(name.replace("yuv", "yuvj"), 8, chroma=chroma) for name, chroma in samplings.items()]
    odd = [PixelFormat("yuv411p", 8, chroma=(2, 4, 1)), PixelFormat("yuva444p", 8, chroma=(2, 1, 1), alpha=True)]
    return [*plain, *full, *odd, PixelFormat("nv12", 8, chroma=(2, 2, 2)), *deep]


_GREY = [PixelFormat("gray", 8)] + [PixelFormat(f"gray{bits}le", bits) for bits in (9, 10, 12, 14, 16)]
_COLOUR = [
    *(PixelFormat(name, 8, channels=3) for name in ("rgb24", "bgr24")),
    *(PixelFormat(name, 8, channels=4) for name in ("rgba", "bgra")),
    *(PixelFormat(name, 16, channels=3) for name in ("rgb48le", "bgr48le")),
    *(PixelFormat(name, 16, channels=4) for name in ("rgba64le", "bgra64le")),
]

FORMATS = {format_.name: format_ for format_ in (*_GREY, *_COLOUR, *_yuv())}
"""Every format that a raw file can have."""


def of_channels(channels: int) -> PixelFormat:
    """Return the format of interleaved 8-bit values that have no name."""
    return PixelFormat(f"{channels} x uint8", 8, channels=channels)
