"""Kind `image.features`: statistics, slopes, sharpness and texture of an image that is cut into bands of whole rows.

The sharded answer equals the unsharded one bit for bit. Definitions, for each channel I(y, x) of height h and width w:

- values: every pixel. `sum`, `sum_of_squares`, `min`, `max`; `x_moment` = sum x I, `y_moment` = sum y I;
  `histogram` of 256 bins. The bin is the value, or its high byte if it has 16 bits; a signed type counts from its
  lowest value; for float32 the bins divide `low` to `high` evenly, or without them are the high byte of the value's
  order-preserving bits.
- slopes: only pixels with all eight neighbours (1 <= y <= h-2, 1 <= x <= w-2; `inner_pixels`), without padding.
  Sobel: gx = (I(y-1,x+1) + 2 I(y,x+1) + I(y+1,x+1)) - (the same at x-1), gy likewise downwards; `energy_x` = sum gx^2.
  Laplace: 4 I(y,x) - I(y-1,x) - I(y+1,x) - I(y,x-1) - I(y,x+1). Sharpness is its variance.
- texture, all channels together: `orientation` = sums of |gx| + |gy| for the eighths of the circle (bit 0: gx < 0,
  bit 1: gy < 0, bit 2: |gy| > |gx|); for each radius r = 1, 2, 3 `patterns` = histogram of local binary patterns
  (neighbour k of eight at distance r, clockwise from the upper left, sets bit k if it is not below the centre; pixels
  with r <= y < h-r, r <= x < w-r; `uniform` = share of patterns with at most two changes around the ring) and `pairs` =
  counts of (level of a pixel, level of the one at distance r) to the right, lower right, below and lower left, all
  pairs inside the image; a level is the highest four bits.

A figure without anything to count (an image of one row has no slopes) is null. NaN and infinite values of float32
images are counted, and left out of everything else.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import override

from regather.core.errors import BadInput, BadRequest, PermanentError, UserError
from regather.kinds.image import EXTRA
from regather.kinds.image.arriving import ArrivingPlan, ArrivingSplitter
from regather.kinds.image.formats import FORMATS, Choice, ImageFormat, format_named, format_of, not_an_image
from regather.kinds.image.image_file import ImageFileSplitter
from regather.kinds.image.limits import check_options_agree, check_size
from regather.processors.base import DATA_ERRORS, FileSplitter, Options, Processor, ShardView, SplitRequest, Splitter
from regather.processors.splitting.npy import MAGIC, npy_splitter, refuse_other_arrays
from regather.processors.splitting.rows import RowLayout, RowSplitter, raw_layout

HALO_ROWS = 3
_MAX_CHANNELS = 16
_INSPECT_BYTES = 64 * 1024
_ARRIVING_FROM_BYTES = 4 * 1024 * 1024
"""A smaller file is not cut while it arrives, because that would not be faster."""

_DTYPES = ("uint8", "uint16", "int8", "int16", "float32")
_NPY_TYPES = frozenset({"application/x-npy", "application/npy", "application/x-numpy"})
_MEDIA_TYPES = {
    "image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG", "image/tiff": "TIFF", "image/webp": "WebP",
    "image/jp2": "JPEG 2000", "image/jpx": "JPEG 2000", "image/j2c": "JPEG 2000",
}  # fmt: skip


class ImageOptions(Options):
    """A raw image needs its width; a file contains width, height, channels and dtype, and options must agree with it."""

    format: Literal["auto", "raw", "npy", "png", "jpeg", "webp", "tiff", "jpeg2000", "dicom"] = Field(
        default="auto", description="format of the image; auto: from content type and first bytes"
    )
    width: int | None = Field(default=None, ge=1, description="pixels in a row")
    height: int | None = Field(
        default=None, ge=1, description="number of rows; by default known when the body has ended"
    )
    channels: int = Field(default=3, ge=1, le=_MAX_CHANNELS, description="interleaved values of a pixel")
    page: int = Field(default=0, ge=0, description="which image of a TIFF file of several, or which DICOM frame")
    level: int = Field(default=0, ge=0, description="which reduced size of a TIFF pyramid; 0 is full size")
    dtype: Literal["uint8", "uint16", "int8", "int16", "float32"] = Field(
        default="uint8", description="type of a value, little-endian"
    )
    low: float | None = Field(
        default=None, allow_inf_nan=False, description="float32: lower end of the histogram's first bin; needs high"
    )
    high: float | None = Field(
        default=None, allow_inf_nan=False, description="float32: upper end of the histogram's last bin; needs low"
    )
    values: Literal["rescaled", "stored"] = Field(default="rescaled", description="which values of a DICOM file")

    @model_validator(mode="after")
    def _span_is_one(self) -> "ImageOptions":
        low, high = self.low, self.high
        if (low is None) != (high is None) or (low is not None and high is not None and low >= high):
            raise ValueError("low and high must be set together, and low must be below high")
        return self

    @property
    def span(self) -> tuple[float, float] | None:
        """The range of the histogram of a float32 image; None if the values' bits define it."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class ImageFeatures(Processor[ImageOptions]):
    """Statistics, slopes, sharpness and texture of an image; the module's docstring defines each figure."""

    options_model = ImageOptions
    certain = DATA_ERRORS
    extra = EXTRA

    @override
    def splitter(self, options: ImageOptions, request: SplitRequest) -> Splitter | FileSplitter:
        if request.plan:
            return ArrivingSplitter(ArrivingPlan.decode(request.plan), request, halo=HALO_ROWS)
        if options.format == "raw":
            return _raw(options, request)
        if options.format == "npy":
            return _npy(options, request)
        known = format_named(options.format)
        if known is None:
            return _by_looks(options, request)
        if request.head is not None and not known.matches(request.head) and known.option != "dicom":  # it may lack DICM
            raise BadInput(f"format is {options.format}, but the body does not begin like a {known.name} file")
        return _file(known, options, request)

    def inspect(self, head: bytes, options: ImageOptions, request: SplitRequest) -> bytes:
        """Return how to cut a DICOM file while it arrives; an empty plan if it must be complete first."""
        from regather.kinds.image.dicom_file import plan_arriving

        size_bytes = request.size_bytes
        plan = None if size_bytes is None else plan_arriving(head, size_bytes, _choice(options))
        if plan is None or size_bytes is None:
            return b""
        check_size(plan.layout, size_bytes, request.max_bytes)
        _agreement(options)(plan.layout)
        return plan.encode()

    @override
    def process(self, shard: ShardView, options: ImageOptions) -> bytes:
        from regather.kinds.image.band_output import band_output

        try:
            return band_output(shard.payload, shard.meta, options.span)
        except (ValueError, TypeError, KeyError) as error:
            raise PermanentError(f"shard {shard.seq} is not a band of an image: {error}") from error

    @override
    def merge(self, outputs: Sequence[bytes | None], options: ImageOptions) -> bytes:
        from regather.kinds.image.summary import summarise

        return summarise(outputs)


def _by_looks(options: ImageOptions, request: SplitRequest) -> Splitter | FileSplitter:
    """Return the splitter for the body's first bytes, or for its content type if the bytes do not decide."""
    head = request.head
    if head is None:
        return _unseen(options, request)
    media_type = request.content_type.split(";")[0].strip().lower()
    if head.startswith(MAGIC) or media_type in _NPY_TYPES:
        return _npy(options, request)
    known = format_of(head) or (format_named("dicom") if media_type == "application/dicom" else None)
    if known is not None:
        return _file(known, options, request)
    stranger = not_an_image(head)
    if stranger is not None:
        raise BadInput(
            f"the body is {stranger}, which is not supported; send {_names()}, NPY or raw pixels "
            "(format=raw if these are raw pixels that only look like one)"
        )
    refuse_other_arrays(head, way_out="format=raw if these are raw pixels that only look like one")
    if head and media_type in _MEDIA_TYPES:
        raise BadInput(
            f"the content type is {media_type}, but the body does not begin like a {_MEDIA_TYPES[media_type]} file "
            "(format=raw if these are raw pixels)"
        )
    return _raw(options, request)


def _unseen(options: ImageOptions, request: SplitRequest) -> Splitter | FileSplitter:
    """Return a splitter before any byte has arrived: for raw pixels if the options allow, otherwise for an NPY file.

    The body may still be a file with other dimensions, so no cut is refused yet.
    """
    if options.width is not None:
        with contextlib.suppress(UserError):
            return _raw(options, request)
    return npy_splitter(request, halo=HALO_ROWS)


def _names() -> str:
    return ", ".join(known.name for known in FORMATS)


def _file(known: ImageFormat, options: ImageOptions, request: SplitRequest) -> FileSplitter:
    large = request.size_bytes is not None and request.size_bytes >= _ARRIVING_FROM_BYTES
    return ImageFileSplitter(
        request,
        halo=HALO_ROWS,
        choice=_choice(options),
        known=known,
        check=_agreement(options),
        inspect_bytes=_INSPECT_BYTES if large and known.option == "dicom" else 0,
    )


def _choice(options: ImageOptions) -> Choice:
    return Choice(options.page, options.level, options.values)


def _npy(options: ImageOptions, request: SplitRequest) -> Splitter | FileSplitter:
    _refuse_choice(options, "an NPY file")
    return npy_splitter(request, halo=HALO_ROWS, check=_agreement(options))


def _refuse_choice(options: ImageOptions, what: str) -> None:
    if options.page or options.level:
        raise BadRequest(f"{what} has only one image: the options page and level are for files of several")


def _agreement(options: ImageOptions) -> Callable[[RowLayout], None]:
    """Return a check that a file's layout is one of an image, and agrees with the options that are set."""

    def check(layout: RowLayout) -> None:
        if layout.dtype not in _DTYPES or layout.channels > _MAX_CHANNELS:
            raise BadInput(
                f"the file has {layout.channels} channels of {layout.dtype}; "
                f"supported are 1 to {_MAX_CHANNELS} of {', '.join(_DTYPES)}"
            )
        check_options_agree(options, layout)
        _check_span(options, layout.dtype)

    return check


def _check_span(options: ImageOptions, dtype: str) -> None:
    if options.span is not None and dtype != "float32":
        raise BadRequest(
            f"low and high are for float32 values; these are {dtype}, and the histogram covers all of them"
        )


def _raw(options: ImageOptions, request: SplitRequest) -> Splitter:
    if options.width is None:
        raise BadRequest("a raw image needs the option 'width' (and channels and dtype, if they are not 3 and uint8)")
    _refuse_choice(options, "a raw body")
    _check_span(options, options.dtype)
    layout = RowLayout(options.width, options.channels, options.dtype, options.height)
    return RowSplitter(raw_layout(layout, request), request, halo=HALO_ROWS)
