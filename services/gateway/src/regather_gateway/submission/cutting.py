"""Cuts one body into pieces, while it arrives or as a file in a killable child, and makes shard records of them."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace

from regather.children.file_cut import CutLost, FileCutter
from regather.core.errors import BadInput
from regather.core.model import OnError, Opened
from regather.processors.base import HEAD_BYTES, ArrivingFileSplitter, FileSplitter, Piece, Splitter
from regather.topics.layout import SHARD_RECORD_BYTES
from regather.transport.base import Headers
from regather.wire.shards import ShardEncoder
from regather_gateway.problems import Problem
from regather_gateway.submission.job_spec import JobSpec
from regather_gateway.submission.spool_dir import SpoolDir

_RETRY_AFTER_S = 2
MAX_PIECE_BYTES = SHARD_RECORD_BYTES - 64 * 1024
"""Largest payload of a shard, including the halo of its neighbours: a record less 64 KiB for headers."""

Runs = AsyncGenerator[Iterable[Piece], None]


class CountedBody:
    """Iterates over a body and keeps its length and digest so far."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes read so far."""
        return self._digest.digest()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._digest.update(chunk)
        self.size_bytes += len(chunk)
        return chunk

    async def head(self, size_bytes: int) -> bytes:
        """Return the next chunks, at least `size_bytes` in all unless the body ends before."""
        chunks: list[bytes] = []
        while size_bytes > 0 and (chunk := await anext(self, b"")):
            chunks.append(chunk)
            size_bytes -= len(chunk)
        return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class Cutting:
    """Turns bodies into pieces."""

    spool: SpoolDir
    files: FileCutter

    async def pieces(self, spec: JobSpec, body: CountedBody) -> Runs:
        """Yield the pieces in runs. Raises BadInput for a body that cannot be cut, Problem 503 if a child was lost."""
        head = await body.head(HEAD_BYTES)
        spec = spec.begun()
        splitter = spec.splitter(head[:HEAD_BYTES])
        wanted_bytes = _inspected_bytes(spec, splitter)
        if wanted_bytes:
            head += await body.head(wanted_bytes - len(head))
            splitter = await self._inspected(spec, splitter, head, wanted_bytes)
        runs = (
            self._of_file(spec, head, body) if isinstance(splitter, FileSplitter) else _of_stream(splitter, head, body)
        )
        del spec  # frees the side file; the plan has everything that is needed of it
        async with contextlib.aclosing(runs):
            async for run in runs:
                yield run

    async def _inspected(
        self, spec: JobSpec, splitter: Splitter | FileSplitter, head: bytes, wanted_bytes: int
    ) -> Splitter | FileSplitter:
        """Let a child inspect the head, and return the splitter for the resulting plan."""
        try:
            plan = await self.files.inspect(spec.kind, spec.options_json, spec.split, head[:wanted_bytes])
        except CutLost as error:
            raise _lost(error) from error
        if not plan and isinstance(splitter, FileSplitter):
            return splitter
        planned = replace(spec, split=replace(spec.split, plan=plan, side=None)).splitter(head[:HEAD_BYTES])
        if isinstance(planned, FileSplitter):
            raise TypeError(f"{type(planned).__name__} cuts files: it must be chosen by the head alone")
        return planned

    async def _of_file(self, spec: JobSpec, head: bytes, body: CountedBody) -> Runs:
        async with self.spool.file() as file:
            await file.write(head)
            async for chunk in body:
                await file.write(chunk)
            await file.complete()
            request = replace(spec.split, size_bytes=file.size_bytes)
            pieces = self.files.pieces(spec.kind, spec.options_json, request, file.path)
            try:
                async with contextlib.aclosing(pieces):
                    async for piece in pieces:
                        yield (piece,)
            except CutLost as error:
                raise _lost(error) from error


class ShardRecords:
    """Makes the records of one job's shards; `timeout_ms` is the execution limit of each."""

    def __init__(self, opened: Opened, timeout_ms: int) -> None:
        skip = opened.on_error is OnError.SKIP
        owner, kind, options = opened.owner, opened.kind, opened.options
        self._headers = ShardEncoder(owner, kind, options, timeout_ms, chained=opened.chained, skip=skip).headers
        self._seq = 0

    def of(self, pieces: Iterable[Piece]) -> Iterator[tuple[bytes, Headers]]:
        """Yield payload and headers of each piece; raises BadInput for one that is too large for a record."""
        for piece in pieces:
            if len(piece.payload) > MAX_PIECE_BYTES:
                raise BadInput(_too_large(self._seq, len(piece.payload)), code="shard-too-large")
            headers = self._headers(self._seq, piece.meta)
            self._seq += 1
            yield piece.payload, headers


def _inspected_bytes(spec: JobSpec, splitter: Splitter | FileSplitter) -> int:
    """Return how many bytes of the body a child inspects before the cut; 0 for none."""
    if isinstance(splitter, ArrivingFileSplitter):
        return splitter.inspect_bytes
    return 0 if isinstance(splitter, FileSplitter) else spec.processor.inspect_bytes


def _lost(error: CutLost) -> Problem:
    return Problem(503, "cut-lost", f"{error}; send the file again", retry_after_s=_RETRY_AFTER_S)


async def _of_stream(splitter: Splitter, head: bytes, body: CountedBody) -> Runs:
    last = head
    async for chunk in body:
        yield splitter.feed(last)
        last = chunk
    # Cut the last chunk only after the whole body has passed its checks: a small, wrong body then sends no shard.
    yield [*splitter.feed(last), *splitter.finish()]


def _too_large(seq: int, size_bytes: int) -> str:
    return (
        f"shard {seq} would have {size_bytes} bytes, above the limit of {MAX_PIECE_BYTES}: ask for a smaller "
        "shard_size; if one row is that long, the input cannot be processed"
    )
