"""Options of both kinds, and the choice of a body's splitter by its first bytes."""

from typing import Literal

from pydantic import Field

from regather.core.errors import BadInput, BadRequest
from regather.kinds.video import y4m
from regather.kinds.video.frame_shards import Clock, FrameLayout, needs_stripes, with_usual_size
from regather.kinds.video.levels import levels_name
from regather.kinds.video.pixel_cut import FrameFile, FrameStream, OpenFrames, RawStream, wrong_length
from regather.kinds.video.pixel_layouts import FORMATS, PixelFormat, of_channels
from regather.kinds.video.recognition import DECODED, recognise, refuse
from regather.kinds.video.video_cut import VideoCut, VideoWish
from regather.processors.base import FileSplitter, Options, SplitRequest, Splitter
from regather.processors.splitting import npy
from regather.processors.splitting.npy import npy_splitter
from regather.processors.splitting.rows import RowLayout

_NPY_DTYPES = ("uint8", "uint16")
_NEVER_STRIPED_PIXELS = 400_000
"""With four values of 16 bits each, and a frame on either side, these are below 10 MiB; their background below 8 MiB."""


class FrameOptions(Options):
    """A file contains its geometry, and the options must agree with it; raw frames need width and height."""

    format: Literal["auto", "raw", "npy", "y4m", "video"] = Field(
        default="auto", description="auto: from the first bytes; raw treats any bytes as pixels"
    )
    width: int | None = Field(default=None, ge=1, le=99_999, description="pixels in a row")
    height: int | None = Field(default=None, ge=1, le=99_999, description="rows of a frame")
    channels: int = Field(default=1, ge=1, le=4, description="raw: interleaved 8-bit values of a pixel")
    pixel_format: str | None = Field(
        default=None, description="raw: format of a pixel, by FFmpeg's name, instead of channels", examples=["gray16le"]
    )
    pixels: Literal["gray", "luma", "rgb"] | None = Field(
        default=None, description="YUV and video: grey values (the default), luma as stored, or red, green and blue"
    )
    cut_at: Literal["auto", "keyframes", "frames"] = Field(
        default="auto", description="video: keyframes sends it coded, cut there; frames decodes it while cutting"
    )
    threshold: int = Field(default=16, ge=0, le=65_535, description="larger differences count as a change")


def never_striped(options: FrameOptions) -> bool:
    """Whether the options alone ensure that frames fit a shard and a carry, whatever the body is.

    The result is then the concatenation of the outputs, which an audit can check against the log.
    """
    return bool(options.width and options.height and options.width * options.height <= _NEVER_STRIPED_PIXELS)


def splitter(options: FrameOptions, request: SplitRequest, *, halo: int, carries: bool) -> Splitter | FileSplitter:
    """Return the splitter for a body. `carries`: each shard passes a background of float32 on to the next one."""
    _check(options)
    if request.head is None and options.format == "auto":
        # The format is unknown until the body's first bytes have arrived.
        return npy_splitter(request, halo=halo, frames=True, empty=True)
    making = _Making(options, request, halo, carries)
    head = request.head or b""
    found = recognise(head)
    if options.format == "raw":
        return making.raw()
    if options.format == "npy" or (found is not None and found.format == "npy"):
        return making.npy(head)
    if options.format == "y4m" or (found is not None and found.format == "y4m"):
        return making.y4m(head)
    if found is not None and found.format in DECODED:
        return making.video(found.format)
    if found is not None:
        raise refuse(found)
    if options.format == "video":
        if request.head is None:
            return making.video(DECODED[0])
        raise BadInput(
            f"the body begins with {head[:8]!r}: not an MP4, MOV, Matroska, WebM, AVI or NUT file", code="not-frames"
        )
    return making.raw()


def _check(options: FrameOptions) -> None:
    if options.pixel_format is not None and options.pixel_format not in FORMATS:
        raise BadRequest(
            f"pixel_format is {options.pixel_format[:40]!r}; supported are {', '.join(FORMATS)}", code="bad-option"
        )
    if options.pixel_format is not None and "channels" in options.model_fields_set:
        found = FORMATS[options.pixel_format].channels
        if found != options.channels:
            raise BadRequest(
                f"channels is {options.channels}, but {options.pixel_format} has {found}", code="bad-option"
            )


class _Making:
    """Creates the splitter of one body."""

    def __init__(self, options: FrameOptions, request: SplitRequest, halo: int, carries: bool) -> None:
        self._options = options
        self._request = request
        self._halo = halo
        self._carries = carries

    def raw(self) -> Splitter | FileSplitter:
        options, request = self._options, self._request
        if options.width is None or options.height is None:
            raise BadRequest(
                "raw frames need the options 'width' and 'height', and 'pixel_format' if they are not grey"
            )
        pixel_format = FORMATS[options.pixel_format] if options.pixel_format else of_channels(options.channels)
        layout = FrameLayout(
            pixel_format.analysed_values(options.width, options.height),
            pixel_format.dtype,
            self._raw_levels(pixel_format),
        ).check()
        frames = OpenFrames(layout, pixel_format.frame_bytes(options.width, options.height))
        if request.size_bytes is not None:
            frames = self._counted(frames, request.size_bytes)
        return self._open(frames)

    def y4m(self, head: bytes) -> Splitter | FileSplitter:
        self._refuse_raw_options()
        if self._request.head is None:
            return self.video("y4m")
        header = y4m.parse_header(head)
        if header is None:
            raise BadInput("the body ends inside the y4m header")
        for name in ("width", "height"):
            self._agrees(name, getattr(header, name))
        if self._options.pixels == "rgb":
            return self.video("y4m")
        layout = FrameLayout(
            header.format.analysed_values(header.width, header.height),
            header.format.dtype,
            self._levels(header.format, full_range=header.full_range),
        ).check()
        return self._open(OpenFrames(layout, header.frame_bytes, header.size_bytes, header, Clock(rate=header.rate)))

    def npy(self, head: bytes) -> Splitter | FileSplitter:
        self._refuse_raw_options()
        if self._options.pixels is not None:
            raise _not_yuv("an NPY file's values are used as they are")
        header = None
        if head.startswith(npy.MAGIC):
            header = npy.parse_header(head, frames=True)
        request = self._request
        if header is not None and not (header.fortran or header.big_endian) and header.layout.dtype in _NPY_DTYPES:
            layout = FrameLayout(header.layout.width * header.layout.channels, header.layout.dtype)
            request = with_usual_size(layout, request)
            if needs_stripes(layout, carries=self._carries):
                self._check_npy(header.layout)
                if never_striped(self._options):
                    raise BadInput(
                        f"a frame of {layout.values} values fits no shard, contrary to the options width and height; "
                        "leave them out"
                    )
                layout = FrameLayout(layout.values, layout.dtype, frames=header.layout.height).check()
                frames = OpenFrames(layout, header.layout.row_bytes, header.size_bytes)
                return FrameFile(frames, self._request, halo=self._halo, carries=self._carries)
        return npy_splitter(request, halo=self._halo, check=self._check_npy, frames=True, empty=True)

    def video(self, container: str) -> FileSplitter:
        options = self._options
        self._refuse_raw_options()
        wish = VideoWish(container, options.pixels or "gray", options.cut_at, options.width, options.height)
        return VideoCut(wish, self._request, halo=self._halo, carries=self._carries)

    def _open(self, frames: OpenFrames) -> Splitter | FileSplitter:
        striped = needs_stripes(frames.layout, carries=self._carries)
        if striped or (frames.header is not None and self._request.shards is not None):
            return FrameFile(frames, self._request, halo=self._halo, carries=self._carries)
        if frames.header is None and frames.kept_bytes == frames.frame_bytes and not frames.layout.levels:
            return RawStream(frames, self._request, halo=self._halo)
        return FrameStream(frames, self._request, halo=self._halo)

    def _counted(self, frames: OpenFrames, size_bytes: int) -> OpenFrames:
        count, left_over_bytes = divmod(size_bytes, frames.frame_bytes)
        if left_over_bytes:
            raise wrong_length(size_bytes, frames)
        layout = FrameLayout(frames.layout.values, frames.layout.dtype, frames.layout.levels, count or None)
        return OpenFrames(layout, frames.frame_bytes)

    def _raw_levels(self, pixel_format: PixelFormat) -> str:
        if pixel_format.is_yuv:
            return self._levels(pixel_format, full_range=False)
        if self._options.pixels is not None:
            raise _not_yuv(f"values of {pixel_format.name} are used as they are")
        return ""

    def _levels(self, pixel_format: PixelFormat, *, full_range: bool) -> str:
        wanted = self._options.pixels
        if wanted == "rgb":
            raise BadRequest("pixels=rgb is for video and y4m; raw YUV frames give luma or grey", code="bad-option")
        return "" if wanted == "luma" else levels_name(pixel_format.name, full_range=full_range)

    def _check_npy(self, layout: RowLayout) -> None:
        if layout.dtype not in _NPY_DTYPES:
            raise BadInput(f"the frames have values of type {layout.dtype}; supported are {' and '.join(_NPY_DTYPES)}")
        options = self._options
        if options.width and options.height and options.width * options.height != layout.width:
            raise BadInput(
                f"options width and height make {options.width * options.height} pixels, but the file's frames have "
                f"{layout.width}"
            )
        if "channels" in options.model_fields_set and options.channels != layout.channels:
            raise BadInput(f"option channels is {options.channels}, but the file says {layout.channels}")

    def _refuse_raw_options(self) -> None:
        if self._options.pixel_format is not None:
            raise BadRequest(
                "pixel_format is for raw frames, but the body is a file with its own; leave it out, or set format=raw "
                "if these are raw frames that only look like one",
                code="bad-option",
            )

    def _agrees(self, name: str, found: int) -> None:
        asked = getattr(self._options, name)
        if asked is not None and asked != found:
            raise BadInput(f"option {name} is {asked}, but the file says {found}")


def _not_yuv(why: str) -> BadRequest:
    return BadRequest(f"pixels is for YUV and video; {why}", code="bad-option")
