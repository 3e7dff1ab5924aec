"""Coded video: every cell of the reference's table, equal to PyAV's decode of the whole file or refused."""

import re
import resource
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import frames as reference
from reference import video_files

from regather.core.errors import BadInput, BadRequest, PermanentError, UserError
from regather.kinds.video.frames import FrameMotion, FrameOptions, FrameTrack
from regather.kinds.video.packet_shards import META
from regather.processors.base import HEAD_BYTES, FileSplitter, Piece, ShardView, SplitRequest

PAGE = Path(__file__).parents[3] / "docs/reference/kinds/video.md"
CELLS = re.findall(
    r"^\| (mp4|mov|matroska|webm|avi|nut) \| (\w[\w-]*) \| (\w+) \| (packets|frames|refused) \|$",
    PAGE.read_text(),
    re.MULTILINE,
)
LIMIT = 10_485_760


def cut(kind: FrameMotion | FrameTrack, path: Path, options: FrameOptions, request: SplitRequest) -> list[Piece]:
    body = path.read_bytes()
    asked = SplitRequest(request.shard_size_bytes, request.shards, len(body), head=body[:HEAD_BYTES], max_bytes=1 << 32)
    splitter = kind.splitter(options, asked)
    assert isinstance(splitter, FileSplitter)
    return list(splitter.cut(path))


def answer(kind: FrameMotion | FrameTrack, pieces: list[Piece], options: FrameOptions) -> bytes:
    outputs: list[bytes | None] = []
    carry = b""
    for seq, piece in enumerate(pieces):
        assert len(piece.payload) <= LIMIT
        shard = ShardView(piece.payload, piece.meta, seq, 0)
        if isinstance(kind, FrameTrack):
            output, carry = kind.step(shard, carry, options)
            assert len(output) + len(carry) <= LIMIT
        else:
            output = kind.process(shard, options)
        outputs.append(output)
    return kind.merge(outputs, options)


def motion(path: Path, options: FrameOptions | None = None, request: SplitRequest | None = None) -> bytes:
    kind, wished = FrameMotion(), options or FrameOptions()
    return answer(kind, cut(kind, path, wished, request or SplitRequest(1024)), wished)


def check(
    path: Path, options: FrameOptions, pixels: str | None, *, times: list[float | None] | None = None
) -> list[int]:
    """Compare both kinds at two shard sizes with the loop over PyAV's frames; returns how many shards there were."""
    frames, found_times = reference.decoded(path, pixels)
    counts = []
    for size in (1024, None):
        for kind, expected in ((FrameMotion(), reference.motion), (FrameTrack(), reference.track)):
            pieces = cut(kind, path, options, SplitRequest(size))
            lines = reference.lines(expected(frames, options.threshold, times or found_times))
            assert answer(kind, pieces, options) == lines
            counts.append(len(pieces))
    return counts


def deep(path: Path) -> bool:
    import av

    with av.open(str(path)) as container:
        return bool(container.streams.video[0].codec_context.format.components[0].bits > 8)


def make(folder: Path, container: str, encoder: str, pixel_format: str, **more: Any) -> Path:
    path = folder / f"clip.{video_files.SUFFIX[container]}"
    return video_files.encode(path, encoder, pixel_format, container, **more)


def test_the_table_has_every_container_and_both_ways() -> None:
    assert {cell[0] for cell in CELLS} == set(video_files.SUFFIX)
    assert {cell[3] for cell in CELLS} == {"packets", "frames", "refused"}
    assert len(CELLS) > 25


@pytest.mark.parametrize(("container", "encoder", "pixel_format", "way"), CELLS)
def test_every_cell_of_the_table_is_true(
    tmp_path: Path, container: str, encoder: str, pixel_format: str, way: str
) -> None:
    path = make(tmp_path, container, encoder, pixel_format)
    if way == "refused":
        with pytest.raises(BadInput, match="at most 16 bits"):
            motion(path)
        return
    times: list[float | None] | None = [at / 25 for at in range(20)] if container == "avi" else None
    check(path, FrameOptions(), "gray16le" if deep(path) else "gray", times=times)
    pieces = cut(FrameMotion(), path, FrameOptions(), SplitRequest(1024))
    assert {piece.meta == META for piece in pieces} == {way == "packets"}
    assert len(pieces) > 2


@pytest.mark.parametrize(("container", "encoder", "pixel_format"), [cell[:3] for cell in CELLS if "264" in cell[1]])
def test_luma_and_colour_are_those_of_pyav(tmp_path: Path, container: str, encoder: str, pixel_format: str) -> None:
    path = make(tmp_path, container, encoder, pixel_format)
    times: list[float | None] | None = [at / 25 for at in range(20)] if container == "avi" else None
    check(path, FrameOptions(pixels="rgb"), "rgb48le" if deep(path) else "rgb24", times=times)
    if pixel_format == "rgb24":
        with pytest.raises(BadRequest, match="without a plane of luma"):
            motion(path, FrameOptions(pixels="luma"))
    else:
        check(path, FrameOptions(pixels="luma", threshold=40), None, times=times)


@pytest.mark.parametrize("matrix", [1, 5])
def test_the_matrix_that_the_file_names_is_honoured_and_the_usual_one_is_bt_601(tmp_path: Path, matrix: int) -> None:
    def named(stream: Any) -> None:
        stream.codec_context.colorspace = matrix

    path = make(tmp_path, "mp4", "libx264", "yuv420p", prepare=named)
    check(path, FrameOptions(), "gray")
    check(path, FrameOptions(pixels="rgb"), "rgb24")
    unnamed = make(tmp_path, "matroska", "libx264", "yuv420p")
    same = motion(path, FrameOptions(pixels="rgb")) == motion(unnamed, FrameOptions(pixels="rgb"))
    assert same == (matrix == 5)


OPEN = {"x265-params": "log-level=none:open-gop=1:keyint=6:min-keyint=6:bframes=2:scenecut=0"}
CLOSED = {"x265-params": "log-level=none:open-gop=0:keyint=6:min-keyint=6:bframes=2:scenecut=0:radl=2"}


@pytest.mark.parametrize(
    ("encoder", "options", "least"),
    [
        ("libx265", OPEN, 4),
        ("libx265", CLOSED, 4),
        ("libx264", {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=2:scenecut=0"}, 1),
        ("libx264", {"g": "6", "intra-refresh": "1", "bf": "0"}, 1),
        ("libx264", {"g": "1", "bf": "0"}, 19),
        ("libx264", {"x264-params": "keyint=6:bframes=3:b-pyramid=normal:ref=5"}, 4),
        ("libx264", {"x264-params": "keyint=8:interlaced=1"}, 3),
        ("libx264", {"g": "999", "bf": "3"}, 1),
    ],
)
def test_open_groups_refreshes_and_fields_give_the_frames_of_the_whole_file(
    tmp_path: Path, encoder: str, options: dict[str, str], least: int
) -> None:
    path = make(tmp_path, "mp4", encoder, "yuv420p", options=options, frames=30)
    assert check(path, FrameOptions(), "gray")[0] >= least
    check(path, FrameOptions(cut_at="frames"), "gray")


def test_a_variable_frame_rate_keeps_its_time_stamps(tmp_path: Path) -> None:
    times = [0, 7, 40, 41, 300, 333, 1000, 1001, 1017, 5000, 60_000, 60_001]
    for container in ("mp4", "matroska"):
        path = make(tmp_path, container, "libx264", "yuv420p", frames=12, times=times)
        check(path, FrameOptions(), "gray")
        assert reference.decoded(path)[1] == [at / 1000 for at in times]


@pytest.mark.parametrize(("encoder", "pixel_format"), [("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_a_chunk_without_a_frame_takes_time_in_avi(tmp_path: Path, encoder: str, pixel_format: str) -> None:
    """FFmpeg writes one for each place between two time stamps that has no frame."""
    times = [0, 1, 2, 5, 6, 9, 12, 13, 40, 41]
    path = make(tmp_path, "avi", encoder, pixel_format, frames=10, times=times, options={"bf": "0"})
    check(path, FrameOptions(), "gray", times=[at / 1000 for at in times])


def test_frames_that_an_edit_list_hides_have_no_line(tmp_path: Path) -> None:
    path = make(tmp_path, "mp4", "libx264", "yuv420p")
    body = bytearray(path.read_bytes())
    at = body.index(b"elst") + 16
    (media_time,) = struct.unpack(">i", body[at : at + 4])
    shift = 4 * 512
    body[at : at + 4] = struct.pack(">i", media_time + shift)
    path.write_bytes(body)
    frames, times = reference.decoded(path)
    assert 0 < len(frames) < 20
    assert None not in times
    check(path, FrameOptions(), "gray")
    check(path, FrameOptions(cut_at="frames"), "gray")


def test_shards_can_be_asked_for_by_number(tmp_path: Path) -> None:
    path = make(tmp_path, "mp4", "libx264", "yuv420p")
    whole = motion(path)
    for shards in (1, 2, 4):
        assert len(cut(FrameMotion(), path, FrameOptions(), SplitRequest(shards=shards))) == shards
        assert motion(path, None, SplitRequest(shards=shards)) == whole
    frames = FrameOptions(cut_at="frames")
    assert len(cut(FrameMotion(), path, frames, SplitRequest(shards=7))) == 7
    assert motion(path, frames, SplitRequest(shards=7)) == whole
    with pytest.raises(BadRequest, match="4 groups of pictures"):
        motion(path, None, SplitRequest(shards=5))


def test_a_long_group_is_given_to_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, "mp4", "libx264", "yuv420p", options={"g": "999"})
    monkeypatch.setattr("regather.kinds.video.video_cut._SHARD_PIXELS", 3 * 64 * 48)
    assert check(path, FrameOptions(), "gray") == [4, 4, 4, 4]
    monkeypatch.setattr("regather.kinds.video.video_cut._GROUP_PIXELS", 10 * 64 * 48)
    assert {piece.meta == META for piece in cut(FrameMotion(), path, FrameOptions(), SplitRequest())} == {False}
    with pytest.raises(BadInput, match="keyframe at frame 0 begins 20 frames"):
        motion(path, FrameOptions(cut_at="keyframes"))


def test_a_background_that_fits_no_carry_is_cut_into_stripes(tmp_path: Path) -> None:
    size = (1920, 1088)
    path = make(tmp_path, "mp4", "libx264", "yuv420p", frames=3, size=size, options={"g": "2", "bf": "0"})
    frames, times = reference.decoded(path, "rgb24")
    options = FrameOptions(pixels="rgb")
    pieces = cut(FrameTrack(), path, options, SplitRequest())
    assert len(pieces) == 3
    assert answer(FrameTrack(), pieces, options) == reference.lines(reference.track(frames, 16, times))


def test_parameter_sets_that_change_make_pixels_travel(tmp_path: Path) -> None:
    path = make(tmp_path, "matroska", "libx264", "yuv420p")
    body = path.read_bytes()
    extradata_at = body.index(b"\x01\x64\x00\x0a\xff")
    nal = body[extradata_at + 8 : extradata_at + 8 + 4]
    assert nal[0] & 31 == 7
    changed = bytearray(body)
    changed[extradata_at + 8 + 3] ^= 1  # the level in the header's set is another one than encoders put into the stream
    path.write_bytes(changed)
    assert motion(path) == motion(path, FrameOptions(cut_at="frames"))


CORRUPT = [
    ("mp4", "libx264", "yuv420p"),
    ("matroska", "libx264", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("nut", "ffv1", "yuv420p"),
]


@pytest.mark.parametrize(("container", "encoder", "pixel_format"), CORRUPT)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(
    tmp_path: Path, container: str, encoder: str, pixel_format: str, share: float
) -> None:
    path = make(tmp_path, container, encoder, pixel_format)
    body = path.read_bytes()
    path.write_bytes(body[: int(len(body) * share)])
    with pytest.raises(BadInput) as caught:
        motion(path)
    assert_own_words(caught.value, path)


def test_an_mp4_without_its_index_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = make(tmp_path, "mp4", "libx264", "yuv420p")
    body = path.read_bytes()
    path.write_bytes(body[: body.index(b"moov") - 4])
    with pytest.raises(BadInput, match="no 'moov' box"):
        motion(path)


@pytest.mark.parametrize("cut_at", ["auto", "frames"])
@pytest.mark.parametrize(
    ("container", "encoder", "pixel_format", "at"),
    [
        ("matroska", "ffv1", "yuv420p", 0.5),
        ("mp4", "libx264", "yuv420p", 0.25),
        ("mp4", "libx265", "yuv420p", 0.55),
        ("mp4", "mpeg4", "yuv420p", 0.4),
        ("webm", "libvpx-vp9", "yuv420p", 0.5),
        ("avi", "mjpeg", "yuvj420p", 0.5),
    ],
)
def test_damage_that_a_decoder_conceals_is_refused(
    tmp_path: Path, container: str, encoder: str, pixel_format: str, at: float, cut_at: str
) -> None:
    path = make(tmp_path, container, encoder, pixel_format)
    body = bytearray(path.read_bytes())
    begin = int(len(body) * at)
    body[begin : begin + 120] = b"\xff" * 120
    path.write_bytes(body)
    with pytest.raises(UserError) as caught:
        motion(path, FrameOptions.model_validate({"cut_at": cut_at}))
    assert isinstance(caught.value, BadInput | PermanentError)
    assert_own_words(caught.value, path)


def test_damage_is_refused_as_often_as_it_is_sent(tmp_path: Path) -> None:
    """Its decoder says the same words again; they must not count as said."""
    path = make(tmp_path, "avi", "mjpeg", "yuvj420p")
    content = path.read_bytes()
    picture = content.index(b"\xff\xda") + 400
    path.write_bytes(content[:picture] + content[picture : picture + 20] + content[picture:])
    for _ in range(3):
        with pytest.raises(BadInput, match="the video is damaged at frame"):
            motion(path)


def assert_own_words(error: UserError, path: Path) -> None:
    text = str(error)
    assert not re.search(r"Invalid data|Errno|libav|avcodec|moov atom|\[h264|0x[0-9a-f]{6}|\.py", text)
    assert str(path.parent) not in text
    assert len(text) > 30


def test_an_encrypted_video_is_refused(tmp_path: Path) -> None:
    secret = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    path = make(tmp_path, "mp4", "libx264", "yuv420p", container_options=secret)
    with pytest.raises(BadInput, match="encrypted"):
        motion(path)


def test_a_file_that_asks_for_memory_it_may_not_have_says_so_in_our_words(tmp_path: Path) -> None:
    path = make(tmp_path, "mp4", "libx264", "yuv420p")
    body = bytearray(path.read_bytes())
    at = body.index(b"stts") + 8
    body[at : at + 4] = struct.pack(">I", 0x1FFFFFFF)
    path.write_bytes(body)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + (1 << 30), hard))
    try:
        with pytest.raises((MemoryError, BadInput)) as caught:
            motion(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert not re.search("Errno|error log|none", str(caught.value))


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(BadInput, match="no video, but audio"):
        motion(path)


def test_sound_with_a_cover_picture_is_refused(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream, cover = output.add_stream("aac", rate=48_000, layout="mono"), output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        output.mux(cover.encode(av.VideoFrame(32, 32, "yuvj420p")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(BadInput, match="no video, but a cover picture and audio"):
        motion(path)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path, "avi", "rawvideo", "bgr24", frames=1)
    body = bytearray(path.read_bytes())
    body[body.index(b"00dc", body.index(b"movi")) :][:4] = b"JUNK"
    at = body.index(b"00dc", body.index(b"movi"))
    body[at : at + 4] = b"JUNK"
    path.write_bytes(body)
    with pytest.raises(BadInput, match="no frames"):
        motion(path)


def test_an_absurd_size_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    path = make(tmp_path, "avi", "rawvideo", "bgr24", frames=1)
    body = bytearray(path.read_bytes())
    at = body.index(b"strf") + 12
    assert struct.unpack("<ii", body[at : at + 8]) == (64, -48)
    body[at : at + 8] = struct.pack("<ii", 30_000, -30_000)
    path.write_bytes(body)
    with pytest.raises(BadInput, match="codec or size is unknown"):
        motion(path)


def test_frames_that_change_their_size_are_refused_with_the_number(tmp_path: Path) -> None:
    import av

    path = tmp_path / "mixed.avi"
    with av.open(str(path), "w") as output:
        for width in (64, 32):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, 48, "yuvj420p", Fraction(1, 25)
            if width == 64:
                stream = output.add_stream("mjpeg", rate=25)
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            for at, picture in enumerate(video_files.pictures(3, width, 48)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
                frame.pts = at + (0 if width == 64 else 3)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    output.mux(packet)
    with pytest.raises(BadInput, match=r"frame 3 is 32 x 48 .*, the first one 64 x 48"):
        motion(path)


def test_options_that_the_file_contradicts_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path, "mp4", "libx264", "yuv420p")
    assert motion(path, FrameOptions(width=64, height=48)) == motion(path)
    with pytest.raises(BadInput, match="option width is 65, but the file says 64"):
        motion(path, FrameOptions(width=65, height=48))
    with pytest.raises(BadRequest, match="pixel_format is for raw frames"):
        motion(path, FrameOptions(pixel_format="rgb24"))


def test_a_limit_on_pixels_holds_where_pixels_travel(tmp_path: Path) -> None:
    path = make(tmp_path, "matroska", "ffv1", "gray")
    body = path.read_bytes()
    request = SplitRequest(1024, size_bytes=len(body), head=body[:HEAD_BYTES], max_bytes=5 * 64 * 48)
    splitter = FrameMotion().splitter(FrameOptions(), request)
    assert isinstance(splitter, FileSplitter)
    with pytest.raises(BadInput, match="the first 6 frames"):
        list(splitter.cut(path))


def test_a_shard_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path, "mp4", "libx264", "yuv420p")
    kind, options = FrameMotion(), FrameOptions()
    (piece, *_) = cut(kind, path, options, SplitRequest(1024))
    for payload, why in (
        (piece.payload[:-1], "another length"),
        (b"", "has no valid frames"),
        (piece.payload.replace(b'"frame":0', b'"frame":"x"'), "has no valid frames|frame"),
        (re.sub(rb'"shown":\[0,', b'"shown":[7,', piece.payload), "not where the file's index has it"),
    ):
        head = int.from_bytes(piece.payload[:4], "little") + len(payload) - len(piece.payload)
        changed = (
            payload if why in ("another length", "has no valid frames") else head.to_bytes(4, "little") + payload[4:]
        )
        with pytest.raises(PermanentError, match=why):
            kind.process(ShardView(changed, piece.meta, 0, 0), options)


def reference_file(folder: Path) -> Path:
    """Return a MOV whose samples stand in another file, named by an alias of its data reference."""
    outside = folder / "outside.raw"
    outside.write_bytes(bytes(range(256)) * 64)
    path = video_files.encode(folder / "inside.mov", "rawvideo", "rgb24", "mov", frames=4)
    name = str(outside).encode()
    record = bytes(150 - 8) + struct.pack(">hh", 18, len(name)) + name + struct.pack(">hh", -1, 0)
    alias = b"alis" + bytes(4) + record
    body = path.read_bytes()
    at = body.index(b"dref") - 4
    old = body[at : at + 28]
    new = struct.pack(">I", 8 + len(alias) + 8 + 4) + b"dref" + bytes(4) + struct.pack(">I", 1)
    new += struct.pack(">I", 4 + len(alias)) + alias
    grown = len(new) - len(old)
    changed = bytearray(body.replace(old, new))
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = changed.index(kind) - 4
        changed[place : place + 4] = struct.pack(">I", struct.unpack(">I", changed[place : place + 4])[0] + grown)
    path.write_bytes(changed)
    return path


def test_a_reference_to_another_file_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        motion(reference_file(tmp_path))
    assert "outside" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile /etc/passwd\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n",
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 9 RTP/AVP 96\r\n",
    ],
)
@pytest.mark.parametrize("format_", ["auto", "video"])
def test_lists_of_other_files_are_no_video(tmp_path: Path, text: str, format_: str) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(text)
    body = path.read_bytes()
    request = SplitRequest(1024, size_bytes=len(body), head=body[:HEAD_BYTES])
    with pytest.raises(BadInput, match="format=raw"):
        FrameMotion().splitter(FrameOptions.model_validate({"format": format_}), request)


def test_no_protocol_is_open_to_a_demuxer(tmp_path: Path) -> None:
    import av

    from regather.kinds.video import decoder

    target = make(tmp_path, "mp4", "libx264", "yuv420p")
    listing = tmp_path / "list.txt"
    listing.write_text(f"ffconcat version 1.0\nfile {target.name}\n")
    for options, opens in (({"safe": "0"}, True), ({**decoder._OPEN, "safe": "0"}, False)):
        try:
            with av.open(str(listing), format="concat", options=options) as container:
                found = bool(list(container.decode(video=0)))
        except (av.FFmpegError, OSError):
            found = False
        assert found == opens


def test_times_are_exact_rationals() -> None:
    from regather.kinds.video.frame_shards import microseconds

    assert microseconds(1, Fraction(1, 3)) == 333_333
    assert microseconds(10**15 + 1, Fraction(1001, 30_000)) == round(Fraction(1001 * (10**15 + 1) * 10**6, 30_000))
    assert microseconds(None, Fraction(1, 3)) is None


def test_large_decoded_frames_that_travel_as_pixels_give_the_figures_of_the_loop(tmp_path: Path) -> None:
    path = make(tmp_path, "matroska", "ffv1", "yuv420p", frames=2, size=(3840, 2160))
    frames, times = reference.decoded(path, "rgb24")
    options = FrameOptions(pixels="rgb")
    pieces = cut(FrameMotion(), path, options, SplitRequest())
    assert len(pieces) > 20
    assert answer(FrameMotion(), pieces, options) == reference.lines(reference.motion(frames, 16, times))
    grey, _ = reference.decoded(path, "gray")
    pieces = cut(FrameTrack(), path, FrameOptions(), SplitRequest())
    assert answer(FrameTrack(), pieces, FrameOptions()) == reference.lines(reference.track(grey, 16, times))
