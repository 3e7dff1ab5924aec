"""The generated expressions: the product equals DuckDB, and a product that does not is caught."""

import json
from typing import Any

import pytest

from accept_kinds.expressions import try_expressions
from accept_kinds.in_process import answer
from accept_kinds.judge import Answer
from regather.processors.base import SplitRequest

pytestmark = pytest.mark.long

FEW = 15  # the suite itself, `make accept-kinds`, tries hundreds


def test_generated_expressions_equal_duckdb_at_any_cut() -> None:
    tried = try_expressions(1, FEW)
    assert tried.words.total() >= FEW
    assert tried.failures == []


def test_the_same_seed_gives_the_same_expressions() -> None:
    def seen(number: int) -> list[str]:
        asked: list[str] = []

        def product(kind: str, options: dict[str, str], body: bytes, request: SplitRequest) -> Answer:
            asked.append(json.dumps([options, request.shard_size_bytes]))
            return Answer(422)

        try_expressions(number, 15, product)
        return asked

    assert seen(5) == seen(5)
    assert seen(5) != seen(6)


def test_a_product_that_loses_its_last_row_is_caught() -> None:
    def product(kind: str, options: dict[str, str], body: bytes, request: SplitRequest) -> Answer:
        found = answer(kind, options, body, request)
        if found.result is None:
            return found
        return Answer(200, found.document, _shortened(found.result))

    tried = try_expressions(1, 8, product)
    assert tried.words["wrong"] + tried.words["silent"] >= 5


def _shortened(result: bytes) -> bytes:
    document: Any = json.loads(result) if result.startswith(b'{"groups"') else None
    if document is not None:
        return json.dumps({"groups": document["groups"][:-1]}).encode()
    return b"".join(result.splitlines(keepends=True)[:-1])
