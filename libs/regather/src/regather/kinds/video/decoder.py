"""PyAV in strict mode: everything that a decoder conceals, guesses or warns of is refused. Runs only in killable children.

It uses one thread, FFmpeg's software decoders, and all their checks of the bit stream (`err_detect`). A decoder that
meets damage often returns a frame anyway, fills in the missing part from its neighbours, and reports that only in its
log. So the log of each call is checked; its text is not passed on. FFmpeg gets a file as bytes, never by name; the
container is the one that the first bytes show, and no protocol is allowed. So nothing inside a file makes FFmpeg open
another file.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from regather.core.errors import BadInput, BadRequest
from regather.kinds.video.container_ends import check_ends
from regather.kinds.video.frame_shards import MAX_FRAME_VALUES, FrameLayout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CODE = "video-invalid"
STRICT = {"err_detect": "crccheck+bitstream+buffer+explode", "max_pixels": str(MAX_FRAME_VALUES // 3)}
"""Options for every decoder."""

_DEMUXERS = {"mp4": "mov", "matroska": "matroska", "avi": "avi", "nut": "nut", "y4m": "yuv4mpegpipe"}
_OPEN = {
    "protocol_whitelist": "none",
    "format_whitelist": ",".join(_DEMUXERS.values()),
    "err_detect": "crccheck+explode",
    "max_streams": "64",
}
_LUMA = re.compile(r"(yuv[aj]?4[0-9]{2}p([0-9]+le)?|gray([0-9]+le)?|nv12|nv16)")
_ONE_FRAME_A_PACKET = frozenset(
    (
        "h264",
        "hevc",
        "vp9",
        "av1",
        "mpeg2video",
        "mjpeg",
        "ffv1",
        "prores",
        "png",
        "rawvideo",
        "huffyuv",
        "utvideo",
        "dnxhd",
    )
)
_HARMLESS = ("packed B-frames",)
"""Decoder warnings that are not about pixels."""

_ERROR, _WARNING = 16, 24


class Damaged(Exception):
    """A decoder has met damage, or has reported that it made something up."""


@contextmanager
def reported(*, decoding: bool) -> Iterator[None]:
    """Raise Damaged if libav fails, or for errors in its log; with `decoding` also for warnings."""
    import av

    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)  # otherwise the second of two files with the same damage would seem intact
    failed = False
    with av.logging.Capture() as log:
        try:
            yield
        except MemoryError:
            raise MemoryError("decoding this video needs more memory than it may have") from None
        except Exception:  # PyAV raises all kinds of exceptions for a damaged file
            failed = True
        finally:
            av.logging.set_level(None)
    if failed or any(_is_damage(*remark, decoding=decoding) for remark in log):
        raise Damaged


def _is_damage(level: int, name: str, text: str, *, decoding: bool) -> bool:
    """Whether a log entry of libav reports wrong data. Decoders probe a file that is opened; that is not yet damage."""
    if decoding:
        return level <= _WARNING and not any(word in text for word in _HARMLESS)
    return level <= _ERROR and any(demuxer in name for demuxer in _DEMUXERS.values())


@dataclass(frozen=True, slots=True)
class Picture:
    """Properties that all frames of a video share; a frame that differs is refused."""

    width: int
    height: int
    format: str
    color_range: int
    colorspace: int

    def __str__(self) -> str:
        return (
            f"{self.width} x {self.height} {self.format} of colour range {self.color_range}, matrix {self.colorspace}"
        )

    @classmethod
    def of(cls, frame: Any) -> "Picture":
        """Return the properties of a decoded frame."""
        return cls(frame.width, frame.height, frame.format.name, int(frame.color_range), int(frame.colorspace))


class Pixels:
    """Turns decoded frames of one video into rows of values: `gray`, `luma` or `rgb`. BadInput if that is impossible."""

    def __init__(self, wanted: str, first: Any) -> None:
        self._wanted = wanted
        self.picture = Picture.of(first)
        bits = max(part.bits for part in first.format.components)
        if bits > 16 or re.search("f(16|32)|^xyz", self.picture.format):
            raise BadInput(f"the video's pixels are {self.picture.format}; supported are at most 16 bits without sign")
        if wanted == "luma" and not _LUMA.fullmatch(self.picture.format):
            raise BadRequest(f"the video's pixels are {self.picture.format}, without a plane of luma; use pixels=gray")
        self._deep = bits > 8
        values = self.picture.width * self.picture.height * (3 if wanted == "rgb" else 1)
        self.layout = FrameLayout(values, "uint16" if self._deep else "uint8").check()

    def values(self, frame: Any, number: int) -> "NDArray[np.generic]":
        """Return a frame's values; BadInput if its properties differ from the first frame's."""
        found = Picture.of(frame)
        if found != self.picture:
            raise BadInput(f"frame {number} is {found}, the first one {self.picture}; all must be alike", code=CODE)
        if self._wanted == "luma":
            return self._luma(frame)
        import av

        names = ("rgb24", "rgb48le") if self._wanted == "rgb" else ("gray", "gray16le")
        with av.logging.Capture():  # swscale's hints are about speed and old names of formats
            values: NDArray[np.generic] = frame.to_ndarray(format=names[self._deep], threads=1)
        return values.ravel()

    def _luma(self, frame: Any) -> "NDArray[np.generic]":
        import numpy as np

        plane, item = frame.planes[0], self.layout.item_bytes
        rows = np.frombuffer(plane, f"<u{item}").reshape(-1, plane.line_size // item)
        return rows[: frame.height, : frame.width].ravel()


class _Bytes:
    """A file without its name, which PyAV would pass to FFmpeg."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


class VideoFile:
    """An open video file and its first stream of pictures."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container = container
        self.stream = stream
        self.time_base = Fraction(stream.time_base)
        self._slots: list[int] = []

    def packets(self) -> Iterator[Any]:
        """Yield the stream's packets in the order of the file; Damaged if one cannot be read."""
        packets = self._container.demux(self.stream)
        while True:
            with reported(decoding=False):
                packet = next(packets, None)
            if packet is None:
                return
            if packet.size == 0 and packet.dts is None:
                continue  # the end of the stream
            if packet.size == 0 or packet.is_corrupt:
                raise Damaged
            if packet.has_sidedata("encryption_info"):
                raise BadInput("the video is encrypted; send it decrypted", code=CODE)
            if packet.dts is not None:
                self._slots.append(packet.dts)
            yield packet

    def slot(self, number: int) -> int | None:
        """Return the time, in units of the time base, of the frame with this number; for files without time stamps.

        Packets are shown one after the other, whatever their order. A time without a packet keeps the frame before it.
        """
        return self._slots[number] if number < len(self._slots) else None

    def frames(self) -> Iterator[Any]:
        """Yield the decoded frames in the order in which they are shown. BadInput gives the number of a damaged frame."""
        number = 0
        expected = _Expected(self.stream.codec_context.codec.canonical_name)
        try:
            for packet in self.packets():
                expected.add(packet)
                for frame in decoded(self.stream.codec_context, packet):
                    yield frame
                    number += 1
            for frame in decoded(self.stream.codec_context, None):
                yield frame
                number += 1
        except Damaged:
            raise damaged_at(number) from None
        if expected.frames is not None and number != expected.frames:
            raise BadInput(
                f"the video has {expected.frames} coded frames, but its decoder returns {number}: it has left out what is "
                "damaged, and does not say which. Send an intact file",
                code=CODE,
            )


class _Expected:
    """Number of frames that a decoder must return: one per packet that is shown; None for codecs that may have more."""

    def __init__(self, codec: str) -> None:
        self._exact = codec in _ONE_FRAME_A_PACKET
        self._first_pts: int | None = None
        self._shown = 0

    def add(self, packet: Any) -> None:
        """Count a packet. Pictures shown before the file's first one depend on missing data, and are not counted."""
        if self._first_pts is None:
            self._first_pts = packet.pts
        leads = packet.pts is not None and self._first_pts is not None and packet.pts < self._first_pts
        self._shown += not packet.is_discard and not leads

    @property
    def frames(self) -> int | None:
        return self._shown if self._exact else None


def decoded(context: Any, packet: Any) -> list[Any]:
    """Return the frames that a packet completes (None: the remaining frames); Damaged if one is damaged."""
    with reported(decoding=True):
        try:
            frames = context.decode(packet)
        except EOFError:
            frames = []
    if any(frame.is_corrupt for frame in frames):
        raise Damaged
    return list(frames)


def damaged_at(frame: int) -> BadInput:
    """Return the refusal of a video with a frame that cannot be decoded without guessing."""
    return BadInput(
        f"the video is damaged at frame {frame} or soon after it: its decoder met data that do not make a whole frame. "
        "Nothing is guessed; send an intact file",
        code=CODE,
    )


@contextmanager
def open_video(path: Path, container: str, *, again: bool = False) -> Iterator[VideoFile]:
    """Open a file of this container (mp4, matroska, avi, nut, y4m); BadInput with the reason.

    `again`: the file was opened before and is known to be complete.
    """
    import av

    with path.open("rb") as file:
        size_bytes = path.stat().st_size

        def read(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        if not again:
            check_ends(container, read, size_bytes)
        file.seek(0)
        opened = None
        try:
            with reported(decoding=False):
                opened = av.open(_Bytes(file), format=_DEMUXERS[container], options=_OPEN, metadata_errors="replace")
        except Damaged:
            if opened is not None:
                opened.close()
            raise BadInput(
                f"the file begins like {container} but cannot be read as such: it is damaged or not finished", code=CODE
            ) from None
        try:
            yield VideoFile(opened, _stream(opened))
        finally:
            with av.logging.Capture():
                opened.close()


def _stream(container: Any) -> Any:
    pictures = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not pictures:
        found = {"a cover picture" if stream.type == "video" else stream.type for stream in container.streams}
        kinds = sorted(found) or ["nothing"]
        raise BadInput(f"the file has no video, but {' and '.join(kinds)}", code="no-video")
    stream = pictures[0]
    if stream.codec_context is None or not stream.codec_context.width:
        raise BadInput("the video's codec or size is unknown here; convert it to H.264", code=CODE)
    if stream.codec_context.width * stream.codec_context.height > MAX_FRAME_VALUES // 3:
        size = f"{stream.codec_context.width} x {stream.codec_context.height}"
        raise BadInput(f"the video's frames are {size}; at most 8192 x 8192 pixels are supported")
    strictly(stream.codec_context)
    return stream


def _is_cover(stream: Any) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def strictly(context: Any) -> None:
    """Make a decoder strict and repeatable before it is opened: one thread."""
    context.thread_count = 1
    context.options = {**(context.options or {}), **STRICT}
