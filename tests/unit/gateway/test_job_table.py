"""The table of jobs stays within its bounds and keeps the newest word."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from regather.core.model import JobState
from regather_gateway.views.status_view import JobTable, PageKey, StatusAddress

MakeStatus = Callable[..., Any]


@pytest.fixture
def table() -> JobTable:
    return JobTable(max_ended=3, max_inline_bytes=10)


def ids(table: JobTable, before: PageKey | None = None) -> list[int]:
    return [int(entry.key.job_id[-12:], 16) for entry in table.newest_first(before)]


def test_oldest_ended_jobs_make_room_and_open_ones_stay(table: JobTable, make_status: MakeStatus) -> None:
    for number in range(10):
        table.put(make_status(number, JobState.RUNNING if number < 2 else JobState.SUCCEEDED))

    assert sorted(ids(table)) == [0, 1, 7, 8, 9]
    assert len(table) == 5
    assert table.get(make_status(2).owner.job_id) is None


def test_reopened_job_is_not_counted_as_ended(table: JobTable, make_status: MakeStatus) -> None:
    failed = make_status(0, JobState.FAILED)
    table.put(failed)
    table.put(replace(failed, owner=failed.owner._replace(version=2), state=JobState.RUNNING))
    for number in range(1, 9):
        table.put(make_status(number, JobState.SUCCEEDED))

    entry = table.get(failed.owner.job_id)
    assert entry is not None
    assert entry.status.owner.version == 2


def test_older_word_is_hidden(table: JobTable, make_status: MakeStatus) -> None:
    ended = make_status(0, JobState.SUCCEEDED)
    table.put(ended, address=StatusAddress(0, 5), inline=b"result")

    assert table.put(replace(ended, state=JobState.RUNNING), address=StatusAddress(0, 6)) is None
    entry = table.get(ended.owner.job_id)
    assert entry is not None
    assert (entry.status, entry.address) == (ended, StatusAddress(0, 5))
    assert table.inline_result(ended.owner.job_id) == b"result"


def test_small_results_stay_below_their_bound_together(table: JobTable, make_status: MakeStatus) -> None:
    for number in range(3):
        table.put(make_status(number, JobState.SUCCEEDED), inline=b"12345")

    kept = [table.inline_result(make_status(number).owner.job_id) for number in range(3)]
    assert kept == [None, b"12345", b"12345"]


def test_order_is_that_of_creation_whatever_the_order_of_arrival(table: JobTable, make_status: MakeStatus) -> None:
    for number in (3, 1, 2):
        table.put(replace(make_status(number), created_ms=number * 1000))

    assert ids(table) == [3, 2, 1]
    assert ids(table, PageKey(3000, make_status(3).owner.job_id)) == [2, 1]
