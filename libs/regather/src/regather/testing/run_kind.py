"""Runs a kind on a body in this process, for tests of plug-ins: cut, process and merge, without broker and children."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regather.processors.base import (
    HEAD_BYTES,
    ArrivingFileSplitter,
    FileSplitter,
    Options,
    Piece,
    Processor,
    ShardView,
    SplitRequest,
)
from regather.processors.registry import parse_options


def run(
    kind: Processor[Any], body: bytes, options: Mapping[str, object] | None = None, request: SplitRequest | None = None
) -> bytes:
    """Return the result for a body as an installation would compute it; raises the same errors for a refused body.

    `request` says how to cut the body; run() fills in its length and its head.
    """
    parsed = parse_options(kind, options or {})
    pieces = cut(kind, body, parsed, request or SplitRequest())
    return merged(kind, processed(kind, pieces, parsed), parsed)


def cut(kind: Processor[Any], body: bytes, options: Options, request: SplitRequest) -> list[Piece]:
    """Return the shards of a body."""
    request = replace(request, size_bytes=len(body), head=body[:HEAD_BYTES])
    kind.splitter(options, replace(request, head=None))
    splitter = kind.splitter(options, request)
    wanted_bytes = 0 if isinstance(splitter, FileSplitter) else kind.inspect_bytes
    if isinstance(splitter, ArrivingFileSplitter):
        wanted_bytes = splitter.inspect_bytes
    plan = kind.inspect(body[:wanted_bytes], options, request) if wanted_bytes else b""
    if isinstance(splitter, FileSplitter) and not plan:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "body"
            path.write_bytes(body)
            return list(splitter.cut(path))
    if wanted_bytes:
        splitter = kind.splitter(options, replace(request, plan=plan))
    assert not isinstance(splitter, FileSplitter)
    return [*splitter.feed(body), *splitter.finish()]


def processed(kind: Processor[Any], pieces: Sequence[Piece], options: Options) -> list[bytes]:
    """Return each shard's output."""
    return [kind.process(ShardView(piece.payload, piece.meta, seq, 0), options) for seq, piece in enumerate(pieces)]


def merged(kind: Processor[Any], outputs: Sequence[bytes | None], options: Options) -> bytes:
    """Return the result of the outputs in order; None marks a shard that failed for good."""
    if kind.merges_outputs(options):
        return kind.merge(outputs, options)
    return b"".join(output for output in outputs if output is not None)
