"""A shard of coded video: whole groups of pictures as they stand in the file, and how a worker's child decodes them.

The payload is four bytes (the length of what follows, little-endian), a JSON document, and the packets one behind the
other. The document has what a decoder needs and what the frames must be, so that a decoder that gives other frames than
the file's index promises is noticed: their number, their time stamps, their size and format.
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
    """What a decoder needs besides packets. `colour` is what the container says where the stream does not."""

    codec: str
    extradata: bytes
    width: int
    height: int
    time_base: Fraction
    colour: dict[str, int]
    picture: Picture

    @classmethod
    def of(cls, context: Any, time_base: Fraction, picture: Picture) -> "CodedStream":
        """Return that of an open file's stream."""
        colour = {name: int(getattr(context, name)) for name in _COLOUR}
        extradata = bytes(context.extradata or b"")
        return cls(context.codec.name, extradata, context.width, context.height, time_base, colour, picture)


_COLOUR = ("color_range", "color_primaries", "color_trc", "colorspace")


@dataclass(frozen=True, slots=True)
class PacketShard:
    """Packets, the frames that they show, and which of these are asked for.

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
        """As a shard's payload."""
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
        """Read what encode() wrote; ValueError, TypeError or KeyError for anything else."""
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
        """Return when a frame is shown."""
        return microseconds(self.shown[number - self.frame], self.stream.time_base)

    def frames(self, pixels: str, begin: int) -> "Iterator[NDArray[np.generic]]":
        """Yield the values of the shard's stripe of its frames from number `begin` on. PermanentError for damage."""
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
        """Yield the frames that are shown; each must have the time stamp that the file's index has for it.

        The last one is held back until the decoder has nothing left to say.
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
        """Yield all frames; Damaged.

        FFmpeg's HEVC decoder leaves out the rest of a picture whose data end too early, and says nothing: what stands there
        is what its buffer had before. So it decodes the packets twice, the second time into used buffers.
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
            # Made so, it ends in zeros, into which decoders read on; Packet(bytes) ends in whatever stands there.
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
        f"frame {frame} is not where the file's index has it: the decoder gives another number or order of frames. "
        "Send the video with cut_at=frames, which decodes it as a whole"
    )
