"""Kind `image.features`: statistics, slopes, sharpness and texture of an image that is cut into bands of whole rows.

The sharded answer equals the unsharded one bit for bit. Definitions, for each channel I(y, x) of height h and width w:

- values: every pixel. `sum`, `sum_of_squares`, `min`, `max`; `x_moment` = sum x I, `y_moment` = sum y I;
  `histogram` of 256 bins (the value, or its high byte if it has 16 bits).
- slopes: only pixels with all eight neighbours (1 <= y <= h-2, 1 <= x <= w-2; `inner_pixels`), nothing is padded.
  Sobel: gx = (I(y-1,x+1) + 2 I(y,x+1) + I(y+1,x+1)) - (the same at x-1), gy likewise downwards; `energy_x` = sum gx^2.
  Laplace: 4 I(y,x) - I(y-1,x) - I(y+1,x) - I(y,x-1) - I(y,x+1). Sharpness is its variance.
- texture, all channels together: `orientation` = sums of |gx| + |gy| for the eighths of the circle (bit 0: gx < 0,
  bit 1: gy < 0, bit 2: |gy| > |gx|); for each radius r = 1, 2, 3 `patterns` = histogram of local binary patterns
  (neighbour k of eight at distance r, clockwise from the upper left, sets bit k if it is not below the centre; pixels
  with r <= y < h-r, r <= x < w-r; `uniform` = share of patterns with at most two changes around the ring) and `pairs` =
  counts of (level of a pixel, level of the one at distance r) to the right, lower right, below and lower left, all
  pairs inside the image; a level is the highest four bits.

A figure that has nothing to count (an image of one row has no slopes) is null.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.image import EXTRA
from regather.kinds.image.image_file import PNG_MAGIC, TIFF_MAGICS, ImageFileSplitter
from regather.processors.base import DATA_ERRORS, FileSplitter, Options, Processor, ShardView, SplitRequest, Splitter
from regather.processors.splitting.npy import MAGIC, npy_splitter, refuse_other_arrays
from regather.processors.splitting.rows import Band, RowLayout, RowSplitter, raw_layout

HALO_ROWS = 3
_MAX_CHANNELS = 4
_DTYPES = ("uint8", "uint16")
_NPY_TYPES = frozenset({"application/x-npy", "application/npy", "application/x-numpy"})
_FILE_FORMATS = {b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"RIFF": "WebP"}


class ImageOptions(Options):
    """A raw image needs its width; an NPY file says all that itself, and what is given here must agree with it."""

    format: Literal["auto", "raw", "npy", "png", "tiff"] = Field(
        default="auto", description="auto looks at content type and first bytes"
    )
    width: int | None = Field(default=None, ge=1, description="pixels in a row")
    height: int | None = Field(default=None, ge=1, description="rows; else known when the body has ended")
    channels: int = Field(default=3, ge=1, le=_MAX_CHANNELS, description="interleaved values of a pixel")
    page: int = Field(default=0, ge=0, description="which image of a TIFF file of several")
    dtype: Literal["uint8", "uint16"] = Field(default="uint8", description="type of a value, little-endian")


class ImageFeatures(Processor[ImageOptions]):
    """Statistics, slopes, sharpness and texture of an image; the module defines each figure."""

    options_model = ImageOptions
    certain = DATA_ERRORS
    extra = EXTRA

    def splitter(self, options: ImageOptions, request: SplitRequest) -> Splitter | FileSplitter:
        """See Processor."""
        media_type = request.content_type.split(";")[0].strip().lower()
        head = request.head or b"" if options.format == "auto" else b""
        if options.format == "npy" or head.startswith(MAGIC) or (options.format == "auto" and media_type in _NPY_TYPES):
            return _npy(options, request)
        if options.format in ("png", "tiff") or head.startswith((PNG_MAGIC, *TIFF_MAGICS)):
            return ImageFileSplitter(request, halo=HALO_ROWS, page=options.page, check=_agreement(options))
        refuse_other_arrays(head)
        for magic, name in _FILE_FORMATS.items():
            if head.startswith(magic):
                raise BadInput(
                    f"the body is a {name} file, which is not taken; send PNG, TIFF, NPY or raw pixels "
                    "(format=raw if these are raw pixels that only look like one)"
                )
        if options.format == "auto" and request.head is None and options.width is None:
            return npy_splitter(request, halo=HALO_ROWS)  # it may be one; the body's first bytes will tell
        return _raw(options, request)

    def process(self, shard: ShardView, options: ImageOptions) -> bytes:
        """See Processor."""
        from regather.kinds.image.bands import count_band

        try:
            return count_band(shard.payload, Band.decode(shard.meta)).encode()
        except (ValueError, TypeError, KeyError) as error:
            raise PermanentError(f"shard {shard.seq} is no band of an image: {error}") from error

    def merge(self, outputs: Sequence[bytes | None], options: ImageOptions) -> bytes:
        """See Processor."""
        from regather.kinds.image.summary import summarise

        return summarise(outputs)


def _npy(options: ImageOptions, request: SplitRequest) -> Splitter | FileSplitter:
    return npy_splitter(request, halo=HALO_ROWS, check=_agreement(options))


def _agreement(options: ImageOptions) -> Callable[[RowLayout], None]:
    """Return the check that a file's own layout is one of an image, and is what the options say, where they do."""

    def check(layout: RowLayout) -> None:
        if layout.dtype not in _DTYPES or layout.channels > _MAX_CHANNELS:
            raise BadInput(
                f"the file holds {layout.channels} channels of {layout.dtype}; "
                f"an image has 1 to {_MAX_CHANNELS} of {' or '.join(_DTYPES)}"
            )
        for name in options.model_fields_set & {"width", "height", "channels", "dtype"}:
            asked, found = getattr(options, name), getattr(layout, name)
            if asked is not None and asked != found:
                raise BadInput(f"option {name} is {asked}, but the file says {found}")

    return check


def _raw(options: ImageOptions, request: SplitRequest) -> Splitter:
    if options.width is None:
        raise BadRequest("a raw image needs the option 'width' (and channels and dtype, if they are not 3 and uint8)")
    layout = RowLayout(options.width, options.channels, options.dtype, options.height)
    return RowSplitter(raw_layout(layout, request), request, halo=HALO_ROWS)
