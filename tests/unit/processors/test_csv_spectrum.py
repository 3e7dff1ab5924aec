"""`table.etl` reads what other programs call CSV: a public collection of cases, at every cut and chunk size."""

import json
from pathlib import Path

import pytest

from regather.kinds.table.etl import TableEtl
from regather.kinds.table.options import TableOptions
from regather.processors.base import FileSplitter, SplitRequest
from regather.processors.registry import parse_options
from regather.testing.run_kind import merged, processed

FOLDER = Path(__file__).resolve().parents[2] / "data" / "csv-spectrum"
CASES = sorted(path.stem for path in (FOLDER / "csvs").glob("*.csv"))
KIND = TableEtl()


def rows_of(body: bytes, chunk_bytes: int) -> list[dict[str, str | None]]:
    options = parse_options(KIND, {"format": "csv"})
    assert isinstance(options, TableOptions)
    plan = KIND.inspect(body, options, SplitRequest(1024))
    splitter = KIND.splitter(options, SplitRequest(1024, plan=plan))
    assert not isinstance(splitter, FileSplitter)
    pieces = [piece for at in range(0, len(body), chunk_bytes) for piece in splitter.feed(body[at : at + chunk_bytes])]
    pieces += splitter.finish()
    return [json.loads(line) for line in merged(KIND, processed(KIND, pieces, options), options).splitlines()]


def as_text(value: object) -> str:
    return "" if value is None else str(value)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 100_000])
def test_a_case_reads_as_its_collection_says(case: str, chunk_bytes: int) -> None:
    body = (FOLDER / "csvs" / f"{case}.csv").read_bytes()
    rows = [{name: as_text(value) for name, value in row.items()} for row in rows_of(body, chunk_bytes)]
    assert rows == json.loads((FOLDER / "json" / f"{case}.json").read_text())


def test_the_collection_is_whole() -> None:
    assert len(CASES) == 11
