"""Raw frames, NPY and y4m: what is taken, what is refused by name, and large frames in stripes."""

import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import frames as reference
from reference import video_files

from regather.core.errors import BadInput, BadRequest, PermanentError, UserError
from regather.kinds.video import frame_shards, y4m
from regather.kinds.video.frames import FrameMotion, FrameOptions, FrameTrack
from regather.kinds.video.joining import crc32_of_both
from regather.kinds.video.pixel_layouts import FORMATS
from regather.kinds.video.recognition import recognise
from regather.processors.base import HEAD_BYTES, FileSplitter, Piece, ShardView, SplitRequest

KINDS = ((FrameMotion(), reference.motion), (FrameTrack(), reference.track))
PAGE = (Path(__file__).parents[3] / "docs/reference/kinds/video.md").read_text()
SIZE = (18, 10)
RATE = [round(at * 1001 / 30_000 * 1_000_000) / 1_000_000 for at in range(40)]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def cut(
    kind: FrameMotion | FrameTrack,
    body: bytes,
    options: FrameOptions,
    request: SplitRequest,
    chunk_bytes: int = 1 << 30,
) -> list[Piece]:
    asked = SplitRequest(request.shard_size_bytes, request.shards, len(body), head=body[:HEAD_BYTES], max_bytes=1 << 32)
    splitter = kind.splitter(options, asked)
    if isinstance(splitter, FileSplitter):
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            return list(splitter.cut(Path(file.name)))
    chunks = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)]
    return [piece for chunk in chunks for piece in splitter.feed(chunk)] + list(splitter.finish())


def answer(kind: FrameMotion | FrameTrack, pieces: list[Piece], options: FrameOptions) -> bytes:
    outputs: list[bytes | None] = []
    carry = b""
    for seq, piece in enumerate(pieces):
        assert len(piece.payload) <= 10_485_760
        shard = ShardView(piece.payload, piece.meta, seq, 0)
        if isinstance(kind, FrameTrack):
            output, carry = kind.step(shard, carry, options)
            assert len(output) + len(carry) <= 10_485_760
        else:
            output = kind.process(shard, options)
        outputs.append(output)
    return kind.merge(outputs, options)


def run(
    kind: FrameMotion | FrameTrack, body: bytes, options: FrameOptions, request: SplitRequest | None = None
) -> bytes:
    return answer(kind, cut(kind, body, options, request or SplitRequest(1024)), options)


def check(body: bytes, options: FrameOptions, frames: np.ndarray, times: list[float] | None = None) -> None:
    for size in (1024, 5000, None):
        for kind, expected in KINDS:
            wanted = reference.lines(expected(frames, options.threshold, times and times[: len(frames)]))
            assert run(kind, body, options, SplitRequest(size)) == wanted


def noise(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


# What is no frame.


def zipped() -> bytes:
    file = io.BytesIO()
    np.savez(file, frames=noise((4, 10, 18)))
    return file.getvalue()


NO_FRAMES = {
    "a zip archive (an NPZ": zipped(),
    "a PNG image": b"\x89PNG\r\n\x1a\n" + bytes(600),
    "a JPEG image": b"\xff\xd8\xff\xe0" + bytes(600),
    "a GIF image": b"GIF89a" + bytes(600),
    "a TIFF image": b"II*\0" + bytes(600),
    "a WebP image": b"RIFF\0\0\0\0WEBP" + bytes(600),
    "a WAV file": b"RIFF\0\0\0\0WAVE" + bytes(600),
    "a still image": b"\0\0\0\x20ftypheic" + bytes(600),
    "a PDF file": b"%PDF-1.7" + bytes(600),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(600),
    "a Parquet file": b"PAR1" + bytes(600),
    "a gzip file": b"\x1f\x8b\x08" + bytes(600),
    "a Zstandard file": b"\x28\xb5\x2f\xfd" + bytes(600),
    "an Ogg file": b"OggS" + bytes(600),
    "an FLV file": b"FLV\x01" + bytes(600),
    "an ASF or WMV file": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(600),
    "an MPEG program stream": b"\0\0\x01\xba" + bytes(600),
    "an MPEG transport stream": (b"G" + bytes(187)) * 5,
    "an M2TS file": (bytes(4) + b"G" + bytes(187)) * 5,
    "an MPEG-4 stream": b"\0\0\x01\xb0\x01\0\0\x01\xb5" + bytes(600),
    "an AV1 stream": b"\x12\0\x0a\x0b\0\0\0" + bytes(600),
    "a Flash file": b"FWS\x04" + bytes(600),
    "an H.264 stream": b"\0\0\0\x01\x67" + bytes(600),
    "an HEVC stream": b"\0\0\0\x01\x40\x01" + bytes(600),
    "an IVF file": b"DKIF" + bytes(600),
    "a DICOM file": bytes(128) + b"DICM" + bytes(600),
    "a tar archive": bytes(257) + b"ustar" + bytes(600),
    "a BMP image": b"BM\x36\x10\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(600),
    "a playlist": b"#EXTM3U\n" + bytes(600),
    "a list of files": b"ffconcat version 1.0\n" + bytes(600),
}


@pytest.mark.parametrize("name", NO_FRAMES)
@pytest.mark.parametrize("kind", [FrameMotion(), FrameTrack()])
def test_a_known_file_is_never_taken_for_pixels_though_its_length_divides(
    kind: FrameMotion | FrameTrack, name: str
) -> None:
    body = NO_FRAMES[name]
    options = FrameOptions(width=1, height=1)
    with pytest.raises(BadInput, match=re.escape(name)) as caught:
        run(kind, body, options)
    assert "format=raw" in str(caught.value)
    forced = FrameOptions(width=1, height=1, format="raw")
    assert run(kind, body, forced).count(b"\n") == len(body)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "nut", "mov", "webm"])
def test_a_video_with_width_and_height_is_decoded_and_not_taken_for_pixels(tmp_path: Path, suffix: str) -> None:
    encoder = {"avi": "mjpeg", "nut": "ffv1", "webm": "libvpx-vp9"}.get(suffix, "libx264")
    path = video_files.encode(tmp_path / f"a.{suffix}", encoder, "yuvj420p" if suffix == "avi" else "yuv420p")
    body = path.read_bytes()
    for width, height in ((1, 1), (len(body), 1)):
        with pytest.raises(BadInput, match=r"option width is .* but the file says"):
            run(FrameMotion(), body, FrameOptions.model_construct(width=width, height=height))
    assert run(FrameMotion(), body, FrameOptions(width=64, height=48)).count(b"\n") == 20


@given(st.binary(min_size=1, max_size=40))
def test_noise_is_seldom_taken_for_a_file(head: bytes) -> None:
    found = recognise(head)
    assert found is None or found.name


def test_two_bytes_alone_are_no_file() -> None:
    for head in (b"BM" + b"\x80" * 60, b"PK\x80\x80" + bytes(60), b"\xff\xd8\x80" * 20, b"G" * 60, b"II" * 30):
        assert recognise(head) is None


# Raw frames.


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_raw_frames_of_every_format_have_the_length_that_ffmpeg_says(tmp_path: Path, name: str) -> None:
    import av

    for width, height in ((18, 10), (17, 9)):
        if "420" in name or "nv12" in name or width == 18:
            frame = av.VideoFrame(width, height, name)
            bits = frame.format.components[0].bits
            wide = sum(plane.width * plane.height for plane in frame.planes) if "nv12" not in name else 0
            packed = FORMATS[name].channels * width * height if len(frame.planes) == 1 else wide
            chroma = width * height + 2 * -(-width // 2) * -(-height // 2)
            values = chroma if name == "nv12" else packed
            assert FORMATS[name].frame_bytes(width, height) == values * (2 if bits > 8 else 1)
            assert FORMATS[name].bits == bits


@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [("gray", 1, np.uint8), ("rgb24", 3, np.uint8), ("bgra", 4, np.uint8), ("gray16le", 1, np.uint16),
     ("rgb48le", 3, np.uint16), ("rgba64le", 4, np.uint16), ("gray10le", 1, np.uint16)],
)  # fmt: skip
def test_raw_values_are_taken_as_they_are(name: str, channels: int, dtype: type) -> None:
    frames = noise((12, 10, 18, channels), dtype)
    check(frames.tobytes(), FrameOptions(width=18, height=10, pixel_format=name, threshold=90), frames)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "nv12", "yuv420p10le", "yuv444p16le"])
@pytest.mark.parametrize("pixels", ["gray", "luma"])
def test_raw_yuv_gives_what_pyav_gives(tmp_path: Path, name: str, pixels: str) -> None:
    import av

    pictures = video_files.pictures(9, *SIZE)
    stored = video_files.stored(tmp_path, pictures, name)
    grey = []
    for picture in pictures:
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=name, threads=1)
        frame.color_range = 2 if "j" in name else 1
        item = FORMATS[name].item_bytes
        luma = np.frombuffer(frame.planes[0], f"<u{item}").reshape(10, -1)[:, :18].copy()
        grey.append(
            luma if pixels == "luma" else frame.to_ndarray(format="gray16le" if item == 2 else "gray", threads=1)
        )
    options = FrameOptions.model_validate({"width": 18, "height": 10, "pixel_format": name, "pixels": pixels})
    check(b"".join(stored), options, np.stack(grey))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"width": 18, "height": 10, "pixel_format": "yuv420p"}, "6 frames of 270 bytes and 180 bytes"),
        ({"width": 18, "height": 10, "pixel_format": "rgb24"}, "is 3 frames of 540 bytes and 180 bytes"),
        ({"width": 18, "height": 10, "pixel_format": "gray16le"}, "4 frames of 360 bytes and 358"),
        ({"width": 18, "height": 11}, "9 frames of 198 bytes and 18 bytes"),
        ({"width": 99_999, "height": 99_999}, "8192 x 8192"),
    ],
)
def test_a_length_that_is_no_whole_number_of_frames_is_refused(options: dict[str, object], why: str) -> None:
    body = noise((10, 10, 18)).tobytes()
    with pytest.raises(BadInput, match=why):
        run(FrameMotion(), body if "gray16le" not in str(options) else body[:-2], FrameOptions.model_validate(options))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"width": 18, "height": 10, "pixel_format": "yuyv"}, "supported are gray"),
        ({"width": 18, "height": 10, "pixel_format": "rgb24", "channels": 4}, "rgb24 has 3"),
        ({"width": 18, "height": 10, "pixel_format": "rgb24", "pixels": "gray"}, "used as they are"),
        ({"width": 18, "height": 10, "pixel_format": "yuv420p", "pixels": "rgb"}, "for video and y4m"),
        ({"width": 18}, "need the options 'width' and 'height'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        run(FrameMotion(), noise((10, 10, 18)).tobytes(), FrameOptions.model_validate(options))


def test_an_npy_file_must_be_what_the_options_say() -> None:
    frames = noise((6, 10, 18))
    check(npy(frames), FrameOptions(width=18, height=10), frames)
    for options in (
        FrameOptions(width=18, height=11),
        FrameOptions(channels=3),
        FrameOptions(channels=2, width=9, height=10),
    ):
        with pytest.raises(BadInput, match=r"the file(?:'s| says)"):
            run(FrameMotion(), npy(frames), options)
    with pytest.raises(BadRequest, match="pixels is for YUV"):
        run(FrameMotion(), npy(frames), FrameOptions(pixels="gray"))


def test_16_bit_npy_frames_give_the_figures_of_the_loop() -> None:
    frames = noise((30, 10, 18), np.uint16)
    check(npy(frames), FrameOptions(threshold=5_000), frames)
    check(npy(frames.reshape(10, 10, 18, 3)), FrameOptions(threshold=65_535), frames.reshape(10, 10, 18, 3))


# y4m.

COLOURS = [
    (colour.strip(), pixel_format.strip())
    for colours, formats, answer_ in re.findall(r"^\| ([\w, ]+) \| ([\w, ]+) \| (taken) \|$", PAGE, re.MULTILINE)
    for colour, pixel_format in zip(
        (colours.replace(" or none", "") + ("," if "none" in colours else "")).split(","),
        formats.split(",") if "," in formats else [formats] * 9,
        strict=False,
    )
]


def y4m_file(folder: Path, colour: str, pixel_format: str, **more: str) -> Path:
    stored = video_files.stored(folder, video_files.pictures(11, *SIZE), pixel_format)
    return video_files.y4m(folder / "clip.y4m", colour, stored, size=SIZE, **more)


def test_the_table_has_all_colour_spaces_of_the_format() -> None:
    assert {"", "420", "420jpeg", "420mpeg2", "420paldv", "422", "444", "mono", "mono16", "420p10"} <= {
        c for c, _ in COLOURS
    }


@pytest.mark.parametrize(("colour", "pixel_format"), COLOURS)
def test_every_y4m_colour_space_gives_what_pyav_gives(tmp_path: Path, colour: str, pixel_format: str) -> None:
    path = y4m_file(tmp_path, colour, pixel_format)
    deep = FORMATS[pixel_format].item_bytes == 2
    grey, _ = reference.decoded(path, "gray16le" if deep else "gray")
    check(path.read_bytes(), FrameOptions(), grey, RATE)
    luma, _ = reference.decoded(path, None)
    check(path.read_bytes(), FrameOptions(pixels="luma"), luma, RATE)
    colours, _ = reference.decoded(path, "rgb48le" if deep else "rgb24")
    check(path.read_bytes(), FrameOptions(pixels="rgb"), colours, RATE)


@pytest.mark.parametrize(("old", "pixel_format"), [("444", "yuv444p"), ("422", "yuv422p"), ("420JPEG", "yuv420p")])
def test_a_y4m_header_may_name_its_colours_in_the_old_way(tmp_path: Path, old: str, pixel_format: str) -> None:
    path = y4m_file(tmp_path, "", pixel_format, rest=f"F30000:1001 XYSCSS={old}")
    check(path.read_bytes(), FrameOptions(), reference.decoded(path, "gray")[0], RATE)
    check(path.read_bytes(), FrameOptions(pixels="rgb"), reference.decoded(path, "rgb24")[0], RATE)


def test_the_full_range_that_a_y4m_header_names_is_honoured(tmp_path: Path) -> None:
    for rest in ("F30000:1001 XCOLORRANGE=FULL", "F30000:1001 XCOLORRANGE=LIMITED"):
        path = y4m_file(tmp_path, "420jpeg", "yuv420p", rest=rest)
        grey, _ = reference.decoded(path, "gray")
        check(path.read_bytes(), FrameOptions(), grey, RATE)
        assert ("FULL" in rest) == (grey == reference.decoded(path, None)[0]).all()


@given(st.integers(1, 700), st.sampled_from([1024, 3000, 1 << 20]))
def test_the_chunks_of_a_y4m_body_do_not_matter(chunk_bytes: int, shard_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        body = y4m_file(Path(folder), "420jpeg", "yuv420p").read_bytes()
    request = SplitRequest(shard_size)
    whole = cut(FrameMotion(), body, FrameOptions(), request)
    assert cut(FrameMotion(), body, FrameOptions(), request, chunk_bytes) == whole


def test_y4m_shards_can_be_asked_for_by_number(tmp_path: Path) -> None:
    body = y4m_file(tmp_path, "420", "yuv420p").read_bytes()
    whole = run(FrameMotion(), body, FrameOptions())
    for shards in (1, 3, 11):
        assert len(cut(FrameMotion(), body, FrameOptions(), SplitRequest(shards=shards))) == shards
        assert run(FrameMotion(), body, FrameOptions(), SplitRequest(shards=shards)) == whole


def test_a_y4m_file_without_a_rate_has_no_times(tmp_path: Path) -> None:
    body = y4m_file(tmp_path, "mono", "gray", rest="F0:0").read_bytes()
    assert b"time_s" not in run(FrameMotion(), body, FrameOptions())


HEADER = b"YUV4MPEG2 W2 H2 F25:1 Cmono\n"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (HEADER, "the body ends after its header of 28 bytes: there are no frames"),
        (HEADER + b"FRAME\nabc", r"frame 0 begins at byte 28 and has 10 bytes, but the body ends at byte 37"),
        (HEADER + b"FRAME\nabcdFRAME\nab", r"frame 1 begins at byte 38 and has 10 bytes, but the body ends at byte 46"),
        (HEADER + b"FRAME\nabcdFRA", "frame 1 begins at byte 38"),
        (HEADER + b"FRAME\nabcdeFRAME\nabcd", r"byte 38: frame 1 begins with b'eFRAME"),
        (HEADER + b"FRAMES\nabcd", "frame 0 begins with b'FRAMES"),
        (HEADER + b"FRAME" + b" " * 2000, "frame 0 begins with"),
        (b"YUV4MPEG2 W2 H2", "inside the y4m header"),
        (b"YUV4MPEG2 W2 H2 " + b"X" * 2000, "no end within 1024 bytes"),
        (b"YUV4MPEG2 W2\nFRAME\n", "height is H''"),
        (b"YUV4MPEG2 W0 H2\n", "width is W'0'"),
        (b"YUV4MPEG2 W-2 H2\n", "width is W'-2'"),
        (b"YUV4MPEG2 W2 H2 F25\n", "frame rate is F'25'"),
        (b"YUV4MPEG2 W2 H2 C420p8\n", "'420p8' is not supported"),
        (b"YUV4MPEG2 W2 H2 C440\n", "'440' is not supported"),
        (b"YUV4MPEG2 W2 H2 Q9\n", "parameter 'Q9'"),
        (b"YUV4MPEG22 W2 H2\n", "a space is needed"),
        (b"YUV4MPEG2 W99999 H99999\nFRAME\n", "8192 x 8192"),
    ],
)
@pytest.mark.parametrize("request_", [SplitRequest(1024), SplitRequest(shards=1)])
def test_a_wrong_y4m_file_is_refused_with_frame_and_byte(body: bytes, why: str, request_: SplitRequest) -> None:
    with pytest.raises(BadInput, match=why):
        run(FrameMotion(), body, FrameOptions(), request_)


@pytest.mark.parametrize("rest", [b"", b"FRAME\nab"])
def test_a_truncated_y4m_file_is_refused_in_colour_too(tmp_path: Path, rest: bytes) -> None:
    body = y4m_file(tmp_path, "420", "yuv420p").read_bytes()
    body = body + rest if rest else body[:-1]
    with pytest.raises(BadInput, match="but the body ends at byte"):
        run(FrameMotion(), body, FrameOptions(pixels="rgb"))


def test_a_value_above_its_bits_is_refused(tmp_path: Path) -> None:
    path = video_files.y4m(tmp_path / "a.y4m", "mono10", [b"\xff\xff" * 180] * 2, size=SIZE)
    with pytest.raises(PermanentError, match="65535 in a frame of 10 bits"):
        run(FrameMotion(), path.read_bytes(), FrameOptions())
    with pytest.raises(BadInput, match="not a y4m file"):
        y4m.parse_header(b"YUV4MPEG3 W2 H2\n")


# Large frames.


@pytest.mark.parametrize(
    ("shape", "dtype", "pixel_format"),
    [
        ((3, 1080, 1920, 3), np.uint8, "rgb24"),
        ((2, 2160, 3840), np.uint8, "gray"),
        ((2, 2160, 3840), np.uint16, "gray16le"),
        ((2, 2160, 3840, 3), np.uint8, "rgb24"),
        ((2, 2160, 3840, 3), np.uint16, "rgb48le"),
    ],
)
def test_large_frames_of_raw_and_npy_give_the_figures_of_the_loop(
    shape: tuple[int, ...], dtype: type, pixel_format: str
) -> None:
    frames = noise(shape, dtype)
    raw = FrameOptions(width=shape[2], height=shape[1], pixel_format=pixel_format)
    for kind, expected in KINDS:
        wanted = reference.lines(expected(frames))
        pieces = cut(kind, npy(frames), FrameOptions(), SplitRequest())
        assert len(pieces) > 2
        assert answer(kind, pieces, FrameOptions()) == wanted
        assert run(kind, frames.tobytes(), raw, SplitRequest(10_485_760)) == wanted


def test_large_frames_of_y4m_give_the_figures_of_the_loop() -> None:
    frames = noise((2, 2160, 3840))
    body = b"YUV4MPEG2 W3840 H2160 F30000:1001 C444\n"
    chroma = bytes(3840 * 2160 * 2)
    body += b"".join(b"FRAME\n" + frame.tobytes() + chroma for frame in frames)
    for kind, expected in KINDS:
        wanted = reference.lines(expected(frames, 16, RATE[:2]))
        assert run(kind, body, FrameOptions(pixels="luma"), SplitRequest()) == wanted


@pytest.mark.parametrize("size", [1024, 65_536, 1 << 20])
def test_the_shard_size_does_not_show_where_frames_are_cut_into_stripes(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(frame_shards, "needs_stripes", lambda layout, carries: True)
    monkeypatch.setattr("regather.kinds.video.options.needs_stripes", lambda layout, carries: True)
    monkeypatch.setattr(frame_shards, "_MIN_STRIPE_BYTES", 100)
    monkeypatch.setattr(frame_shards, "_CARRY_BYTES", 400)
    frames = noise((25, 12, 17))
    for kind, expected in KINDS:
        pieces = cut(kind, npy(frames), FrameOptions(), SplitRequest(size))
        assert (
            len({json.loads(piece.meta)["stripe"][2] for piece in pieces if b"stripe" in piece.meta}) > 1 or size > 9000
        )
        assert answer(kind, pieces, FrameOptions()) == reference.lines(expected(frames))


def test_frames_that_options_call_small_are_joined_and_never_striped() -> None:
    options = FrameOptions(width=640, height=625)
    for kind, expected in KINDS:
        assert not kind.merges_outputs(options)
        assert kind.merges_outputs(FrameOptions(width=640, height=626))
        assert kind.merges_outputs(FrameOptions())
        frames = noise((2, 625, 640, 4), np.uint16)
        pieces = cut(kind, npy(frames), options, SplitRequest())
        assert all(b"stripe" not in piece.meta for piece in pieces)
        assert answer(kind, pieces, options) == reference.lines(expected(frames))
    with pytest.raises(BadInput, match="leave them out"):
        run(FrameMotion(), npy(noise((1, 625, 640, 20))), options)


def test_a_lost_stripe_costs_the_frames_that_it_was_of() -> None:
    frames = noise((3, 1080, 1920, 3))
    kind, options = FrameMotion(), FrameOptions()
    pieces = cut(kind, npy(frames), options, SplitRequest())
    outputs: list[bytes | None] = [kind.process(ShardView(p.payload, p.meta, 0, 0), options) for p in pieces]
    numbers = [{json.loads(text)["frame"] for text in (output or b"").splitlines()[1:]} for output in outputs]
    whole = kind.merge(outputs, options).splitlines()
    outputs[3] = None
    left = [text for text in whole if json.loads(text)["frame"] not in numbers[3]]
    assert kind.merge(outputs, options).splitlines() == left != whole


def test_a_number_of_shards_is_refused_where_frames_are_cut_into_stripes() -> None:
    with pytest.raises(BadRequest, match="stripes; use shard_size"):
        run(FrameMotion(), npy(noise((1, 2160, 3840))), FrameOptions(), SplitRequest(shards=1))


def test_a_large_npy_file_of_another_length_is_refused() -> None:
    body = npy(noise((2, 2160, 3840)))
    for wrong in (body[:-1], body + b"x"):
        with pytest.raises(BadInput, match="are width, height and pixel_format"):
            run(FrameMotion(), wrong, FrameOptions())


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_checksum_of_both_is_that_of_the_two_together(first: bytes, second: bytes) -> None:
    assert crc32_of_both(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


def test_a_shard_that_holds_no_frames_is_refused() -> None:
    for kind, _ in KINDS:
        (piece,) = cut(kind, npy(noise((2, 10, 18))), FrameOptions(), SplitRequest())
        for payload, meta in ((piece.payload[:-1], piece.meta), (piece.payload, b"{}"), (piece.payload, b"")):
            shard = ShardView(payload, meta, 0, 0)
            with pytest.raises(PermanentError, match="has no valid frames"):
                kind.step(shard, b"", FrameOptions()) if isinstance(kind, FrameTrack) else kind.process(
                    shard, FrameOptions()
                )


def test_an_npy_file_without_frames_gives_an_empty_answer() -> None:
    for kind, _ in KINDS:
        for dtype in (np.uint8, np.dtype("<u2")):
            assert run(kind, npy(np.zeros((0, 10, 18), dtype)), FrameOptions()) == b""


def test_cutting_while_a_body_arrives_loads_no_engine() -> None:
    program = """
import sys
from regather.kinds.video.frames import FrameMotion, FrameOptions
from regather.processors.base import SplitRequest
bodies = {b"YUV4MPEG2 W2 H2 F25:1 C420p10\\nFRAME\\n" + bytes(12): {}, bytes(40): {"width": 4, "height": 2},
          bytes(12): {"width": 2, "height": 2, "pixel_format": "yuv420p10le"}, b"\\0\\0\\0\\x20ftypisom": {}}
for body, options in bodies.items():
    splitter = FrameMotion().splitter(FrameOptions(**options), SplitRequest(1024, size_bytes=len(body), head=body))
    if hasattr(splitter, "feed"):
        assert [*splitter.feed(body), *splitter.finish()]
print([name for name in ("av", "numpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_refusal_is_the_users() -> None:
    assert issubclass(BadInput, UserError)
    assert zipfile.is_zipfile(io.BytesIO(zipped()))
