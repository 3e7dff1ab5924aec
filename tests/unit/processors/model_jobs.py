"""Runs `model.predict` as the services do, in this process: cut, every shard through JSON's meta, joined or merged."""

import io
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from regather.kinds.model.predict import ModelPredict, PredictOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, Piece, ShardView, SplitRequest

KIND = ModelPredict()
MODELS = Path(__file__).parents[2] / "data" / "models"
CSV, NDJSON, JSON = "text/csv", "application/x-ndjson", "application/json"
ROWS = np.random.default_rng(5).normal(size=(503, 4))
NAMES = ["a", "b", "c", "d"]


def cut(body: bytes, options: PredictOptions, request: SplitRequest, folder: Path, *, size: bool = True) -> list[Piece]:
    KIND.splitter(options, request)  # the check before any byte has come
    length = len(body) if size else None
    asked = SplitRequest(
        request.shard_size_bytes, request.shards, length, request.content_type, body[:HEAD_BYTES], request.max_bytes
    )
    splitter = KIND.splitter(options, asked)
    if isinstance(splitter, FileSplitter):
        path = folder / "body"
        path.write_bytes(body)
        return list(splitter.cut(path))
    pieces: list[Piece] = []
    for begin, end in pairwise([*range(0, len(body), 1000), len(body)]):
        pieces += splitter.feed(body[begin:end])
    return [*pieces, *splitter.finish()]


def run_pieces(pieces: Sequence[Piece], options: PredictOptions) -> bytes:
    outputs = [KIND.process(ShardView(p.payload, p.meta, seq, 0), options) for seq, p in enumerate(pieces)]
    return KIND.merge(outputs, options) if KIND.merges_outputs(options) else b"".join(outputs)


def run(body: bytes, content_type: str = "", *, shard: int = 4096, folder: Path = Path(), **options: Any) -> bytes:
    wished = PredictOptions.model_validate(options)
    return run_pieces(cut(body, wished, SplitRequest(shard, content_type=content_type), folder), wished)


def lines(result: bytes) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=_no_constant) for line in result.splitlines()]


def array(result: bytes) -> np.ndarray:
    rows: np.ndarray = np.load(io.BytesIO(result))
    return rows


def npy(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def csv(rows: Sequence[Sequence[object]], names: Sequence[str] = ()) -> bytes:
    text = [",".join(names)] if names else []
    return "\n".join([*text, *(",".join(map(str, row)) for row in rows), ""]).encode()


def ndjson(rows: Sequence[Sequence[object]], names: Sequence[str]) -> bytes:
    return b"".join(json.dumps(dict(zip(names, row, strict=True))).encode() + b"\n" for row in rows)


def parquet(columns: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, row_group_size=200)
    return bytes(sink.getvalue())


def _no_constant(name: str) -> None:
    raise AssertionError(f"JSON has no {name}")
