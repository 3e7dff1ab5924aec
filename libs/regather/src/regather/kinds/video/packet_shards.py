"""A shard of coded video: whole groups of pictures as they are in the file, and how a worker's child decodes them.

The payload is four bytes (the length of the document, little-endian), a JSON document, and the packets one after the
other. The document has what a decoder needs, and what the frames must be: their number, time stamps, size and format.
So a decoder that returns other frames than the file's index lists is detected.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from regather.core.errors import PermanentError, UserError
from regather.kinds.video.decoder import Damaged, Picture, Pixels, damaged_at, decoded, strictly
from regather.kinds.video.frame_shards import Stripe, microseconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

META = b'{"packets":true}'
"""The `meta` of such a shard."""

_LENGTH_BYTES = 4
_DECODED_TWICE = ("hevc",)


@dataclass(frozen=True, slots=True)
class CodedStream:
    """What a decoder needs besides packets. `colour` comes from the container, for streams that lack it."""

    codec: str
    extradata: bytes
    width: int
    height: int
    time_base: Fraction
    colour: dict[str, int]
    picture: Picture

    @classmethod
    def of(cls, context: Any, time_base: Fraction, picture: Picture) -> "CodedStream":
        """Return the description of an open file's stream."""
        colour = {name: int(getattr(context, name)) for name in _COLOUR}
        extradata = bytes(context.extradata or b"")
        return cls(context.codec.name, extradata, context.width, context.height, time_base, colour, picture)


_COLOUR = ("color_range", "color_primaries", "color_trc", "colorspace")


@dataclass(frozen=True, slots=True)
class PacketShard:
    """Packets, the frames that they show, and which of these frames are requested.

    The packets show frames `frame` to `frame + len(shown) - 1`, at the time stamps `shown`. Lines are made for
    frames `first` to `end - 1`.
    """

    stream: CodedStream
    packets: Sequence[bytes]
    pts: Sequence[int]
    dts: Sequence[int | None]
    shown: Sequence[int]
    frame: int
    first: int
    end: int
    stripe: Stripe

    def encode(self) -> bytes:
        """Return a shard's payload."""
        stream = self.stream
        document = {
            "codec": stream.codec,
            "extradata": base64.b64encode(stream.extradata).decode(),
            "size": [stream.width, stream.height],
            "time_base": str(stream.time_base),
            "colour": stream.colour,
            "picture": asdict(stream.picture),
            "sizes": [len(packet) for packet in self.packets],
            "pts": list(self.pts),
            "dts": list(self.dts),
            "shown": list(self.shown),
            "frame": self.frame,
            "lines": [self.first, self.end],
            "stripe": list(asdict(self.stripe).values()),
        }
        head = json.dumps(document, separators=(",", ":")).encode()
        return b"".join([len(head).to_bytes(_LENGTH_BYTES, "little"), head, *self.packets])

    @classmethod
    def decode(cls, payload: bytes) -> "PacketShard":
        """Parse what encode() wrote; ValueError, TypeError or KeyError for anything else."""
        begin = _LENGTH_BYTES + int.from_bytes(payload[:_LENGTH_BYTES], "little")
        document = json.loads(payload[_LENGTH_BYTES:begin])
        packets, at = [], begin
        for size_bytes in document["sizes"]:
            packets.append(payload[at : at + size_bytes])
            at += size_bytes
        if at != len(payload):
            raise ValueError("its packets have another length")
        stream = CodedStream(
            document["codec"],
            base64.b64decode(document["extradata"]),
            document["size"][0],
            document["size"][1],
            Fraction(document["time_base"]),
            document["colour"],
            Picture(**document["picture"]),
        )
        first, end = document["lines"]
        stripe = Stripe(*document["stripe"])
        return cls(
            stream, packets, document["pts"], document["dts"], document["shown"], document["frame"], first, end, stripe
        )

    def time_us(self, number: int) -> int | None:
        """Return the time in microseconds at which a frame is shown."""
        return microseconds(self.shown[number - self.frame], self.stream.time_base)

    def frames(self, pixels: str, begin: int) -> "Iterator[NDArray[np.generic]]":
        """Yield the values of the shard's stripe, for its frames from number `begin` on. PermanentError for damage."""
        made: Pixels | None = None
        stripe = self.stripe
        number = self.frame
        for frame in self._decoded():
            try:
                made = made or self._pixels(pixels, frame)
                values = made.values(frame, number) if number >= begin else None
            except UserError as error:
                raise PermanentError(str(error)) from error
            if values is not None:
                yield values[stripe.first : stripe.first + stripe.count]
            number += 1

    def _pixels(self, pixels: str, frame: Any) -> Pixels:
        made = Pixels(pixels, frame)
        if made.picture != self.stream.picture:
            raise PermanentError(
                f"frame {self.frame} is {made.picture}, the video's first one {self.stream.picture}; all must be alike"
            )
        return made

    def _decoded(self) -> Iterator[Any]:
        """Yield the frames that are shown; each must have its time stamp from the file's index.

        The last frame is held back until the decoder has nothing more to report.
        """
        held, number = None, 0
        hidden = set(self.pts) - set(self.shown)
        try:
            for frame in self._all_decoded():
                if frame.pts in hidden:
                    continue
                if number >= len(self.shown) or frame.pts != self.shown[number]:
                    raise _disagrees(self.frame + number)
                if held is not None:
                    yield held
                held = frame
                number += 1
        except Damaged:
            raise PermanentError(str(damaged_at(self.frame + number))) from None
        if number < len(self.shown):
            raise _disagrees(self.frame + number)
        if held is not None:
            yield held

    def _all_decoded(self) -> Iterator[Any]:
        """Yield all frames; Damaged if one is damaged.

        If a picture's data end too early, FFmpeg's HEVC decoder silently leaves out the rest of the picture, which then
        shows the buffer's old content. So this method decodes the packets twice, the second time into used buffers.
        """
        context = self._context()
        if self.stream.codec not in _DECODED_TWICE:
            yield from self._once(context)
            return
        checksums = [_checksum(frame) for frame in self._once(context)]
        context.flush_buffers()
        for number, frame in enumerate(self._once(context)):
            if number >= len(checksums) or _checksum(frame) != checksums[number]:
                raise Damaged
            yield frame

    def _once(self, context: Any) -> Iterator[Any]:
        import av

        for packet_bytes, pts, dts in zip(self.packets, self.pts, self.dts, strict=True):
            # Such a packet ends in zeros, into which decoders read ahead; Packet(bytes) ends in undefined bytes.
            packet = av.Packet(len(packet_bytes))
            packet.update(packet_bytes)
            packet.pts, packet.dts, packet.time_base = pts, dts, self.stream.time_base
            yield from decoded(context, packet)
        yield from decoded(context, None)

    def _context(self) -> Any:
        import av

        stream = self.stream
        context: Any = av.CodecContext.create(stream.codec, "r")
        strictly(context)
        context.extradata = stream.extradata or None
        context.width, context.height = stream.width, stream.height
        for name, value in stream.colour.items():
            setattr(context, name, value)
        return context


def _checksum(frame: Any) -> int:
    """Return the CRC-32 of a frame's pixels, without the padding of its rows."""
    import numpy as np

    checksum = 0
    for plane in frame.planes:
        row_bytes = plane.width * (2 if frame.format.components[0].bits > 8 else 1)
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, :row_bytes]
        checksum = zlib.crc32(np.ascontiguousarray(rows).data, checksum)
    return checksum


def _disagrees(frame: int) -> PermanentError:
    return PermanentError(
        f"frame {frame} is not where the file's index has it: the decoder returns another number or order of frames. "
        "Send the video with cut_at=frames, which decodes it as a whole"
    )
