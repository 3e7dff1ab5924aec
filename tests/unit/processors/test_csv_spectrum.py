"""`table.etl` reads what other programs call CSV: a public collection of cases, at every cut and chunk size."""

import json
from pathlib import Path

import pytest

from regather.kinds.table.etl import TableEtl
from regather.kinds.table.options import TableOptions
from regather.processors.base import FileSplitter, ShardView, SplitRequest

FOLDER = Path(__file__).resolve().parents[2] / "data" / "csv-spectrum"
CASES = sorted(path.stem for path in (FOLDER / "csvs").glob("*.csv"))
KIND = TableEtl()
OPTIONS = TableOptions(format="csv")


def rows_of(body: bytes, chunk_bytes: int) -> list[dict[str, str]]:
    splitter = KIND.splitter(OPTIONS, SplitRequest(1024))
    assert not isinstance(splitter, FileSplitter)
    pieces = [piece for at in range(0, len(body), chunk_bytes) for piece in splitter.feed(body[at : at + chunk_bytes])]
    pieces += splitter.finish()
    outputs = [KIND.process(ShardView(piece.payload, piece.meta, seq, 0), OPTIONS) for seq, piece in enumerate(pieces)]
    return [json.loads(line) for line in b"".join(outputs).splitlines()]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 100_000])
def test_a_case_reads_as_its_collection_says(case: str, chunk_bytes: int) -> None:
    body = (FOLDER / "csvs" / f"{case}.csv").read_bytes()
    assert rows_of(body, chunk_bytes) == json.loads((FOLDER / "json" / f"{case}.json").read_text())


def test_the_collection_is_whole() -> None:
    assert len(CASES) == 11
