"""Damaged and hostile image files: each is refused in words of ours, or gives what a whole-file decoder sees."""

import contextlib
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import pyvips
import tifffile
from image_samples import (
    BITS,
    GREY,
    RGB,
    SAMPLES,
    SMOOTH,
    Image,
    Pixels,
    chunk,
    grey_tiff,
    saved,
    simple_tiff,
    tiff,
)
from image_samples import with_channels as flat

from regather.core.errors import BadInput, BadRequest, UserError
from regather.kinds.image.features import ImageFeatures, ImageOptions
from regather.kinds.image.formats import Choice, format_of
from regather.kinds.image.image_file import open_image
from regather.kinds.image.limits import check_size
from regather.processors.base import HEAD_BYTES, SplitRequest

KIND = ImageFeatures()


def pixels_of(body: bytes, folder: Path, choice: Choice | None = None) -> Pixels:
    """Decode a file in steps of seven rows."""
    path = folder / "image"
    path.write_bytes(body)
    with contextlib.closing(open_image(path, choice)) as source:
        layout = source.layout
        height = layout.height or 0
        check_size(layout, len(body), 1 << 28)
        rows = b"".join(source.rows(first, min(7, height - first)) for first in range(0, height, 7))
    return np.frombuffer(rows, np.dtype(layout.dtype).newbyteorder("<")).reshape(height, layout.width, layout.channels)


def by_vips(body: bytes, loader: str) -> Pixels:
    image = getattr(pyvips.Image, loader)(body, fail_on="warning").autorot()
    array: Pixels = np.asarray(image.numpy())
    return flat(array)


STRICT: dict[str, Callable[[bytes], Pixels]] = {
    "PNG": lambda body: by_vips(body, "pngload_buffer"),
    "JPEG": lambda body: by_vips(body, "jpegload_buffer"),
    "WebP": lambda body: by_vips(body, "webpload_buffer"),
    "JPEG 2000": lambda body: flat(imagecodecs.jpeg2k_decode(body)),
}
AS_STORED = [
    "no compression", "LZW", "deflate (8, 32946)", "PackBits", "Zstandard", "LZMA", "LERC", "JPEG, YCbCr or RGB or grey",
    "JPEG XL", "JPEG 2000 (34712)", "PNG", "WebP", "JPEG XR (34934, 22610)", "horizontal predictor", "tiles",
    "floating-point predictor", "big-endian", "BigTIFF", "float32",
]  # fmt: skip
"""Files of which tifffile's own decoding is what ours must be, if no tag says otherwise by now."""


def by_tifffile(body: bytes) -> Pixels | None:
    """What tifffile sees; None where a damaged tag now asks for what only ours does (white, palette, turned, planes)."""
    with tifffile.TiffFile(io.BytesIO(body)) as file:
        page = file.pages[0]
        plain = int(page.photometric) in (1, 2) and page.planarconfig == 1 and page.bitspersample in (8, 16, 32)
        return flat(page.asarray()) if plain and page.tags.valueof(274) in (None, 1) else None


def mutated(body: bytes, choice: random.Random) -> bytes:
    damaged = bytearray(body)
    at = choice.randrange(len(damaged) if choice.random() < 0.7 else min(len(damaged), 300))
    kind, length = choice.randrange(5), choice.randrange(1, 30)
    if kind == 0:
        damaged[at] ^= 1 << choice.randrange(8)
    elif kind == 1:
        damaged[at : at + length] = bytes(len(damaged[at : at + length]))
    elif kind == 2:
        damaged[at : at + length] = b"\xff" * len(damaged[at : at + length])
    elif kind == 3:
        del damaged[at : at + length]
    else:
        del damaged[at + 1 :]
    return bytes(damaged)


FUZZED = [row for row, make in SAMPLES.items() if (row[0] in STRICT or row[1] in AS_STORED) and not make().why]


@pytest.mark.parametrize("row", FUZZED, ids=" ".join)
def test_a_damaged_file_is_refused_or_is_what_a_whole_file_decoder_sees(row: tuple[str, str], tmp_path: Path) -> None:
    sample = SAMPLES[row]()
    choice = random.Random(" ".join(row))
    refusals = []
    for _ in range(25):
        body = mutated(sample.body, choice)
        try:
            got = pixels_of(body, tmp_path)
        except UserError as error:
            refusals.append(str(error))
            continue
        known = format_of(body[:HEAD_BYTES])
        assert known is not None
        assert known.name == row[0]
        want = STRICT.get(row[0], by_tifffile)(body)
        if want is not None:
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            assert got.tobytes() == want.astype(got.dtype).tobytes()
    assert refusals
    assert not [text for text in refusals if str(tmp_path) in text]


@pytest.mark.parametrize("row", [row for row in FUZZED if row[0] != "TIFF"], ids=" ".join)
def test_a_file_that_is_cut_off_anywhere_is_refused(row: tuple[str, str], tmp_path: Path) -> None:
    sample = SAMPLES[row]()
    size = len(sample.body)
    for end in [*range(12, size, max(1, size // 25)), size - 2, size - 1]:
        with pytest.raises(BadInput) as caught:
            pixels_of(sample.body[:end], tmp_path)
        assert caught.value.code == "image-invalid"


@pytest.mark.parametrize("codec", ["lzw", "deflate", "packbits", "lzma", "png", "jpegxl", "lerc"])
@pytest.mark.parametrize("value", [0x00, 0xFF])
def test_a_strip_with_a_hole_in_it_is_refused_by_its_number(codec: str, value: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (60, 200), np.uint8) // 16
    body = bytearray(tiff(pixels, compression=codec, rowsperstrip=20, metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(body))) as file:
        first, size = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
    body[first + size // 2 : first + size // 2 + 60] = bytes([value]) * 60
    with pytest.raises(BadInput, match=r"strip 1 \("):
        pixels_of(bytes(body), tmp_path)


def test_a_strip_of_another_length_is_refused_whether_its_codec_notices_or_not(tmp_path: Path) -> None:
    tags = {"t256": 47, "t257": 61, "t258": 8, "t262": 1, "t277": 1, "t278": 61}
    for code, encode in [(5, imagecodecs.lzw_encode), (50000, imagecodecs.zstd_encode), (8, zlib.compress)]:
        sound = simple_tiff(bytes(encode(GREY.tobytes())), t259=code, **tags)
        assert np.array_equal(pixels_of(sound, tmp_path), flat(GREY))
        for wrong in (GREY.tobytes()[:-1], GREY.tobytes() + b"x"):
            with pytest.raises(BadInput, match="strip 0"):
                pixels_of(simple_tiff(bytes(encode(wrong)), t259=code, **tags), tmp_path)
    with pytest.raises(BadInput, match=r"strip 0 \(NONE\) has more than 2867 bytes of pixels"):
        pixels_of(simple_tiff(GREY.tobytes() + b"x", t259=1, **tags), tmp_path)


@pytest.mark.parametrize(
    ("space", "name"), [(3, "YCC"), (11, "CMY"), (13, "YCCK"), (14, "CIELab"), (19, "CIEJab"), (24, "YCC")]
)
def test_a_jpeg_2000_file_whose_colours_are_no_rgb_is_refused(space: int, name: str, tmp_path: Path) -> None:
    srgb = bytes(imagecodecs.jpeg2k_encode(RGB, codecformat="jp2", level=0))
    body = srgb.replace(b"colr\1\0\0\0\0\0\x10", b"colr\1\0\0\0\0\0" + bytes([space]))
    assert pixels_of(srgb, tmp_path).shape == RGB.shape
    assert body != srgb
    with pytest.raises(BadInput, match=f"colours of the kind {name}, which is not supported"):
        pixels_of(body, tmp_path)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_page_that_does_not_say_its_colours_is_refused(samples: int, tmp_path: Path) -> None:
    body = simple_tiff(bytes(100 * samples), t256=10, t257=10, t258=8, t259=1, t277=samples, t278=10)
    with pytest.raises(BadInput, match=r"PhotometricInterpretation \(262\) is missing"):
        pixels_of(body, tmp_path)


def test_a_tag_that_decides_the_pixels_must_be_readable(tmp_path: Path) -> None:
    body = tiff(GREY, compression="deflate", predictor=2, metadata=None)
    at = body.index(struct.pack("<HH", 317, 3))
    with pytest.raises(BadInput, match=r"the tag Predictor \(317\) of page 0 cannot be read"):
        pixels_of(body[: at + 2] + b"\x77" + body[at + 3 :], tmp_path)


def pages(count: int, *, back_to: int | None = None) -> bytes:
    """A chain of directories of the same 4 x 4 pixels; the last one may lead back to an earlier one."""
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16}
    size = 2 + 12 * len(tags) + 4
    body = struct.pack("<2sHI", b"II", 42, 24) + bytes(16)
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags.items())
    for index in range(count):
        last = 0 if back_to is None else 24 + size * back_to
        following = 24 + size * (index + 1) if index < count - 1 else last
        body += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return body


def strip_of_another_size(code: int, data: bytes) -> bytes:
    return simple_tiff(data, t256=16, t257=16, t258=8, t259=code, t262=1, t277=1, t278=16)


BLACK = np.zeros((4000, 4000), np.uint8)


@pytest.mark.parametrize(
    ("body", "choice", "why"),
    [
        pytest.param(pages(5, back_to=0), Choice(7), "form a loop", id="loop of pages"),
        pytest.param(pages(200, back_to=3), Choice(100_000), "form a loop", id="long loop of pages"),
        pytest.param(pages(3), Choice(3), "no page 3; the file has 3, counted from 0", id="no such page"),
        pytest.param(pages(3), Choice(0, 1), "no level 1 of page 0", id="no such level"),
        pytest.param(grey_tiff(t256=10**9, t257=10**9, t278=10**9), Choice(), "inflates too much", id="1e18 pixels"),
        pytest.param(
            grey_tiff(t259=8, t322=1 << 20, t323=1 << 20, t324=8, t325=100), Choice(), "tiles of 1048576", id="huge tile"
        ),
        pytest.param(grey_tiff(t256=0), Choice(), "0 x 10 pixels", id="no columns"),
        pytest.param(grey_tiff(t257=0), Choice(), "10 x 0 pixels", id="no rows"),
        pytest.param(grey_tiff(t278=0), Choice(), "10 x 0 pixels", id="no rows in a strip"),
        pytest.param(grey_tiff(t258=0), Choice(), "not plain numbers", id="no bits"),
        pytest.param(grey_tiff(t277=60_000), Choice(), "has 100 bytes of pixels", id="60,000 channels"),
        pytest.param(grey_tiff(t274=99), Choice(), "orientation 99", id="orientation"),
        pytest.param(grey_tiff(t278=5), Choice(), "needs 2 strips, but it lists 1", id="strips missing"),
        pytest.param(grey_tiff(t259=6), Choice(), "has the codec OJPEG, which is not supported", id="old jpeg"),
        pytest.param(grey_tiff(t259=65000), Choice(), "has the codec EER_V0", id="codec of a camera"),
        pytest.param(grey_tiff(t317=34893), Choice(), "has the predictor 34893", id="predictor"),
        pytest.param(grey_tiff(t32997=2), Choice(), "2 slices deep", id="volume"),
        pytest.param(grey_tiff(t259=7), Choice(), "strip 0", id="no JPEG"),
        pytest.param(b"II*\0", Choice(), "cannot be read", id="four bytes"),
        pytest.param(
            strip_of_another_size(34933, bytes(imagecodecs.png_encode(BLACK))),
            Choice(),
            "states that it is 4000 x 4000 pixels, not 16 x 16",
            id="png strip bomb",
        ),
        pytest.param(
            strip_of_another_size(50002, bytes(imagecodecs.jpegxl_encode(BLACK, level=1, effort=1))),
            Choice(),
            "states that it is 4000 x 4000 pixels",
            id="jpeg xl strip bomb",
        ),
        pytest.param(
            strip_of_another_size(34934, bytes(imagecodecs.jpegxr_encode(BLACK))),
            Choice(),
            "states that it is 4000 x 4000 pixels",
            id="jpeg xr strip bomb",
        ),
        pytest.param(saved(Image.fromarray(RGB), "png")[:33], Choice(), "byte 33", id="png header"),
        pytest.param(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 0, 0, 0, 0)) + chunk(b"IDAT", b"")
            + chunk(b"IEND", b""),
            Choice(),
            "header is damaged",
            id="png without pixels",
        ),
        pytest.param(saved(Image.fromarray(RGB), "png"), Choice(1), "a PNG file has only page 0", id="png page"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused(body: bytes, choice: Choice, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why):
        pixels_of(body, tmp_path, choice)


@pytest.mark.parametrize("field", [8, 16])
def test_a_jpeg_2000_file_that_says_it_is_huge_is_refused_before_it_is_decoded(field: int, tmp_path: Path) -> None:
    body = bytearray(imagecodecs.jpeg2k_encode(SMOOTH, codecformat="j2k"))
    struct.pack_into(">II", body, 8, 60_000, 60_000)
    struct.pack_into(">II", body, 16, *((0, 0) if field == 8 else (60_000, 60_000)))
    with pytest.raises(BadInput, match="above the limit of 250 times" if field == 8 else "size is not valid"):
        pixels_of(bytes(body), tmp_path)


def test_a_refusal_does_not_quote_what_was_said_of_another_file(tmp_path: Path) -> None:
    buffer = pyvips.vips_lib.vips_error_buffer
    pyvips.vips_lib.vips_foreign_find_load(b"/a/secret/of/another/client.png")
    assert b"secret" in pyvips.ffi.string(buffer())
    body = saved(Image.fromarray(RGB), "jpeg", quality=95)
    with pytest.raises(BadInput, match="it is damaged or cut off near the rows") as caught:
        pixels_of(body[:-300] + body[-2:], tmp_path)
    assert "secret" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert pyvips.ffi.string(buffer()) == b""


def test_what_follows_the_end_of_a_picture_is_no_damage(tmp_path: Path) -> None:
    for kind in ("png", "jpeg"):
        body = saved(Image.fromarray(SMOOTH), kind)
        assert np.array_equal(pixels_of(body + b"a thumbnail, or notes", tmp_path), pixels_of(body, tmp_path))


STRANGERS = {
    "GIF": b"GIF89a\x10\0\x10\0", "MP4": b"\0\0\0\x18ftypisom\0\0\0\0", "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0",
    "ZIP": b"PK\x03\x04\x14\0", "PDF": b"%PDF-1.7\n", "YUV4MPEG2": b"YUV4MPEG2 W16 H16 F25:1\n", "gzip": b"\x1f\x8b\x08\0",
    "BMP": saved(Image.fromarray(GREY), "bmp")[:60], "HDF5": b"\x89HDF\r\n\x1a\n", "Matroska": b"\x1a\x45\xdf\xa3\x01",
    "netpbm": b"P6\n10 10\n255\n", "AVI": b"RIFF\0\1\0\0AVI LIST", "Zstandard": b"\x28\xb5\x2f\xfd\x04",
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_a_body_that_is_no_image_is_never_taken_for_pixels_unless_the_client_says_so(name: str) -> None:
    body = STRANGERS[name].ljust(300, b"\0")
    request = SplitRequest(1024, size_bytes=300, head=body[:HEAD_BYTES])
    for options in (ImageOptions(), ImageOptions(width=10, channels=1), ImageOptions(width=10)):
        with pytest.raises(BadInput, match=f"the body is an? .*{name}.*format=raw"):
            KIND.splitter(options, request)
    splitter: Any = KIND.splitter(ImageOptions(format="raw", width=10), request)
    assert [*splitter.feed(body), *splitter.finish()]


def test_the_format_that_is_named_must_be_the_body_s() -> None:
    request = SplitRequest(1024, content_type="image/png", head=bytes(64))
    with pytest.raises(BadInput, match="format is tiff, but the body does not begin like a TIFF file"):
        KIND.splitter(ImageOptions(format="tiff"), request)
    with pytest.raises(BadInput, match="the content type is image/png, but the body does not begin like a PNG file"):
        KIND.splitter(ImageOptions(width=4), request)


def test_a_page_of_what_has_none_is_refused() -> None:
    request = SplitRequest(1024, head=bytes(64))
    with pytest.raises(BadRequest, match="a raw body has only one image"):
        KIND.splitter(ImageOptions(width=4, page=1), request)
    with pytest.raises(BadRequest, match="an NPY file has only one image"):
        KIND.splitter(ImageOptions(format="npy", level=1), request)


def test_before_the_body_is_seen_no_file_is_measured_as_raw_pixels() -> None:
    """A client may say the width of a PNG file, whose length is no whole number of raw rows."""
    for size_bytes in (1001, 47 * 3 * 2):
        KIND.splitter(ImageOptions(width=47), SplitRequest(shards=40, size_bytes=size_bytes))


@pytest.mark.parametrize("span", [{"low": 1.0}, {"high": 1.0}, {"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 0.0}])
def test_half_a_span_is_refused(span: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="low and high must be set together"):
        ImageOptions(**span)


def test_a_span_is_for_floats() -> None:
    with pytest.raises(BadRequest, match="these are uint8"):
        KIND.splitter(ImageOptions(width=4, low=0, high=1), SplitRequest(1024, head=bytes(64)))


def test_fax_without_a_size_of_its_strips_is_refused(tmp_path: Path) -> None:
    body = saved(Image.fromarray(BITS), "tiff", compression="group4")
    at = body.index(struct.pack("<HH", 279, 4))
    with pytest.raises(BadInput):
        pixels_of(body[: at + 8] + b"\xff\xff\xff\xff" + body[at + 12 :], tmp_path)


def test_most_formats_and_codecs_are_damaged_here() -> None:
    assert len(FUZZED) > 30
