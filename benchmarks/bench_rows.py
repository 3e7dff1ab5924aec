"""`.venv/bin/python benchmarks/bench_rows.py`: how fast CSV is cut on one core, by arrays and by expressions.

Each body goes through all in turn, in chunks of 256 KiB, several times, and each chunk counts with the least CPU time
that it took, so other load of the machine does little. `expressions` is the cutter where NumPy is not installed, `per_row`
one match of an expression for each row, as before ADR 0026. Prints one JSON object: MB/s, and the longest time of one
chunk in milliseconds.
"""

import json
import re
import sys
import time
from collections.abc import Callable

from regather.processors.base import SplitRequest
from regather.processors.splitting.row_grammar import LARGE_BYTES
from regather.processors.splitting.text_rows import TextRowSplitter, csv_dialect

CHUNK_BYTES = 256 * 1024
BODY_BYTES = 12 * 1024 * 1024
ROUNDS = 5
HEADER = b"id,region,amount,name,day\n"
ROWS = {
    "plain": b'%d,EU,%d.25,abc def,2024-01-01\n',
    "crlf": b'%d,EU,%d.25,abc def,2024-01-01\r\n',
    "every_text_quoted": b'%d,"EU","%d.25","abc def","2024-01-01"\n',
    "doubled_quotes": b'%d,"EU","%d.25","abc ""def""","2024-01-01"\n',
    "stray_quotes": b'%d,EU,%d.25,5" pipe,2024-01-01\n',
    "line_ends_in_quotes": b'%d,EU,%d.25,"abc\ndef",2024-01-01\n',
    "only_line_ends_in_quotes": b'"\n%.0d"\n"%.0d\n"\n',
}  # fmt: skip
_FIELD = rb'(?:"(?:[^"]++|"")*+"[^,\n]*+|[^",\n][^,\n]*+|)'
_PER_ROW = re.compile(rb"(%b(?:,%b)*+\n)|[\s\S]++" % (_FIELD, _FIELD))


class PerRow:
    """The least that a cutter does which knows each row's end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Find the rows of a chunk."""
        block = self._rest + data
        ends = [row.end() for row in _PER_ROW.finditer(block) if row.lastindex]
        self._rest = block[ends[-1] if ends else 0 :]
        block.decode()


def measure(chunks: list[bytes], make: Callable[[], PerRow | TextRowSplitter]) -> tuple[float, float]:
    """MB/s and the milliseconds of the longest chunk."""
    least = [float("inf")] * len(chunks)
    for _ in range(ROUNDS):
        cutter = make()
        for index, chunk in enumerate(chunks):
            begun = time.process_time()
            cutter.feed(chunk)
            least[index] = min(least[index], time.process_time() - begun)
    return round(sum(map(len, chunks)) / sum(least) / 1e6), round(max(least) * 1000, 1)


def cutter(*, large_bytes: int = LARGE_BYTES) -> TextRowSplitter:
    return TextRowSplitter(SplitRequest(), csv_dialect(repeat_header=False), large_bytes=large_bytes)


def main() -> None:
    figures: dict[str, dict[str, float]] = {}
    for name, row in ROWS.items():
        body = HEADER + b"".join(row % (number, number % 97) for number in range(BODY_BYTES // len(row % (9, 9))))
        chunks = [body[at : at + CHUNK_BYTES] for at in range(0, BODY_BYTES, CHUNK_BYTES)]
        before, before_ms = measure(chunks, PerRow)
        slow, slow_ms = measure(chunks, lambda: cutter(large_bytes=sys.maxsize))
        now, now_ms = measure(chunks, cutter)
        figures[name] = {
            "mb_s": now, "chunk_ms": now_ms,
            "expressions_mb_s": slow, "expressions_chunk_ms": slow_ms,
            "per_row_mb_s": before, "per_row_chunk_ms": before_ms,
        }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
