"""Images of every type of value in every format and codec; pages, tiles, planes, orientations; and damage to each."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from accept_kinds.case import Case, Refusal
from accept_kinds.images import image, image_either
from accept_kinds.oracles import OracleRefused

HEIGHT, WIDTH = 150, 97
FEW = ("1024", "65536", "one")
CODECS = (
    "none", "lzw", "deflate", "adobe_deflate", "packbits", "zstd", "lzma", "jpeg", "jpeg2000", "png", "webp", "jpegxl",
    "jpegxr", "lerc",
)  # fmt: skip
COMMON = ("none", "lzw", "deflate", "adobe_deflate", "packbits", "jpeg")
"""Codecs that a user may expect everywhere; the others must be right or be refused by name."""

SAYS = {
    "zstd": "zstd|zstandard|50000",
    "lzma": "lzma|34925",
    "jpeg2000": "jpeg.?2000|34712",
    "png": "png|34933",
    "webp": "webp|50001",
    "jpegxl": "jpeg.?xl|50002|52546",
    "jpegxr": "jpeg.?xr|34934",
    "lerc": "lerc|34887",
}
Array = np.ndarray[Any, np.dtype[Any]]


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    for part in (_arrays, _png, _tiff_codecs, _tiff_layouts, _photos, _damage, _no_frames):
        yield from part(seed)


def scene(seed: int, dtype: str = "uint8", channels: int = 3, height: int = HEIGHT, width: int = WIDTH) -> Array:
    """A smooth slope with noise, so that codecs have something to do; values fill the type's range."""
    draw = np.random.default_rng([seed, channels, height, width])
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 9 + c) + np.cos(y / 7 - c) for c in range(channels)], axis=-1)
    waves += draw.normal(0, 0.1, waves.shape)
    unit = (waves - waves.min()) / max(waves.max() - waves.min(), 1e-9)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        made: Array = (unit * 4 - 1).astype(kind)
        return made
    info = np.iinfo(kind)
    return np.asarray(info.min + unit * (float(info.max) - info.min), dtype=np.float64).astype(kind)


def npy(array: Array, **header: Any) -> bytes:
    """An NPY file; `header` replaces entries of its dictionary."""
    file = io.BytesIO()
    np.save(file, array)
    if not header:
        return file.getvalue()
    text = repr({"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + array.tobytes()


def tiff(array: Array, **settings: Any) -> bytes:
    """A TIFF file."""
    file = io.BytesIO()
    photometric = settings.pop("photometric", "rgb" if array.shape[-1] in (3, 4) and array.ndim == 3 else "minisblack")
    tifffile.imwrite(file, array, photometric=photometric, metadata=None, **settings)
    return file.getvalue()


def saved(array: Array, form: str, **settings: Any) -> bytes:
    """A file by Pillow."""
    file = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array).save(file, form, **settings)
    return file.getvalue()


def _arrays(seed: int) -> Iterator[Case]:
    few = {"sizes": FEW}
    for dtype in ("uint8", "uint16"):
        for channels in (1, 2, 3, 4):
            yield image(
                f"npy/{dtype}-{channels}", npy(scene(seed, dtype, channels)), settings={**few, "fast": channels == 3}
            )
    grey = scene(seed, "uint16", 1)[:, :, 0]
    yield image("npy/two-axes", npy(grey))
    yield image("npy/fortran", npy(np.asfortranarray(scene(seed))))
    yield image("npy/big-endian", npy(grey.astype(">u2")))
    for descr in ("<u1", "=u1", "|u1"):
        yield image(f"npy/descr-{descr[0]}", npy(scene(seed), descr=descr), settings=few)
    yield image("npy/python-2", _python2(scene(seed)))
    for name, shape in (("one-row", (1, 500)), ("one-column", (500, 1)), ("one-pixel", (1, 1)), ("two-by-two", (2, 2))):
        yield image(f"npy/{name}", npy(scene(seed, "uint8", 1, *shape)), settings=few)
    for dtype in ("int16", "float32", "int8", "uint32", "float64"):
        refusal = Refusal(f"{dtype} need not be taken", says=f"{dtype}|type|values")
        yield image_either(f"npy/{dtype}", npy(scene(seed, dtype, 1)), refusal, settings=few)
    raw = scene(seed)
    yield image("raw/rgb", raw.tobytes(), array=lambda: raw, width=str(WIDTH))
    wide = scene(seed, "uint16", 1)
    yield image("raw/uint16", wide.tobytes(), array=lambda: wide, width=str(WIDTH), channels="1", dtype="uint16")
    yield image("raw/odd-length", raw.tobytes()[:-5], array=_refuses("the last row is not whole"), width=str(WIDTH))
    yield image("npy/cut-off", npy(scene(seed))[:-500], settings={"fast": True})
    yield image("npy/too-long", npy(scene(seed)) + b"xx", array=_refuses("there is more than the header says"))


def _python2(array: Array) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({array.shape[0]}L, {array.shape[1]}L, 3L), }}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + array.tobytes()


def _refuses(why: str) -> Callable[[], Any]:
    def refuse() -> Any:
        raise OracleRefused(why)

    return refuse


def _png(seed: int) -> Iterator[Case]:
    few = {"sizes": FEW}
    for name, array in (("grey8", scene(seed, channels=1)), ("rgb8", scene(seed)), ("rgba8", scene(seed, channels=4))):
        yield image(f"png/{name}", saved(array, "png"), settings={**few, "fast": name == "rgb8"})
    yield image("png/grey-alpha", saved_as("LA", scene(seed, channels=2)), settings=few)
    grey16 = scene(seed, "uint16", 1)
    yield image("png/grey16", saved(grey16, "png"), settings=few)
    rgb16 = scene(seed, "uint16", 3)
    yield image("png/rgb16", png16(rgb16), array=lambda: rgb16, settings=few)
    yield image(
        "png/interlaced", interlaced(scene(seed, channels=1)), array=lambda: scene(seed, channels=1), settings=few
    )
    palette = Image.fromarray(scene(seed)).quantize(60)
    yield image("png/palette", _pil(palette), settings=few)
    yield image("png/one-bit", _pil(Image.fromarray(scene(seed, channels=1)[:, :, 0]).convert("1")), settings=few)
    for level in (0, 9):
        yield image(f"png/level-{level}", saved(scene(seed), "png", compress_level=level), settings=few)


def saved_as(mode: str, array: Array) -> bytes:
    """A PNG in a mode of Pillow."""
    return _pil(Image.merge(mode, [Image.fromarray(array[:, :, c]) for c in range(array.shape[2])]))


def _pil(picture: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def png16(array: Array) -> bytes:
    """RGB of 16 bits, which Pillow does not write: chunks by hand, no filter."""
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return _png_file(array.shape[1], array.shape[0], 16, 2, 0, zlib.compress(lines))


def interlaced(array: Array) -> bytes:
    """Grey of 8 bits by Adam7."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    lines = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in array[y::dy, x::dx, 0] if row.size)
    return _png_file(array.shape[1], array.shape[0], 8, 0, 1, zlib.compress(lines))


def _png_file(width: int, height: int, depth: int, colour: int, interlace: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _tiff_codecs(seed: int) -> Iterator[Case]:
    few = {"sizes": FEW}
    for codec in CODECS:
        for dtype, channels in (("uint8", 1), ("uint8", 3), ("uint16", 1)):
            if (dtype == "uint16" and codec in ("jpeg", "webp")) or (codec == "webp" and channels == 1):
                continue
            array = scene(seed, dtype, channels)
            form = {"tile": (32, 48)} if codec in ("jpegxr", "png", "jpeg2000") else {"rowsperstrip": 20}
            body = partial(tiff, array if channels > 1 else array[:, :, 0], compression=codec, **form)
            name = f"tiff/{codec}-{dtype}-{channels}"
            settings = {**few, "fast": codec in ("lzw", "zstd") and channels == 3}
            if codec in COMMON:
                yield image(name, body, settings=settings)
            else:
                yield image_either(
                    name, body, Refusal(f"{codec} need not be taken", says=SAYS[codec]), settings=settings
                )


def _tiff_layouts(seed: int) -> Iterator[Case]:
    few = {"sizes": FEW}
    rgb, grey = scene(seed), scene(seed, "uint16", 1)[:, :, 0]
    layouts: dict[str, tuple[Array, dict[str, Any]]] = {
        "tiles": (rgb, {"tile": (16, 32)}),
        "tiles-lzw": (rgb, {"tile": (32, 32), "compression": "lzw"}),
        "predictor": (grey, {"compression": "deflate", "predictor": 2, "rowsperstrip": 7}),
        "predictor-rgb": (rgb, {"compression": "lzw", "predictor": 2}),
        "planar": (np.moveaxis(rgb, -1, 0), {"planarconfig": "separate", "photometric": "rgb"}),
        "bigtiff": (rgb, {"bigtiff": True}),
        "big-endian": (grey, {"byteorder": ">"}),
        "big-endian-lzw": (grey, {"byteorder": ">", "compression": "lzw"}),
        "one-row-strips": (rgb, {"rowsperstrip": 1}),
        "one-strip": (rgb, {"rowsperstrip": HEIGHT}),
        "alpha": (scene(seed, channels=4), {"extrasamples": ["unassalpha"]}),
        "one-bit": (grey > 30000, {}),
    }
    for name, (array, settings) in layouts.items():
        yield image(f"tiff/{name}", partial(tiff, array, **settings), settings={**few, "fast": name == "predictor"})
    white = partial(tiff, scene(seed, channels=1)[:, :, 0], photometric="miniswhite")
    yield image_either("tiff/min-is-white", white, Refusal("need not be taken"), settings=few)
    colours = np.random.default_rng(seed).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    palette = partial(tiff, scene(seed, channels=1)[:, :, 0], photometric="palette", colormap=colours)
    yield image("tiff/palette", palette, settings=few)
    for orientation in (2, 3, 6, 8):
        tag = [(274, "H", 1, orientation, True)]
        yield image(f"tiff/orientation-{orientation}", partial(tiff, rgb, extratags=tag), settings=few)
    pages = partial(_pages, [scene(seed, height=40 + 10 * page) for page in range(3)])
    for page in ("0", "2"):
        yield image(f"tiff/page-{page}", pages, page=page, settings=few)
    yield image("tiff/no-such-page", pages, page="3", array=_refuses("there are three pages"), settings=few)
    for dtype in ("int16", "float32"):
        body = partial(tiff, scene(seed, dtype, 1)[:, :, 0])
        yield image_either(f"tiff/{dtype}", body, Refusal("need not be taken"), settings=few)


def _pages(arrays: list[Array]) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for array in arrays:
            writer.write(array, photometric="rgb", metadata=None)
    return file.getvalue()


def _photos(seed: int) -> Iterator[Case]:
    """Photographs: what Pillow decodes (libjpeg-turbo, libwebp, OpenJPEG), or a refusal that names the format."""
    few = {"sizes": FEW}
    rgb, grey = scene(seed), scene(seed, channels=1)
    photos: dict[str, bytes] = {
        "jpeg-grey": saved(grey, "jpeg", quality=90),
        "jpeg-444": saved(rgb, "jpeg", quality=90, subsampling=0),
        "jpeg-420": saved(rgb, "jpeg", quality=80),
        "jpeg-progressive": saved(rgb, "jpeg", progressive=True),
        "webp-lossless": saved(rgb, "webp", lossless=True),
        "webp-lossy": saved(rgb, "webp", quality=80),
        "jp2": saved(rgb, "jpeg2000"),
        "jp2-lossy": saved(rgb, "jpeg2000", quality_layers=[20], irreversible=True),
        "gif": saved(grey, "gif"),
        "bmp": saved(rgb, "bmp"),
    }
    for name, body in photos.items():
        says = {"gif": "gif", "bmp": "bmp|width|format", "jp2-lossy": "jp2|jpeg.?2000", "jp2": "jp2|jpeg.?2000"}.get(
            name, name.partition("-")[0]
        )
        yield image_either(f"photo/{name}", body, Refusal(f"{name} need not be taken", says=says), settings=few)
    turned = Image.fromarray(rgb)
    exif = turned.getexif()
    exif[274] = 6
    file = io.BytesIO()
    turned.save(file, "jpeg", exif=exif, quality=95, subsampling=0)
    yield image_either(
        "photo/jpeg-orientation", file.getvalue(), Refusal("need not be taken", says="jpeg"), settings=few
    )


def _damage(seed: int) -> Iterator[Case]:
    rgb = scene(seed)
    draw = random.Random(f"image damage {seed}")
    bodies = {
        "png": saved(rgb, "png"),
        "jpeg": saved(rgb, "jpeg", quality=90, subsampling=0),
        "webp": saved(rgb, "webp", lossless=True),
        "jp2": saved(rgb, "jpeg2000"),
        **{
            f"tiff-{codec}": tiff(rgb, compression=codec, rowsperstrip=20)
            for codec in ("none", "lzw", "deflate", "packbits", "zstd", "jpeg")
        },
    }
    few = {"sizes": ("4096", "default")}
    for name, body in bodies.items():
        yield _damaged(
            f"damage/{name}-cut-off", body[: len(body) * 2 // 3], {**few, "fast": name in ("png", "tiff-none")}
        )
        yield _damaged(f"damage/{name}-head-only", body[:40], few)
        for number in range(3):
            at = draw.randrange(len(body) // 3, len(body) * 2 // 3)
            flipped = body[:at] + bytes([body[at] ^ (1 << draw.randrange(8))]) + body[at + 1 :]
            yield _damaged(f"damage/{name}-flip-{number}", flipped, few)
        at = len(body) // 2
        yield _damaged(f"damage/{name}-zeros", body[:at] + bytes(200) + body[at + 200 :], few)


def _damaged(name: str, body: bytes, settings: dict[str, Any]) -> Case:
    """What the oracle still reads may be refused all the same (a codec's own warning), but must not differ."""
    from accept_kinds.oracles.image import pixels

    def found() -> Any:
        return pixels(body)

    try:
        found()
    except OracleRefused:
        return image(name, body, settings=settings)
    return image_either(name, body, Refusal("damaged"), settings=settings)


def _no_frames(seed: int) -> Iterator[Case]:
    yield image("no-image/text", b"hello, world\n" * 500, array=_refuses("a text is no image"))
    yield image("no-image/csv", b"a,b\n1,2\n" * 500, array=_refuses("a table is no image"), content_type="text/csv")
    yield image("no-image/pdf", b"%PDF-1.7\n" + bytes(3000), array=_refuses("a PDF is no image"))
    _ = seed
