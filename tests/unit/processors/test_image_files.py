"""PNG and TIFF files of every shape give the answer of their pixels, which other libraries decode here."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from reference import image_features

from regather.core.errors import BadInput
from regather.kinds.image.features import ImageFeatures, ImageOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, ShardView, SplitRequest

KIND = ImageFeatures()
RANDOM = np.random.default_rng(7)
RGB = RANDOM.integers(0, 256, (61, 47, 3), np.uint8)
RGBA = RANDOM.integers(0, 256, (61, 47, 4), np.uint8)
GREY = RGB[:, :, :1]
DEEP = RANDOM.integers(0, 65536, (61, 47, 3), np.uint16)


def png(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "png", **options)
    return file.getvalue()


def png_16_bits(pixels: np.ndarray) -> bytes:
    """Pillow writes no 16-bit colour: PNG by its specification, with filter 0 for each row."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def pieces_of(body: bytes, folder: Path, request: SplitRequest, options: ImageOptions) -> list[Any]:
    path = folder / "image"
    path.write_bytes(body)
    head = body[:HEAD_BYTES]
    asked = SplitRequest(request.shard_size_bytes, request.shards, len(body), head=head, max_bytes=request.max_bytes)
    splitter = KIND.splitter(options, asked)
    assert isinstance(splitter, FileSplitter)
    return list(splitter.cut(path))


def analysed(body: bytes, folder: Path, request: SplitRequest, options: ImageOptions | None = None) -> dict[str, Any]:
    options = options or ImageOptions()
    pieces = pieces_of(body, folder, request, options)
    outputs = [KIND.process(ShardView(p.payload, p.meta, seq, 0), options) for seq, p in enumerate(pieces)]
    found: dict[str, Any] = json.loads(KIND.merge(outputs, options))
    return found


PALETTE = Image.fromarray(RGB).quantize(16)
ONE_BIT = Image.fromarray(GREY[:, :, 0]).convert("1", dither=Image.Dither.NONE)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


FILES = [
    pytest.param(png(RGB), RGB, id="png rgb"),
    pytest.param(png(RGBA), RGBA, id="png alpha"),
    pytest.param(png(GREY), GREY, id="png grey"),
    pytest.param(png_16_bits(DEEP), DEEP, id="png 16 bits"),
    pytest.param(png_16_bits(DEEP[:, :, :1]), DEEP[:, :, :1], id="png grey 16 bits"),
    pytest.param(saved(PALETTE, "png"), np.asarray(PALETTE.convert("RGB")), id="png palette"),
    pytest.param(saved(ONE_BIT, "png"), np.asarray(ONE_BIT.convert("L"))[:, :, None], id="png one bit"),
    pytest.param(tiff(RGB), RGB, id="tiff strips"),
    pytest.param(tiff(RGB, rowsperstrip=7), RGB, id="tiff strips of 7 rows"),
    pytest.param(tiff(RGB, tile=(16, 32)), RGB, id="tiff tiles"),
    pytest.param(tiff(RGB, tile=(16, 32), compression="zlib", predictor=True), RGB, id="tiff deflate tiles"),
    pytest.param(saved(Image.fromarray(RGB), "tiff", compression="tiff_lzw"), RGB, id="tiff lzw"),
    pytest.param(tiff(RGB.transpose(2, 0, 1), planarconfig="separate", photometric="rgb"), RGB, id="tiff planes"),
    pytest.param(tiff(DEEP), DEEP, id="tiff 16 bits"),
    pytest.param(tiff(DEEP, byteorder=">"), DEEP, id="tiff 16 bits big-endian"),
    pytest.param(tiff(RGBA, extrasamples=["unassalpha"]), RGBA, id="tiff alpha"),
    pytest.param(tiff(GREY[:, :, 0], bigtiff=True), GREY, id="big tiff"),
    pytest.param(saved(PALETTE, "tiff"), np.asarray(PALETTE.convert("RGB")), id="tiff palette"),
]


@pytest.mark.parametrize(("body", "pixels"), FILES)
def test_a_file_gives_what_its_pixels_give(body: bytes, pixels: np.ndarray, tmp_path: Path) -> None:
    want = image_features.image_features(pixels)
    for request in (SplitRequest(1024), SplitRequest(3000), SplitRequest(shards=5), SplitRequest()):
        assert analysed(body, tmp_path, request) == want


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_the_orientation_that_a_file_names_is_applied(orientation: int, kind: str, tmp_path: Path) -> None:
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = saved(image, kind, exif=exif) if kind == "png" else saved(image, kind, tiffinfo={0x0112: orientation})
    turned = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2),
        6: RGB.transpose(1, 0, 2)[:, ::-1], 7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: RGB.transpose(1, 0, 2)[::-1],
    }[orientation]  # fmt: skip
    want = image_features.image_features(np.ascontiguousarray(turned))
    assert analysed(body, tmp_path, SplitRequest(2000)) == want


def test_a_page_of_several_can_be_chosen(tmp_path: Path) -> None:
    body = tiff(np.stack([GREY[:, :, 0], GREY[::-1, :, 0]]))
    want = image_features.image_features(np.ascontiguousarray(GREY[::-1]))
    assert analysed(body, tmp_path, SplitRequest(1024), ImageOptions(page=1)) == want
    with pytest.raises(BadInput, match="page"):
        analysed(body, tmp_path, SplitRequest(1024), ImageOptions(page=2))


def test_the_halves_of_a_sharded_png_differ_from_a_shifted_one(tmp_path: Path) -> None:
    shifted = np.roll(RGB, 1, axis=0)
    assert analysed(png(shifted), tmp_path, SplitRequest(1024)) != image_features.image_features(RGB)


def bomb(side: int) -> bytes:
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + side)) for _ in range(side)) + rows.flush()

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(png(RGB)[:-200], "cannot be decoded", id="png cut off"),
        pytest.param(png(RGB)[:20], "cannot be decoded", id="png header cut off"),
        pytest.param(png(RGB)[:60] + bytes(100) + png(RGB)[160:], "cannot be decoded", id="png damaged"),
        pytest.param(tiff(RGB)[:-3000], "cannot be decoded", id="tiff cut off"),
        pytest.param(b"II*\0" + bytes(60), "no page 0", id="tiff without an image"),
        pytest.param(tiff(RGB.astype(np.float64), photometric="rgb"), "channels of float64", id="tiff doubles"),
        pytest.param(tiff(RGB.astype(np.int32), photometric="rgb"), "channels of int32", id="tiff 32 bits"),
        pytest.param(
            tiff(RANDOM.integers(0, 256, (9, 9, 17), np.uint8), photometric="minisblack", planarconfig="contig"),
            "17 channels",
            id="tiff 17 channels",
        ),
        pytest.param(bomb(12_000), "above the limit of 250 times", id="png bomb"),
    ],
)
def test_what_is_no_sound_image_is_refused(body: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why):
        pieces_of(body, tmp_path, SplitRequest(1024), ImageOptions())


def test_options_that_disagree_with_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="option width is 48, but the file says 47"):
        pieces_of(png(RGB), tmp_path, SplitRequest(1024), ImageOptions(width=48))
    with pytest.raises(BadInput, match="at most 1000"):
        pieces_of(png(RGB), tmp_path, SplitRequest(1024, max_bytes=1000), ImageOptions())
