"""`PYTHONPATH=benchmarks .venv/bin/python -m bench_side`: what a side table costs, beside the same job without one.

One process, no broker. Prints a line of JSON for each size of the side table: bytes of all its copies as a share of the
body, and the least CPU seconds of cutting (reading the side table included) and of processing. `plain_` is the job without.
"""

import json
import random
import time
from collections.abc import Sequence

from regather.kinds.table.etl import TableEtl
from regather.processors.base import Piece, Side, SplitRequest
from regather.processors.registry import parse_options
from regather.testing.run_kind import cut, processed

ROWS_BYTES = 16_000_000
SIDES_BYTES = (10_000, 100_000, 1_000_000, 8_000_000)
GROUPS = {"group_by": "qty", "aggregate": "n = count(); s = sum(x)"}
ROUNDS = 3


def main() -> None:
    """Measure each size, the job without a side table before and behind each round."""
    draw = random.Random(1)
    kind = TableEtl()
    for side_bytes in SIDES_BYTES:
        side, codes = _side(draw, side_bytes)
        rows = _rows(draw, codes)
        joined = {**GROUPS, "join": "product = code", "group_by": "day"}
        with_side, without = [], []
        for _ in range(ROUNDS):
            without.append(_timed(kind, rows, GROUPS, None)[0])
            seconds, pieces = _timed(kind, rows, joined, side)
            with_side.append(seconds)
        copies = sum(len(piece.payload) for piece in pieces) - len(rows)
        line = {"side_bytes": len(side), "shards": len(pieces), "copies_share": round(copies / len(rows), 3)}
        print(json.dumps(line | {"cut_s": _least(with_side, 0), "process_s": _least(with_side, 1)} | _plain(without)))


def _plain(without: Sequence[tuple[float, float]]) -> dict[str, float]:
    return {"plain_cut_s": _least(without, 0), "plain_process_s": _least(without, 1)}


def _least(times: Sequence[tuple[float, float]], part: int) -> float:
    return round(min(one[part] for one in times), 3)


def _timed(
    kind: TableEtl, rows: bytes, asked: dict[str, str], side: bytes | None
) -> tuple[tuple[float, float], list[Piece]]:
    options = parse_options(kind, asked)
    begin_s = time.process_time()
    pieces = cut(kind, rows, options, SplitRequest(side=None if side is None else Side(side)))
    cut_s = time.process_time()
    processed(kind, pieces, options)
    return (cut_s - begin_s, time.process_time() - cut_s), pieces


def _side(draw: random.Random, size_bytes: int) -> tuple[bytes, int]:
    lines, length = ["code,label,price,day"], 0
    while length < size_bytes - 100:
        number = len(lines) - 1
        day = f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}"
        lines.append(f"p{number},{draw.getrandbits(128):032x},{draw.random() * 100:.2f},{day}")
        length += len(lines[-1]) + 1
    return "\n".join(lines).encode(), len(lines) - 1


def _rows(draw: random.Random, codes: int) -> bytes:
    lines, length = ["id,product,qty,x"], 0
    while length < ROWS_BYTES:
        lines.append(f"{len(lines)},p{draw.randrange(codes + codes // 10 + 1)},{len(lines) % 5},{draw.random():.6f}")
        length += len(lines[-1]) + 1
    return "\n".join(lines).encode() + b"\n"


if __name__ == "__main__":
    main()
