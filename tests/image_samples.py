"""One file for each row of the table in docs/reference/kinds/image.md, with the pixels that another program sees in it.

The expected pixels come from the array that was written (lossless codecs), or from tifffile's, Pillow's or imagecodecs'
decoding of the whole file. A refused file has the words that its refusal must have.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import imagecodecs
import numpy as np
import pyvips
import tifffile
from PIL import Image

Pixels = np.ndarray[Any, np.dtype[Any]]
Y, X = np.mgrid[0:61, 0:47]
RANDOM = np.random.default_rng(7)
GREY = ((X * 3 + Y * 2) % 256).astype(np.uint8)
RGB = np.stack([GREY, (GREY * 3 + Y) % 256, (X * Y) % 256], axis=-1).astype(np.uint8)
RGBA = np.concatenate([RGB, GREY[:, :, None]], axis=2)
DEEP = (RGB.astype(np.uint16) << 8) + GREY[:, :, None]
SIGNED = DEEP.astype(np.int32).astype(np.int16)
FLOATS = (RGB.astype(np.float32) - 100) / 7
BITS = GREY > 128
SMOOTH = np.stack([X + Y, X * 2, 200 - Y], axis=-1).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Sample:
    """A file, the pixels in it (height, width, channels), and the options that it is sent with.

    `why` is a regular expression for the refusal, and then there are no pixels.
    """

    body: bytes
    pixels: Pixels | None = None
    why: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def tiff(pixels: Pixels, **options: Any) -> bytes:
    """A TIFF file by tifffile."""
    file = io.BytesIO()
    options.setdefault("photometric", "rgb" if pixels.ndim == 3 and pixels.shape[2] in (3, 4) else "minisblack")
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A file by Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seen(body: bytes, **options: Any) -> Pixels:
    """What tifffile sees in a page."""
    return with_channels(tifffile.imread(io.BytesIO(body), **options))


def with_channels(pixels: Pixels) -> Pixels:
    """The array with an axis for channels."""
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def opened(body: bytes, mode: str | None = None) -> Pixels:
    """What Pillow sees in a file."""
    image = Image.open(io.BytesIO(body))
    return with_channels(np.asarray(image if mode is None else image.convert(mode)))


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_16_bits(pixels: Pixels) -> bytes:
    """Pillow writes no 16-bit colour: PNG by its specification, with filter 0 for each row."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def simple_tiff(data: bytes, **tags: int) -> bytes:
    """A little-endian TIFF file of one strip, of the tags that are given by their numbers as `t256=...`."""
    entries = {int(name[1:]): value for name, value in tags.items()} | {273: 8, 279: len(data)}
    out = struct.pack("<2sHI", b"II", 42, 8 + len(data) + len(data) % 2) + data + b"\0" * (len(data) % 2)
    out += struct.pack("<H", len(entries))
    return out + b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in sorted(entries.items())) + bytes(4)


def grey_tiff(**tags: int) -> bytes:
    """A TIFF file of 10 x 10 grey pixels with some tags changed."""
    sound = {"t256": 10, "t257": 10, "t258": 8, "t259": 1, "t262": 1, "t277": 1, "t278": 10}
    return simple_tiff(bytes(100), **(sound | tags))


def packed(bits: int, photometric: int) -> tuple[bytes, Pixels]:
    """A grey TIFF file of few bits, and its values."""
    values = (X % (1 << bits)).astype(np.uint16)
    rows = [np.array([[v >> b & 1 for b in range(bits - 1, -1, -1)] for v in row], np.uint8).ravel() for row in values]
    data = b"".join(np.packbits(row).tobytes() for row in rows)
    body = simple_tiff(data, t256=47, t257=61, t258=bits, t259=1, t262=photometric, t277=1, t278=61)
    return body, values


def lossless(name: str, **options: Any) -> Callable[[], Sample]:
    """A TIFF file with a codec that gives back what was written."""

    def make() -> Sample:
        body = tiff(RGB, compression=name, rowsperstrip=16, **options)
        return Sample(body, RGB)

    return make


def as_seen(pixels: Pixels, **options: Any) -> Callable[[], Sample]:
    """A TIFF file of which tifffile's own decoding is right."""

    def make() -> Sample:
        body = tiff(pixels, **options)
        return Sample(body, seen(body))

    return make


def written(pixels: Pixels, **options: Any) -> Callable[[], Sample]:
    """A TIFF file that gives back what was written."""
    return lambda: Sample(tiff(pixels, **options), with_channels(pixels))


def bilevel(name: str) -> Callable[[], Sample]:
    """A fax-coded TIFF file; Pillow writes them as min-is-white."""

    def make() -> Sample:
        body = saved(Image.fromarray(BITS), "tiff", compression=name)
        return Sample(body, with_channels(BITS.astype(np.uint8) * 255))

    return make


def few_bits(bits: int, photometric: int, scale: int) -> Callable[[], Sample]:
    """A TIFF file of few bits a value, whose values become `scale` times as much."""

    def make() -> Sample:
        body, values = packed(bits, photometric)
        if photometric == 0:
            values = (1 << bits) - 1 - values
        return Sample(body, with_channels((values * scale).astype(np.uint8 if bits < 9 else np.uint16)))

    return make


def refused(body: Callable[[], bytes], why: str, **options: Any) -> Callable[[], Sample]:
    """A file that is refused with these words."""
    return lambda: Sample(body(), None, why, options)


def pyramid(kind: str) -> tuple[bytes, list[Pixels]]:
    """A TIFF pyramid of three sizes, as OME (SubIFDs), as a chain of reduced pages, or in Aperio's order."""
    sizes = [np.ascontiguousarray(SMOOTH[::step, ::step]) for step in (1, 2, 4)]
    sizes = [np.tile(size, (4, 4, 1)) for size in sizes]
    file = io.BytesIO()
    options: dict[str, Any] = {"photometric": "rgb", "tile": (32, 32), "metadata": None}
    with tifffile.TiffWriter(file, ome=False) as out:
        if kind == "ome":
            out.write(sizes[0], subifds=2, **options)
            for size in sizes[1:]:
                out.write(size, subfiletype=1, **options)
        elif kind == "reduced":
            for level, size in enumerate(sizes):
                out.write(size, subfiletype=1 if level else 0, **options)
        else:
            about = "Aperio Image Library v11.2.1\r\n"
            out.write(sizes[0], description=about, compression="jpeg", **options)
            out.write(sizes[2], photometric="rgb", metadata=None, compression="jpeg")  # the thumbnail, in strips
            for size in sizes[1:]:
                out.write(size, compression="jpeg", **options)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as again:
        pages = again.pages
        if kind == "ome":
            found = [pages[0].asarray(), *(page.asarray() for page in pages[0].pages)]
        else:
            found = [pages[index].asarray() for index in ((0, 1, 2) if kind == "reduced" else (0, 2, 3))]
    return file.getvalue(), found


def level(kind: str, number: int) -> Callable[[], Sample]:
    """One size of a pyramid."""

    def make() -> Sample:
        body, sizes = pyramid(kind)
        return Sample(body, sizes[number], options={"level": number})

    return make


def turned_tiff() -> Sample:
    """A TIFF file that is stored on its side."""
    return Sample(saved(Image.fromarray(RGB), "tiff", tiffinfo={0x0112: 6}), np.rot90(RGB, -1))


def second_page() -> Sample:
    """The second page of a TIFF file."""
    return Sample(tiff(np.stack([GREY, GREY[::-1]])), with_channels(GREY[::-1]), options={"page": 1})


def white_with_alpha() -> Sample:
    """A min-is-white TIFF file with alpha; libvips inverts the grey channel of such a one, and not alpha."""
    body = tiff(RGB[:, :, :2], photometric="miniswhite", planarconfig="contig", extrasamples=["unassalpha"])
    pixels = pyvips.Image.new_from_buffer(body, "").numpy()
    assert (pixels == np.stack([255 - RGB[:, :, 0], RGB[:, :, 1]], axis=2)).all()
    return Sample(body, pixels)


def palette_tiff() -> Sample:
    """A TIFF file with a palette."""
    body = saved(Image.fromarray(RGB).quantize(16), "tiff")
    return Sample(body, opened(body, "RGB"))


def from_pillow(kind: str, mode: str | None = None, image: Pixels = RGB, **options: Any) -> Callable[[], Sample]:
    """A file by Pillow, as Pillow sees it in `mode`."""

    def make() -> Sample:
        body = saved(Image.fromarray(image), kind, **options)
        return Sample(body, opened(body, mode))

    return make


def turned(kind: str) -> Callable[[], Sample]:
    """A file that is stored on its side."""

    def make() -> Sample:
        exif = Image.Exif()
        exif[0x0112] = 6
        lossless_options = {"lossless": True} if kind == "webp" else {}
        body = saved(Image.fromarray(RGB), kind, exif=exif, **lossless_options)
        return Sample(body, np.ascontiguousarray(np.rot90(opened(body), -1)))

    return make


def animation(kind: str) -> bytes:
    """Two pictures in one file."""
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


def jpeg2000(pixels: Pixels, **options: Any) -> Callable[[], Sample]:
    """A JPEG 2000 file that gives back what was written."""
    options.setdefault("codecformat", "jp2")
    return lambda: Sample(bytes(imagecodecs.jpeg2k_encode(pixels, reversible=True, **options)), with_channels(pixels))


def ycc_tiff() -> bytes:
    """A TIFF file with YCbCr values that are not coded by JPEG."""
    data = RGB.tobytes()
    return simple_tiff(data, t256=47, t257=61, t258=8, t259=1, t262=6, t277=3, t278=61)


SAMPLES: dict[tuple[str, str], Callable[[], Sample]] = {
    ("TIFF", "no compression"): written(RGB, rowsperstrip=16),
    ("TIFF", "LZW"): lossless("lzw"),
    ("TIFF", "deflate (8, 32946)"): lossless("deflate"),
    ("TIFF", "deflate (50013)"): lossless("pixtiff"),
    ("TIFF", "PackBits"): lossless("packbits"),
    ("TIFF", "Zstandard"): lossless("zstd"),
    ("TIFF", "LZMA"): lossless("lzma"),
    ("TIFF", "LERC"): lossless("lerc"),
    ("TIFF", "JPEG, YCbCr or RGB or grey"): as_seen(SMOOTH, compression="jpeg", rowsperstrip=16),
    ("TIFF", "JPEG XL"): lossless("jpegxl"),
    ("TIFF", "JPEG 2000 (34712)"): lossless("jpeg2000"),
    ("TIFF", "JPEG 2000 (33004, 33005)"): lossless("aperio_jp2000_rgb"),
    ("TIFF", "JPEG 2000 (33003), grey"): written(GREY, compression="aperio_jp2000_ycbc", rowsperstrip=16),
    ("TIFF", "JPEG 2000 (33003), colours (YCbCr)"): refused(
        lambda: tiff(RGB, compression="aperio_jp2000_ycbc"), r"YCbCr colours in JPEG 2000 \(compression 33003\)"
    ),
    ("TIFF", "PNG"): lossless("png"),
    ("TIFF", "WebP"): lossless("webp"),
    ("TIFF", "JPEG XR (34934, 22610)"): lossless("jpegxr"),
    ("TIFF", "CCITT RLE (2)"): bilevel("tiff_ccitt"),
    ("TIFF", "CCITT group 3 (3)"): bilevel("group3"),
    ("TIFF", "CCITT group 4 (4)"): bilevel("group4"),
    ("TIFF", "lossless or arithmetic JPEG"): refused(
        lambda: tiff(DEEP, compression="jpeg", compressionargs={"lossless": True}), "lossless or arithmetic JPEG"
    ),
    ("TIFF", "old JPEG (6), PixarLog, Jetraw, EER, JBIG and all others"): refused(
        lambda: simple_tiff(bytes(100), t256=10, t257=10, t258=8, t259=32909, t262=1, t277=1, t278=10), "PIXARLOG"
    ),
    ("TIFF", "horizontal predictor"): lossless("deflate", predictor=2),
    ("TIFF", "floating-point predictor"): written(FLOATS, compression="deflate", predictor=3),
    ("TIFF", "separate planes"): lambda: Sample(
        tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="lzw", rowsperstrip=16),
        RGB,
    ),
    ("TIFF", "tiles"): lossless("deflate", tile=(16, 32)),
    ("TIFF", "big-endian"): written(DEEP, byteorder=">", compression="deflate", predictor=2),
    ("TIFF", "BigTIFF"): written(GREY, bigtiff=True),
    ("TIFF", "8 and 16 bits, with and without sign"): written(SIGNED),
    ("TIFF", "float32"): written(FLOATS),
    ("TIFF", "1, 2 and 4 bits"): few_bits(4, 1, 17),
    ("TIFF", "9 to 15 bits"): few_bits(12, 1, 1),
    ("TIFF", "3, 5, 6 and 7 bits"): refused(lambda: packed(6, 1)[0], "6 bits for each value"),
    ("TIFF", "32 and 64 bits, float16, complex"): refused(lambda: tiff(RGB.astype(np.int32)), "channels of int32"),
    ("TIFF", "min-is-white"): few_bits(4, 0, 17),
    ("TIFF", "min-is-white with alpha"): white_with_alpha,
    ("TIFF", "palette of up to 8 bits"): palette_tiff,
    ("TIFF", "CMYK"): written(RGBA, photometric="separated"),
    ("TIFF", "CIELab, LogLuv, YCbCr without JPEG"): refused(ycc_tiff, "colours of the kind YCBCR"),
    ("TIFF", "alpha and other extra channels"): written(RGBA, extrasamples=["unassalpha"]),
    ("TIFF", "orientation"): turned_tiff,
    ("TIFF", "several pages"): second_page,
    ("TIFF", "pyramid of SubIFDs (OME-TIFF)"): level("ome", 2),
    ("TIFF", "pyramid of reduced pages"): level("reduced", 1),
    ("TIFF", "pyramid of Aperio (SVS)"): level("svs", 1),
    ("TIFF", "NDPI (Hamamatsu)"): refused(
        lambda: simple_tiff(bytes(100), t256=10, t257=10, t258=8, t259=1, t262=1, t277=1, t278=10, t271=0, t65420=1),
        "NDPI",
    ),
    ("TIFF", "strips or tiles that are not in the file (sparse)"): refused(
        lambda: simple_tiff(b"", t256=10, t257=10, t258=8, t259=1, t262=1, t277=1, t278=10),
        "strip 0 is not in the file",
    ),
    ("PNG", "8 bits, grey, RGB, alpha"): from_pillow("png", image=RGBA),
    ("PNG", "16 bits"): lambda: Sample(png_16_bits(DEEP), DEEP),
    ("PNG", "1, 2 and 4 bits"): from_pillow("png", "L", BITS),
    ("PNG", "palette"): lambda: Sample(
        saved(Image.fromarray(RGB).quantize(16), "png"), np.asarray(Image.fromarray(RGB).quantize(16).convert("RGB"))
    ),
    ("PNG", "orientation"): turned("png"),
    ("PNG", "animation (APNG)"): refused(lambda: animation("png"), "PNG file has several pictures"),
    ("JPEG", "baseline"): from_pillow("jpeg", image=SMOOTH, quality=90),
    ("JPEG", "progressive"): from_pillow("jpeg", image=SMOOTH, quality=90, progressive=True),
    ("JPEG", "grey"): from_pillow("jpeg", image=GREY),
    ("JPEG", "orientation"): turned("jpeg"),
    ("JPEG", "CMYK"): refused(lambda: saved(Image.fromarray(RGB).convert("CMYK"), "jpeg"), "CMYK"),
    ("JPEG", "12 bits, lossless, arithmetic, JPEG-LS"): refused(
        lambda: bytes(imagecodecs.jpeg_encode(DEEP, lossless=True, bitspersample=16)), "lossless"
    ),
    ("WebP", "lossless"): from_pillow("webp", lossless=True),
    ("WebP", "lossy"): from_pillow("webp", image=SMOOTH, quality=80),
    ("WebP", "alpha"): from_pillow("webp", image=RGBA, lossless=True, exact=True),
    ("WebP", "orientation"): turned("webp"),
    ("WebP", "animation"): refused(lambda: animation("webp"), "2 pictures"),
    ("JPEG 2000", "JP2, 8 to 16 bits"): jpeg2000(DEEP),
    ("JPEG 2000", "codestream"): jpeg2000(RGB, codecformat="j2k"),
    ("JPEG 2000", "tiles"): from_pillow("jpeg2000", tile_size=(32, 32)),
    ("JPEG 2000", "HTJ2K codestream"): lambda: Sample(bytes(imagecodecs.htj2k_encode(RGB, reversible=True)), RGB),
    ("JPEG 2000", "palette, YCC, YCCK, CMY, CIELab, subsampling, mixed depths"): refused(
        lambda: bytes(imagecodecs.jpeg2k_encode(SMOOTH, codecformat="jp2")).replace(
            b"colr\1\0\0\0\0\0\x10", b"colr\1\0\0\0\0\0\x12"
        ),
        "colours of the kind YCC",
    ),
    ("GIF", "all"): refused(lambda: saved(Image.fromarray(GREY), "gif"), "GIF file, which is not supported"),
    ("BMP", "all"): refused(lambda: saved(Image.fromarray(GREY), "bmp"), "BMP file, which is not supported"),
    ("JPEG XL", "all"): refused(lambda: bytes(imagecodecs.jpegxl_encode(RGB)), "JPEG XL file, which is not supported"),
    ("HEIC, AVIF", "all"): refused(lambda: bytes(imagecodecs.avif_encode(RGB)), "HEIC or AVIF file"),
}
"""A file for each row of the table, by its first two cells."""
