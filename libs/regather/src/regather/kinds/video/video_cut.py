"""Cuts coded video files. The file is complete, and this runs in a killable child.

There are two ways; ADR 0025 has the figures that decided between them:

- *At keyframes.* If the codec's own rules say where a decoder can begin (`random_access.py`), packets are sent as they
  are in the file, and workers decode them. A shard is one group of pictures or several. `frames.motion` needs the frame
  before each one, so a shard also gets the packet that begins the next group, and makes the line of that frame.
- *As frames.* Otherwise this child decodes the file once for each stripe of the frames, and pixels are sent.

In both cases the frames are those of decoding the whole file, in the order in which they are shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from typing_extensions import override

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES, check_asked_shards, check_shard_size
from regather.kinds.video import y4m
from regather.kinds.video.decoder import Damaged, Pixels, VideoFile, damaged_at, open_video
from regather.kinds.video.frame_shards import (
    Clock,
    FrameLayout,
    Stripe,
    carried_stripes,
    row_splitter,
    stripes,
    with_extra,
    with_usual_size,
)
from regather.kinds.video.packet_shards import META, CodedStream, PacketShard
from regather.kinds.video.pixel_cut import check_asked
from regather.kinds.video.random_access import CodedFrame, Group, Uncuttable, groups, rules_of
from regather.processors.base import FileSplitter, Piece, SplitRequest

_SHARD_PIXELS = 128_000_000
"""Most pixels that a shard of several groups decodes: a second or two of work."""

_GROUP_PIXELS = 2_500_000_000
"""Most pixels of one group of pictures, 300 frames in 4K: it takes about ten seconds to reach its last frame."""

_HUGE_BYTES = 64 * 1024 * 1024
_PER_PACKET_BYTES = 64
_HEAD_BYTES = 16 * 1024
_MAX_TIMES = 16_384


@dataclass(frozen=True, slots=True)
class VideoWish:
    """Options for a video: its container, the requested values, where to cut, and its size if the client set it."""

    container: str
    pixels: str
    cut_at: str
    width: int | None = None
    height: int | None = None


class VideoCut(FileSplitter):
    """Cuts a video file at keyframes, or as frames. BadInput if it is not such a video, or is damaged anywhere."""

    def __init__(self, wish: VideoWish, request: SplitRequest, *, halo: int, carries: bool) -> None:
        self._wish = wish
        self._request = request
        self._halo = halo
        self._carries = carries
        if request.shards is not None:
            check_asked_shards(request.shards)
        elif request.shard_size_bytes is not None:
            check_shard_size(request.shard_size_bytes)

    @override
    def cut(self, path: Path) -> Iterator[Piece]:
        if self._wish.container == "y4m":
            yield from self._frames_of_y4m(path)
            return
        with open_video(path, self._wish.container) as video:
            pixels = self._probed(video)
            stream = CodedStream.of(video.stream.codec_context, video.time_base, pixels.picture)
        try:
            coded, plan = self._plan(path, pixels)
        except Uncuttable as reason:
            if self._wish.cut_at == "keyframes":
                raise BadInput(
                    f"the video cannot be cut at keyframes: {reason}; leave cut_at out", code="bad-split"
                ) from None
            yield from self._as_frames(path, pixels.layout, Clock(time_base=stream.time_base))
        else:
            for stripe in carried_stripes(pixels.layout) if self._carries else [Stripe(0, pixels.layout.values)]:
                yield from _packet_pieces(path, self._wish.container, _Coded(stream, coded, plan, stripe, self._halo))

    def _frames_of_y4m(self, path: Path) -> Iterator[Piece]:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            header = y4m.parse_header(file.read(1024))

            def read(offset: int, count: int) -> bytes:
                file.seek(offset)
                return file.read(count)

            if header is None:
                raise BadInput("the body ends inside the y4m header")
            for _ in y4m.frame_offsets(read, size_bytes, header):
                pass  # this refuses a file that is cut off, and names the frame and the byte
        with open_video(path, "y4m") as video:
            layout = self._probed(video).layout
        yield from self._as_frames(path, layout, Clock(rate=header.rate))

    def _probed(self, video: VideoFile) -> Pixels:
        first = next(video.frames(), None)
        if first is None:
            raise BadInput("the video has no frames: there is nothing to cut", code="empty-body")
        pixels = Pixels(self._wish.pixels, first)
        for name in ("width", "height"):
            asked, found = getattr(self._wish, name), getattr(pixels.picture, name)
            if asked is not None and asked != found:
                raise BadInput(f"option {name} is {asked}, but the file says {found}")
        return pixels

    def _plan(self, path: Path, pixels: Pixels) -> tuple[list[CodedFrame], list["_Run"]]:
        """Return the file's packets and which of them go together; Uncuttable if pixels have to be sent."""
        if self._wish.cut_at == "frames":
            raise Uncuttable
        if self._wish.container == "avi":
            raise Uncuttable("AVI has no time stamps")
        coded = _index(path, self._wish.container)
        found = [group for group in groups(coded) if group.frames]
        if not found:
            raise BadInput("the video has no frames: there is nothing to cut", code="empty-body")
        frame_pixels = pixels.picture.width * pixels.picture.height
        for group, following in zip(found, [*found[1:], None], strict=True):
            size_bytes = _payload_bytes(group.size_bytes, group.frames)
            size_bytes += coded[following.first].size_bytes if following is not None else 0
            if size_bytes > MAX_SHARD_BYTES or group.frames * frame_pixels > _GROUP_PIXELS:
                raise Uncuttable(
                    f"the keyframe at frame {group.frame} begins {group.frames} frames in {group.size_bytes} bytes, "
                    f"more than one shard may have; encode the video with a keyframe every 2 seconds"
                )
        return coded, _runs(found, self._request, frame_pixels)

    def _as_frames(self, path: Path, layout: FrameLayout, clock: Clock) -> Iterator[Piece]:
        request = self._request
        if layout.values * layout.item_bytes > _HUGE_BYTES:  # many stripes are held at once: large ones in short shards
            request = replace(request, shard_size_bytes=MAX_SHARD_BYTES)
        cut = stripes(layout, request, carries=self._carries, wide=layout.values * layout.item_bytes > _HUGE_BYTES)
        check_asked(request, cut)
        if request.shards is not None:
            layout = replace(layout, frames=self._count(path))
        elif clock.time_base is not None and len(cut) == 1:
            most_bytes = max(1024, _MAX_TIMES * layout.values * layout.item_bytes)
            request = replace(
                request,
                shard_size_bytes=min(most_bytes, with_usual_size(layout, request).shard_size_bytes or most_bytes),
            )
        # A chain needs all frames of a stripe before the next stripe; otherwise one decoding feeds all stripes.
        for together in [[stripe] for stripe in cut] if self._carries else [cut]:
            yield from self._cut_stripes(path, layout, clock, together, request)

    def _cut_stripes(
        self, path: Path, layout: FrameLayout, clock: Clock, together: Sequence[Stripe], request: SplitRequest
    ) -> Iterator[Piece]:
        cutting = [(stripe, row_splitter(layout, stripe, request, self._halo)) for stripe in together]
        pts: list[int | None] = []

        def extra(first: int, count: int) -> dict[str, Any]:
            return clock.encode(pts[first : first + count])

        for shown_at, values in self._values(path):
            pts.append(shown_at)
            self._check_volume(len(pts), layout)
            for stripe, rows in cutting:
                pieces = rows.feed(values[stripe.first : stripe.first + stripe.count].tobytes())
                yield from with_extra(iter(pieces), layout, stripe, extra)
        for stripe, rows in cutting:
            yield from with_extra(iter(rows.finish()), layout, stripe, extra)

    def _values(self, path: Path) -> Iterator[tuple[int | None, Any]]:
        """Yield when each frame is shown, and its values. AVI has a fixed rate and no time stamps."""
        with open_video(path, self._wish.container, again=True) as video:
            pixels: Pixels | None = None
            for number, frame in enumerate(video.frames()):
                pixels = pixels or Pixels(self._wish.pixels, frame)
                shown_at = video.slot(number) if self._wish.container == "avi" else frame.pts
                yield shown_at, pixels.values(frame, number)

    def _count(self, path: Path) -> int:
        with open_video(path, self._wish.container, again=True) as video:
            return sum(1 for _ in video.frames())

    def _check_volume(self, frames: int, layout: FrameLayout) -> None:
        limit = self._request.max_bytes
        size_bytes = frames * layout.values * layout.item_bytes
        if limit is not None and size_bytes > limit:
            raise BadInput(
                f"the first {frames} frames have {size_bytes} bytes of pixels; at most {limit}. H.264, HEVC and VP9 in MP4 "
                "or Matroska with a keyframe every few seconds are cut without decoding them, and have no such limit",
                code="inflates-too-much",
            )


def _index(path: Path, container: str) -> list[CodedFrame]:
    coded: list[CodedFrame] = []
    with open_video(path, container, again=True) as video:
        context = video.stream.codec_context
        fresh = rules_of(context.codec.canonical_name, bytes(context.extradata or b""))
        try:
            for packet in video.packets():
                if packet.pts is None or any(True for _ in packet.iter_sidedata()):
                    raise Uncuttable("its packets have no time stamps, or have side data for the decoder")
                begins = fresh(bytes(packet)) and packet.is_keyframe
                coded.append(CodedFrame(packet.pts, not packet.is_discard, packet.size, begins))
        except Damaged:
            raise damaged_at(len(coded)) from None
    return coded


@dataclass(frozen=True, slots=True)
class _Run:
    """Groups that are sent together; `first`, `leading`, `end`, `frame` and `frames` are as in Group."""

    first: int
    leading: int
    end: int
    frame: int
    frames: int
    parts: int = 1
    """Number of shards that get these packets, each for a part of their frames."""


def _runs(found: Sequence[Group], request: SplitRequest, frame_pixels: int) -> list[_Run]:
    if request.shards is not None:
        return _counted_runs(found, request.shards)
    limit = request.shard_size_bytes or DEFAULT_SHARD_BYTES
    runs: list[list[Group]] = []
    for group in found:
        last = runs[-1] if runs else []
        size_bytes = _payload_bytes(sum(one.size_bytes for one in last) + group.size_bytes, group.frames)
        frames = sum(one.frames for one in last) + group.frames
        if last and size_bytes <= limit and frames * frame_pixels <= _SHARD_PIXELS:
            last.append(group)
        else:
            runs.append([group])
    return [_run(run, frame_pixels) for run in runs]


def _counted_runs(found: Sequence[Group], shards: int) -> list[_Run]:
    if shards > len(found):
        raise BadRequest(
            f"shards={shards} is more than the {len(found)} groups of pictures of the video, which are never cut; "
            "set cut_at=frames to cut between any two frames",
            code="bad-split",
        )
    edges = [len(found) * at // shards for at in range(shards + 1)]
    runs = [found[first:end] for first, end in pairwise(edges)]
    for run in runs:
        size_bytes = _payload_bytes(sum(group.size_bytes for group in run), sum(group.frames for group in run))
        if size_bytes > MAX_SHARD_BYTES:
            raise BadRequest(
                f"shards={shards} would give shards above the limit of {MAX_SHARD_BYTES} bytes; ask for more",
                code="bad-split",
            )
    return [_run(run, 0) for run in runs]


def _run(run: Sequence[Group], frame_pixels: int) -> _Run:
    frames = sum(group.frames for group in run)
    parts = max(1, -(-frames * frame_pixels // (2 * _SHARD_PIXELS)))
    return _Run(run[0].first, run[0].leading, run[-1].end, run[0].frame, frames, parts)


def _payload_bytes(packet_bytes: int, packets: int) -> int:
    return packet_bytes + _HEAD_BYTES + _PER_PACKET_BYTES * packets


@dataclass(frozen=True, slots=True)
class _Coded:
    """Everything about a video that is cut at keyframes, and the requested stripe of its frames."""

    stream: CodedStream
    coded: Sequence[CodedFrame]
    runs: Sequence[_Run]
    stripe: Stripe
    halo: int

    def tail(self, following: _Run | None) -> int:
        """Return how many packets of the next run its predecessor needs, to compare with or to decode leading pictures."""
        return 1 + following.leading if following is not None and (self.halo or following.leading) else 0

    def shards(self, run: _Run, packets: Sequence[Any], following: _Run | None) -> Iterator[PacketShard]:
        """Yield the shards of a run. `packets` are its own, followed by those of tail()."""
        kept = [at for at in range(len(packets)) if not 0 < at <= run.leading]
        shown = sorted(self.coded[run.first + at].pts for at in kept if self.coded[run.first + at].shown)
        first, end = run.frame, run.frame + run.frames
        if self.halo:  # the run before makes the line of this run's first frame
            first, end = first + (first > 0), end + (following is not None)
        edges = [first + (end - first) * at // run.parts for at in range(run.parts + 1)]
        for begin, behind in pairwise(edges):
            if begin < behind:
                yield PacketShard(
                    self.stream,
                    [bytes(packets[at]) for at in kept],
                    [packets[at].pts for at in kept],
                    [packets[at].dts for at in kept],
                    shown,
                    run.frame,
                    begin,
                    behind,
                    self.stripe,
                )


def _packet_pieces(path: Path, container: str, coded: _Coded) -> Iterator[Piece]:
    with open_video(path, container, again=True) as video:
        packets = video.packets()
        at, held = 0, list[Any]()
        for run, following in zip(coded.runs, [*coded.runs[1:], None], strict=True):
            need = run.end + coded.tail(following)
            held = held[len(held) - (at - run.first) :]
            try:
                held += islice(packets, need - at)
            except Damaged:
                raise damaged_at(run.frame) from None
            at = need
            for shard in coded.shards(run, held, following):
                yield _piece(shard)


def _piece(shard: PacketShard) -> Piece:
    payload = shard.encode()
    if len(payload) > MAX_SHARD_BYTES:
        raise BadInput(
            f"the frames from {shard.frame} on have {len(payload)} bytes as a shard; at most {MAX_SHARD_BYTES}: "
            "ask for a smaller shard_size, or set cut_at=frames",
            code="bad-split",
        )
    return Piece(payload, META)
