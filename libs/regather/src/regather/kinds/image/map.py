"""Kind `image.map`: an operator on every pixel of an image that returns pixels: blur, median, threshold, resize.

The result has the same bits at every cut. A shard owns rows of the result and gets all rows of the image that they are
computed from (map_geometry, map_plan). Its output is its part of the file (map_output), so the result is the outputs
concatenated in order. Raw pixels without a height are the exception: the number of rows is known only when the body has
ended, so each output describes its rows, and merge() writes the file.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import override

from regather.core.errors import BadInput, BadRequest, PermanentError, UserError
from regather.kinds.image import EXTRA
from regather.kinds.image.formats import FORMATS, Choice, ImageFormat, format_named, format_of, not_an_image
from regather.kinds.image.limits import check_options_agree
from regather.kinds.image.map_cut import (
    BandMapSplitter,
    MapBand,
    MapFileSplitter,
    MapSplitter,
    NpyMapFileSplitter,
    NpyMapSplitter,
)
from regather.kinds.image.map_geometry import Geometry, resized
from regather.kinds.image.map_operators import gaussian_radius
from regather.kinds.image.map_output import npy_header, tiff_header, tile_row_bytes, tile_size, tiles
from regather.kinds.image.map_plan import MAX_RESULT_BYTES, MapPlan, plan_map, shard_bytes
from regather.processors.base import DATA_ERRORS, FileSplitter, Options, Processor, ShardView, SplitRequest, Splitter
from regather.processors.splitting.npy import MAGIC, parse_header
from regather.processors.splitting.rows import RowLayout, RowSplitter, raw_layout

_DTYPES = ("uint8", "uint16", "int8", "int16", "float32")
_MAX_CHANNELS = 16
_MAX_SIGMA = 100
_SMALL_HEAD_BYTES = 4096
_NPY_TYPES = frozenset({"application/x-npy", "application/npy", "application/x-numpy"})
_DICOM_TYPE = "application/dicom"
_RESULT_TYPES = {"npy": "application/x-npy", "tiff": "image/tiff", "raw": "application/octet-stream"}
_PARAMETERS: dict[str, frozenset[str]] = {
    "gaussian": frozenset({"sigma", "edge"}),
    "median": frozenset({"size", "edge"}),
    "threshold": frozenset({"value"}),
    "invert": frozenset(),
    "rescale": frozenset({"factor", "offset"}),
    "resize": frozenset({"scale", "to_width", "to_height", "interpolation"}),
}
_ALL_PARAMETERS = frozenset[str]().union(*_PARAMETERS.values())


def _whole(value: object) -> object:
    """Convert a text of digits, as in a query parameter, to a number."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class MapOptions(Options):
    """The operator, its parameters, and the image. A raw image needs its width; a file contains that."""

    operator: Literal["gaussian", "median", "threshold", "invert", "rescale", "resize"]
    sigma: float | None = Field(
        default=None,
        gt=0,
        le=_MAX_SIGMA,
        allow_inf_nan=False,
        description="gaussian: standard deviation in pixels; the window reaches 4 of them to each side",
    )
    size: Annotated[Literal[3, 5, 7, 9], BeforeValidator(_whole)] = Field(
        default=3, description="median: width and height of the window"
    )
    value: float | None = Field(
        default=None, allow_inf_nan=False, description="threshold: values above it become 255, all others 0"
    )
    factor: float = Field(default=1.0, allow_inf_nan=False, description="rescale: values are multiplied by it")
    offset: float = Field(default=0.0, allow_inf_nan=False, description="rescale: added after the multiplication")
    scale: float | None = Field(default=None, gt=0, le=64, description="resize: result pixels for one pixel")
    to_width: int | None = Field(default=None, ge=1, le=1_000_000, description="resize: columns of the result")
    to_height: int | None = Field(default=None, ge=1, le=1_000_000, description="resize: rows of the result")
    interpolation: Literal["nearest", "area", "bilinear"] = Field(default="area", description="resize: method")
    edge: Literal["reflect", "nearest"] = Field(
        default="reflect", description="which pixels continue the image outside"
    )
    output: Literal["npy", "tiff", "raw"] = Field(default="npy", description="format of the result")
    format: str = Field(
        default="auto",
        pattern="^(auto|raw|npy|" + "|".join(known.option for known in FORMATS) + ")$",
        description="format of the image; auto: from content type and first bytes",
    )
    width: int | None = Field(default=None, ge=1, description="pixels in a row of the image")
    height: int | None = Field(default=None, ge=1, description="rows of the image; without it a raw image is merged")
    channels: int = Field(default=3, ge=1, le=_MAX_CHANNELS, description="interleaved values of a pixel")
    dtype: Literal["uint8", "uint16", "int8", "int16", "float32"] = Field(
        default="uint8", description="type of a value, little-endian"
    )
    page: int = Field(default=0, ge=0, description="which image of a file of several, which frame of a DICOM file")
    level: int = Field(default=0, ge=0, description="which size of a pyramid")
    values: Literal["rescaled", "stored"] = Field(default="rescaled", description="which values of a DICOM file")

    @model_validator(mode="after")
    def _one_operator(self) -> "MapOptions":
        """Refuse a missing option of the operator, and options of other operators."""
        strange = sorted(self.model_fields_set & (_ALL_PARAMETERS - _PARAMETERS[self.operator]))
        if strange:
            raise ValueError(f"operator {self.operator} has no option {', '.join(strange)}")
        needed = {"gaussian": "sigma", "threshold": "value"}.get(self.operator)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"operator {self.operator} needs the option {needed}")
        if self.operator == "resize" and (self.scale is None) == (self.to_width is None and self.to_height is None):
            raise ValueError("operator resize needs either scale, or to_width or to_height or both")
        return self


class ImageMap(Processor[MapOptions]):
    """Apply an operator (blur, median, threshold, invert, rescale, resize) to an image and return an image."""

    options_model = MapOptions
    certain = DATA_ERRORS
    extra = EXTRA
    result_examples = ({"operator": "invert"},)
    merges: ClassVar[bool] = False
    gaps: ClassVar[bool] = False

    @override
    def splitter(self, options: MapOptions, request: SplitRequest) -> Splitter | FileSplitter:
        plan, check = _planner(options, request), _agreement(options)
        if options.format == "raw":
            return _raw(options, request, plan)
        if _is_npy(options, request):
            header = parse_header(request.head) if request.head else None
            if header is not None and (header.fortran or header.big_endian):
                return NpyMapFileSplitter(plan, check)
            return NpyMapSplitter(plan, check, request.size_bytes)
        known = _file_format(options, request)
        if known is not None:
            choice = Choice(options.page, options.level, options.values)
            return MapFileSplitter(plan, check, request, choice, known)
        if request.head is not None:
            _refuse_strangers(request)
            return _raw(options, request, plan)
        with contextlib.suppress(UserError):  # the body's first bytes may show that it is not raw
            return _raw(options, request, plan)
        return NpyMapSplitter(plan, check, None)

    def merges_outputs(self, options: MapOptions) -> bool:
        """Return True only for a raw image without a height, whose outputs cannot be concatenated."""
        return _is_merged(options)

    @override
    def media_type(self, options: MapOptions) -> str:
        return _RESULT_TYPES[options.output]

    @override
    def process(self, shard: ShardView, options: MapOptions) -> bytes:
        try:
            band = MapBand.decode(shard.meta)
            geometry = _geometry(options, band.layout)
            result = _mapped(shard.payload, band, geometry, options)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise PermanentError(f"shard {shard.seq} is not a band of an image") from error
        target = geometry.target
        if self.merges_outputs(options):
            head = json.dumps([target.width, target.channels, target.dtype, len(result)]).encode()
            return head + b"\n" + bytes(result.tobytes())
        return _piece(result, target, options.output, begins=band.first == 0)

    def merge(self, outputs: Sequence[bytes | None], options: MapOptions) -> bytes:
        """Write the file for a raw image without a height; PermanentError if an output is missing."""
        import numpy as np

        missing = [seq for seq, output in enumerate(outputs) if output is None]
        if missing:
            raise PermanentError(
                f"{len(missing)} of {len(outputs)} shards failed, the first one is {missing[0]}: without their rows the "
                "result would be a different image. Redrive them, or send the image again"
            )
        parts = [output.partition(b"\n") for output in outputs if output is not None]
        heads = [json.loads(head) for head, _, _ in parts]
        width, channels, dtype, _ = heads[0]
        layout = RowLayout(width, channels, dtype, sum(rows for *_, rows in heads))
        if options.output == "npy":
            return npy_header(layout) + b"".join(rows for _, _, rows in parts)
        pixels = np.frombuffer(b"".join(rows for _, _, rows in parts), np.dtype(dtype).newbyteorder("<"))
        return tiff_header(layout) + tiles(pixels.reshape(-1, width, channels), layout)


def _piece(result: Any, target: RowLayout, output: str, *, begins: bool) -> bytes:
    """Return a shard's part of the file; the first part begins with the file's header."""
    if output == "tiff":
        return (tiff_header(target) if begins else b"") + tiles(result, target)
    return (npy_header(target) if begins and output == "npy" else b"") + bytes(result.tobytes())


def _is_merged(options: MapOptions) -> bool:
    raw = options.format in ("auto", "raw") and options.width is not None
    return raw and options.height is None and options.output != "raw"


def _media_type(request: SplitRequest) -> str:
    return request.content_type.split(";")[0].strip().lower()


def _is_npy(options: MapOptions, request: SplitRequest) -> bool:
    looks = (request.head or b"").startswith(MAGIC) or _media_type(request) in _NPY_TYPES
    return options.format == "npy" or (options.format == "auto" and looks)


def _file_format(options: MapOptions, request: SplitRequest) -> ImageFormat | None:
    """Return the format of a file, None if it is not a file; BadInput if the option names a different format."""
    dicom = format_named("dicom")
    if options.format == "auto":
        return format_of(request.head or b"") or (dicom if _media_type(request) == _DICOM_TYPE else None)
    known = format_named(options.format)
    if known not in (None, dicom) and request.head is not None and not known.matches(request.head):
        raise BadInput(f"format is {options.format}, but the body does not begin like a {known.name} file")
    return known


def _refuse_strangers(request: SplitRequest) -> None:
    """Refuse a body that is not raw pixels: a file of another kind, or a content type that its bytes do not match."""
    stranger, media_type = not_an_image(request.head or b""), _media_type(request)
    if stranger is not None:
        raise BadInput(f"the body is {stranger}, which is not supported (format=raw if these are raw pixels)")
    if request.head and media_type.startswith("image/"):
        raise BadInput(
            f"the content type is {media_type}, but the body does not begin like an image file that is supported "
            "(format=raw if these are raw pixels)"
        )


def _geometry(options: MapOptions, layout: RowLayout) -> Geometry:
    if options.operator == "resize":
        return resized(
            layout,
            options.interpolation,
            scale=options.scale,
            to_width=options.to_width,
            to_height=options.to_height,
        )
    dtype = "uint8" if options.operator == "threshold" else layout.dtype
    radius = {"gaussian": gaussian_radius(options.sigma or 0), "median": options.size // 2}.get(options.operator, 0)
    return Geometry(layout, RowLayout(layout.width, layout.channels, dtype, layout.height), radius)


def _planner(options: MapOptions, request: SplitRequest) -> Callable[[RowLayout], tuple[Geometry, MapPlan]]:
    def plan(layout: RowLayout) -> tuple[Geometry, MapPlan]:
        geometry = _geometry(options, layout)
        target = geometry.target
        if options.output != "tiff" or _is_merged(options):
            return geometry, plan_map(geometry, request, head_bytes=_SMALL_HEAD_BYTES)
        return geometry, plan_map(
            geometry,
            request,
            block=tile_size(target)[0],
            block_bytes=tile_row_bytes(target),
            head_bytes=len(tiff_header(target)),
        )

    return plan


def _agreement(options: MapOptions) -> Callable[[RowLayout], None]:
    """Return a check that a file's layout is supported, and agrees with the options that are set."""

    def check(layout: RowLayout) -> None:
        if layout.dtype not in _DTYPES or layout.channels > _MAX_CHANNELS:
            raise BadInput(
                f"the file has {layout.channels} channels of {layout.dtype}; "
                f"supported are 1 to {_MAX_CHANNELS} of {', '.join(_DTYPES)}"
            )
        check_options_agree(options, layout)
        _check_operator(options, layout.dtype)

    return check


def _check_operator(options: MapOptions, dtype: str) -> None:
    if options.operator == "invert" and dtype == "float32":
        raise BadInput("operator invert is for whole numbers; use rescale with factor=-1 for float32")


def _raw(options: MapOptions, request: SplitRequest, plan: Callable[[RowLayout], tuple[Geometry, MapPlan]]) -> Splitter:
    if options.width is None:
        raise BadRequest(
            "the body is not an image file of a known format; a raw image needs the option 'width' (and channels and dtype "
            "if they are not 3 and uint8)"
        )
    if options.page or options.level:
        raise BadRequest("a raw body has only one image: the options page and level are for files of several")
    _check_operator(options, options.dtype)
    layout = raw_layout(RowLayout(options.width, options.channels, options.dtype, options.height), request)
    if layout.height is not None:
        return MapSplitter(layout, plan)
    if options.operator == "resize":
        raise BadRequest("a resize needs the image's height: give the option 'height', or send Content-Length")
    geometry = _geometry(options, layout)
    if request.shards is not None:
        raise BadRequest("shards=n needs the body's length: send Content-Length, give 'height', or use shard_size")
    tall = Geometry(_tall(layout), _tall(geometry.target), geometry.radius)
    plan_map(tall, SplitRequest(request.shard_size_bytes), head_bytes=_SMALL_HEAD_BYTES)
    sizes = SplitRequest(shard_bytes(geometry, request))
    return BandMapSplitter(RowSplitter(layout, sizes, halo=geometry.radius), layout)


def _tall(layout: RowLayout) -> RowLayout:
    """Return the layout with enough rows for every check of a shard's size."""
    return RowLayout(layout.width, layout.channels, layout.dtype, max(1, MAX_RESULT_BYTES // layout.row_bytes // 2))


def _mapped(payload: bytes, band: MapBand, geometry: Geometry, options: MapOptions) -> Any:
    """Return the rows of the result that a shard owns: (rows, width, channels), little-endian."""
    import numpy as np

    shape = (-1, band.width, band.channels)
    pixels = np.frombuffer(payload, np.dtype(band.dtype).newbyteorder("<")).reshape(shape)
    end = geometry.needed(band.first, band.end)[1] if band.height else band.row0 + len(pixels)
    if len(pixels) != end - band.row0:
        raise ValueError(f"{len(pixels)} rows; {end - band.row0} are needed")
    with np.errstate(all="ignore"):  # an infinity in a float32 result is a valid value
        return _operated(pixels, band, geometry, options, band.height or end)


def _operated(pixels: Any, band: MapBand, geometry: Geometry, options: MapOptions, height: int) -> Any:
    from regather.kinds.image import map_operators as operators

    match options.operator:
        case "threshold":
            return operators.threshold(pixels, options.value or 0)
        case "invert":
            return operators.invert(pixels)
        case "rescale":
            return operators.rescale(pixels, options.factor, options.offset)
        case "resize":
            return operators.resize(pixels, band.row0, band.first, band.end, geometry)
    rows = operators.rows_around(
        pixels, band.row0, band.first, band.end, height=height, radius=geometry.radius, edge=options.edge
    )
    if options.operator == "median":
        return operators.median(operators.columns_around(rows, geometry.radius, options.edge), options.size)
    return operators.gaussian(rows, options.sigma or 0, options.edge)
