"""Request headers that wish for something."""

from typing import Any

import pytest
from starlette.requests import Request

from regather_gateway.http.job_answers import matches, retry_after_s, wished_wait_s
from regather_gateway.http.submit_job import idempotency_key
from regather_gateway.problems import Problem


def request(*headers: tuple[str, str]) -> Request:
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
    return Request({"type": "http", "headers": encoded})


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("wait=5", 5),
        ("wait=500", 30),
        ("respond-async, wait=10", 10),
        ('wait="7"', 7),
        ("WAIT = 3", 3),
        ("respond-async", None),
        ("await=5", None),
        ("wait=-1", None),
        ("wait=soon", None),
    ],
)
def test_wait_is_read_and_capped(value: str, wait_s: float | None) -> None:
    assert wished_wait_s(request(("Prefer", value)), 30) == wait_s


def test_repeated_headers_count_as_one() -> None:
    assert wished_wait_s(request(("Prefer", "respond-async"), ("Prefer", "wait=4")), 30) == 4


def test_key_loses_the_quotes_of_the_draft_standard() -> None:
    assert idempotency_key(request(("Idempotency-Key", '"8e03978e"'))) == "8e03978e"
    assert idempotency_key(request()) is None
    with pytest.raises(Problem):
        idempotency_key(request(("Idempotency-Key", "x" * 256)))


@pytest.mark.parametrize(
    ("header", "expected"), [('"a"', True), ('"b", W/"a"', True), ("*", True), ('"b"', False), ("a", False)]
)
def test_entity_tags_are_compared_weakly(header: str, expected: bool) -> None:
    assert matches(request(("If-None-Match", header)), '"a"') is expected


@pytest.mark.parametrize(
    ("total", "done", "elapsed_ms", "expected"),
    [(None, 0, 5000, 1), (10, 0, 5000, 1), (10, 5, 5000, 5), (1000, 1, 60_000, 30), (10, 9, 100, 1)],
)
def test_retry_after_is_the_time_that_the_rest_takes(
    make_status: Any, total: int | None, done: int, elapsed_ms: int, expected: int
) -> None:
    from dataclasses import replace

    status = replace(make_status(0, total=total, done=done), created_ms=1000, updated_ms=1000 + elapsed_ms)

    assert retry_after_s(status) == expected
