"""Cuts one body into pieces: while it arrives, or as a file in a killable child."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass, replace

from regather.children.file_cut import CutLost, FileCutter
from regather.processors.base import HEAD_BYTES, ArrivingFileSplitter, FileSplitter, Piece, Splitter
from regather_gateway.problems import Problem
from regather_gateway.submission.job_spec import JobSpec
from regather_gateway.submission.spool_dir import SpoolDir

_RETRY_AFTER_S = 2
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
