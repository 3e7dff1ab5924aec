"""The product without broker and services: inspect, cut, process and merge in this process, for speed.

The only module of the judge that calls the kinds' code; what it returns is judged like an answer over HTTP.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accept_kinds.judge import Answer
from regather.core.errors import UserError
from regather.processors.base import HEAD_BYTES, FileSplitter, Piece, ShardView, SplitRequest
from regather.processors.registry import installed


def answer(kind: str, options: dict[str, str], body: bytes, request: SplitRequest) -> Answer:
    """Run one job. A refusal is a 422; any other exception is a 500, which no judge takes for a refusal."""
    try:
        return Answer(200, {"state": "succeeded"}, _result(kind, options, body, request))
    except (UserError, ValidationError) as error:
        return Answer(422, {"title": "refused", "detail": str(error)})
    except Exception as error:  # what the kind lets through is what the judge is for
        return Answer(500, {"title": type(error).__name__, "detail": str(error)})


def _result(kind: str, options: dict[str, str], body: bytes, request: SplitRequest) -> bytes:
    processor: Any = installed()[kind]
    chosen = processor.options_model.model_validate(options)
    outputs = [
        processor.process(ShardView(piece.payload, piece.meta, seq, 0), chosen)
        for seq, piece in enumerate(_pieces(processor, chosen, body, request))
    ]
    return bytes(processor.merge(outputs, chosen)) if processor.merges_outputs(chosen) else b"".join(outputs)


def _pieces(processor: Any, options: Any, body: bytes, request: SplitRequest) -> list[Piece]:
    processor.splitter(options, request)
    request = replace(request, head=body[:HEAD_BYTES])
    splitter = processor.splitter(options, request)
    if isinstance(splitter, FileSplitter):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "body"
            path.write_bytes(body)
            return list(splitter.cut(path))
    inspected = getattr(processor, "inspect_bytes", 0)
    if inspected:
        plan = processor.inspect(body[:inspected], options, request)
        splitter = processor.splitter(options, replace(request, plan=plan))
    return [*splitter.feed(body), *splitter.finish()]
