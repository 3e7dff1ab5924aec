"""Kinds whose rows say what becomes of them, and the answers that are right.

A row is `job.number:fate`. Fates: `ok`; `bad` fails always; `perm` fails for good at once; `fail`, `crash`, `hang`, `oom`
and `deadly` with a number befall the first so many attempts of its shard; `slow` with one takes so many milliseconds.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from regather.core.errors import PermanentError
from regather.processors.base import Options, Piece, Processor, ShardRows, ShardView, SplitRequest, Splitter


class SimulatedOptions(Options):
    """`rows`: rows in a shard; `pad`: bytes added to each output; `merge`: how the merge goes."""

    rows: int = 1
    pad: int = 0
    merge: str = "ok"


class Row(NamedTuple):
    """One row: the job's label, its number in the body, its fate, and the fate's argument."""

    job: str
    number: int
    fate: str
    argument: int


def encode_row(row: Row) -> bytes:
    return f"{row.job}.{row.number}:{row.fate}{row.argument}\n".encode()


def decode_rows(payload: bytes) -> list[Row]:
    rows = []
    for line in payload.splitlines():
        place, _, fate = line.decode().partition(":")
        job, _, number = place.partition(".")
        name = fate.rstrip("0123456789")
        rows.append(Row(job, int(number), name, int(fate[len(name) :] or 0)))
    return rows


class _RowSplitter:
    """So many lines a piece."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._rest = b""

    def feed(self, data: bytes) -> Iterable[Piece]:
        lines = (self._rest + data).splitlines(keepends=True)
        complete = len(lines) // self._rows * self._rows
        if complete == len(lines) and lines and not lines[-1].endswith(b"\n"):
            complete -= self._rows
        self._rest = b"".join(lines[complete:])
        return [Piece(b"".join(lines[at : at + self._rows])) for at in range(0, complete, self._rows)]

    def finish(self) -> Iterable[Piece]:
        return [Piece(self._rest)] if self._rest else []


@dataclass(frozen=True)
class _Rows:
    payload: bytes

    @property
    def numbers(self) -> range:
        rows = decode_rows(self.payload)
        return range(rows[0].number, rows[-1].number + 1)

    def pick(self, keep: Sequence[range]) -> Piece:
        wanted = {number for part in keep for number in part}
        return Piece(b"".join(encode_row(row) for row in decode_rows(self.payload) if row.number in wanted))


def row_answer(number: int) -> bytes:
    return b"%d=%s\n" % (number, hashlib.sha256(b"%d" % number).hexdigest()[:6].encode())


def shard_answer(rows: Iterable[Row], pad: int) -> bytes:
    return b"".join(row_answer(row.number) for row in rows) + b"." * pad


def merged(outputs: Sequence[bytes | None]) -> bytes:
    return b"[" + b"|".join(b"gap" if output is None else output for output in outputs) + b"]"


class RowsKind(Processor[SimulatedOptions]):
    """Outputs are joined; bad rows can be told from good ones."""

    options_model = SimulatedOptions
    result_type = "text/plain"
    merges = False

    def splitter(self, options: SimulatedOptions, request: SplitRequest) -> Splitter:
        return _RowSplitter(options.rows)

    def process(self, shard: ShardView, options: SimulatedOptions) -> bytes:
        rows = decode_rows(shard.payload)
        raise_for(rows, shard.attempt)
        return shard_answer(rows, options.pad)

    def rows(self, shard: ShardView, options: SimulatedOptions) -> ShardRows | None:
        return _Rows(shard.payload)


class MergedKind(RowsKind):
    """Outputs are merged in a child."""

    merges = True

    def rows(self, shard: ShardView, options: SimulatedOptions) -> ShardRows | None:
        return None

    def merge(self, outputs: Sequence[bytes | None], options: SimulatedOptions) -> bytes:
        if options.merge == "raises":
            raise ValueError("this merge fails")
        return merged(outputs)


class ChainedKind(RowsKind):
    """Each shard needs what the one before carried over."""

    chained = True

    def rows(self, shard: ShardView, options: SimulatedOptions) -> ShardRows | None:
        return None

    def step(self, shard: ShardView, carry: bytes, options: SimulatedOptions) -> tuple[bytes, bytes]:
        rows = decode_rows(shard.payload)
        raise_for(rows, shard.attempt)
        output = shard_answer(rows, options.pad)
        return carry[:6] + b">" + output, hashlib.sha256(carry + output).hexdigest().encode()


def raise_for(rows: Iterable[Row], attempt: int) -> None:
    """Raise as a row says."""
    for row in rows:
        if row.fate == "perm":
            raise PermanentError(f"row {row.number} can never be processed")
        if row.fate == "bad" or (row.fate == "fail" and attempt < row.argument):
            raise ValueError(f"row {row.number} failed")


KINDS = {"rows": RowsKind(), "merged": MergedKind(), "chained": ChainedKind()}


def shards_of(rows: Sequence[Row], per_shard: int) -> Iterator[Sequence[Row]]:
    for at in range(0, len(rows), per_shard):
        yield rows[at : at + per_shard]
