"""Inspects the head of a body, or cuts the body as a file, in a killable child before its shards exist.

The pieces of a file come back through a FIFO, so that a slow reader slows the cutter down.

A frame is the lengths of meta and payload (two unsigned 32-bit numbers, little-endian), then both. The child's result
says how many pieces there were, so that the reader notices a FIFO that ended early.
"""

import asyncio
import contextlib
import json
import os
import struct
import tempfile
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from regather.children.failure_text import said_on_purpose
from regather.children.work import Call, Executor, Work, WorkItem, WorkLimits
from regather.core.errors import BadInput, UserError
from regather.core.execution import Done, Failed, Result
from regather.processors.base import HEAD_BYTES, FileSplitter, Options, Piece, Processor, Side, SplitRequest
from regather.service.logs import get_logger

log = get_logger()

_FRAME = struct.Struct("<II")
_READ_AHEAD_BYTES = 256 * 1024


class CutLost(Exception):
    """The child was lost and the file is not to blame; cutting it again may succeed."""


@dataclass(frozen=True, slots=True)
class CutOrder:
    """The order for the child: the file to cut, the FIFO for its pieces, and what the client asked for."""

    path: str
    fifo: str
    request: SplitRequest

    def encode(self) -> bytes:
        """Return the order as JSON. It has neither the head, since the child has the file, nor the side file."""
        return json.dumps({"path": self.path, "fifo": self.fifo, "request": _plain(self.request)}).encode()

    @classmethod
    def decode(cls, data: bytes, side: bytes = b"") -> "CutOrder":
        """Read what encode() wrote; `side` is the content of the side file."""
        document = json.loads(data)
        with open(document["path"], "rb") as file:  # noqa: PTH123 - a few bytes
            head = file.read(HEAD_BYTES)
        return cls(document["path"], document["fifo"], _request(document["request"], head, side))


def inspect_head(processor: Processor[Any], options: Options, item: WorkItem) -> bytes:
    """Run inspect() in the child. Return `+` and the plan, or a JSON object that says why the body is refused."""
    head = bytes(item.payload)
    request = _request(json.loads(item.meta), head[:HEAD_BYTES], item.carry)
    try:
        return b"+" + processor.inspect(head, options, request)
    except UserError as error:
        return json.dumps({"refused": said_on_purpose(error), "code": error.code}).encode()


def cut_into_fifo(processor: Processor[Any], options: Options, order: CutOrder) -> bytes:
    """Run the splitter in the child and write its pieces. Return JSON: their number, or why the file is refused."""
    splitter = processor.splitter(options, order.request)
    if not isinstance(splitter, FileSplitter):
        raise TypeError(f"{type(splitter).__name__} cuts no files")
    count = 0
    with open(order.fifo, "wb", buffering=0) as fifo:  # noqa: PTH123 - unbuffered: pieces are large
        try:
            for piece in splitter.cut(Path(order.path)):
                _write(fifo.fileno(), _FRAME.pack(len(piece.meta), len(piece.payload)) + piece.meta)
                _write(fifo.fileno(), piece.payload)
                count += 1
        except UserError as error:
            refusal = said_on_purpose(error, body_path=order.path)
            return json.dumps({"refused": refusal, "code": error.code}).encode()
    return json.dumps({"pieces": count}).encode()


def _plain(request: SplitRequest) -> dict[str, object]:
    """Return the request as a JSON object, without head, plan and the content of the side file."""
    plain = asdict(replace(request, side=None))
    del plain["head"], plain["plan"]
    return plain | {"side": request.side.content_type if request.side else None}


def _request(plain: Mapping[str, Any], head: bytes, side: bytes) -> SplitRequest:
    """Return the request that _plain() wrote, completed with the head and the content of the side file."""
    content_type = plain["side"]
    return SplitRequest(**{**plain, "head": head, "side": None if content_type is None else Side(side, content_type)})


def _content(side: Side | None) -> bytes:
    return side.content if side else b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class FileCutter:
    """Cuts files in the children of an executor. It makes the FIFO of each cut in the folder of the file."""

    def __init__(self, executor: Executor, limits: WorkLimits) -> None:
        self._executor = executor
        self._limits = limits

    async def inspect(self, kind: str, options: bytes, request: SplitRequest, head: bytes) -> bytes:
        """Return the plan of the kind's inspect() for a body with this head. Raise the same errors as pieces()."""
        item = WorkItem(0, head, json.dumps(_plain(request)).encode(), carry=_content(request.side))
        (result,) = await self._executor.run(Work(Call.INSPECT, kind, options, [item], self._limits))
        answer = _answer_of(result, "inspected")
        if answer.startswith(b"+"):
            return answer[1:]
        said = json.loads(answer)
        raise BadInput(said["refused"], code=said["code"])

    async def pieces(self, kind: str, options: bytes, request: SplitRequest, path: Path) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of a file in order.

        Raise BadInput if the file is wrong, or if the cut takes too long or too much memory; CutLost if the child is
        lost.
        """
        with tempfile.TemporaryDirectory(prefix="regather-cut-", dir=path.parent) as folder:
            order = CutOrder(str(path), str(Path(folder) / "pieces"), request)
            os.mkfifo(order.fifo, 0o600)
            item = WorkItem(0, order.encode(), carry=_content(request.side))
            work = Work(Call.SPLIT, kind, options, [item], self._limits)
            # Keep the writing end open until the child is done, so that the FIFO ends then, and not before.
            read_fd = os.open(order.fifo, os.O_RDONLY | os.O_NONBLOCK)
            write_fd = os.open(order.fifo, os.O_WRONLY | os.O_NONBLOCK)
            running = asyncio.ensure_future(self._executor.run(work))
            running.add_done_callback(lambda _: os.close(write_fd))
            try:
                count = 0
                async with contextlib.aclosing(_frames(read_fd)) as frames:
                    async for piece in frames:
                        count += 1
                        yield piece
                _check((await running)[0], count)
            finally:
                running.cancel()
                await asyncio.wait([running])


async def _frames(read_fd: int) -> AsyncGenerator[Piece, None]:
    """Yield the pieces until the FIFO ends. The child's result explains a frame that is incomplete."""
    reader = asyncio.StreamReader(limit=_READ_AHEAD_BYTES)
    loop = asyncio.get_running_loop()
    file = os.fdopen(read_fd, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    try:
        while True:
            meta_bytes, payload_bytes = _FRAME.unpack(await reader.readexactly(_FRAME.size))
            meta = await reader.readexactly(meta_bytes)
            yield Piece(await reader.readexactly(payload_bytes), meta)
    except asyncio.IncompleteReadError:
        return
    finally:
        transport.close()


def _check(result: Result, count: int) -> None:
    said = json.loads(_answer_of(result, "cut"))
    if "refused" in said:
        raise BadInput(said["refused"], code=said["code"])
    if said["pieces"] != count:
        raise CutLost(f"the child cut {said['pieces']} pieces and {count} arrived")


def _answer_of(result: Result, done: str) -> bytes:
    if isinstance(result, Done):
        return result.output
    if isinstance(result, Failed):
        log.warning("cut-failed", reason=result.reason, error=result.error, trace=result.trace)
        message = result.error.split("\n")[0]
        raise BadInput(f"the file cannot be {done}: {result.reason}: {message}", code="cut-failed")
    raise CutLost(f"the child was lost before it had {done} the file")
