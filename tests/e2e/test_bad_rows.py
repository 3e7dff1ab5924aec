"""One bad row does not cost the good rows of its shard their result."""

import json

import pytest

from regather_cli.client import Client, Submission
from regather_cli.dead_letters import read_dead_letters
from regather_cli.stack import Stack

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]


def table(rows: int, bad: dict[int, str]) -> bytes:
    """CSV with a header; `bad` says what stands in the number's column of some rows."""
    lines = [f"{number},{bad.get(number, number * 3)},{'ab'[number % 2]}" for number in range(rows)]
    return "\n".join(["id,amount,side", *lines, ""]).encode()


async def test_bad_rows_are_named_and_every_other_row_is_in_the_result(stack: Stack, client: Client) -> None:
    bad = {0: "x", 2_999: "many", 3_000: "1_0", 7_777: "-"}
    options = {"cast": "amount:int", "derive": "twice=amount*2"}
    submission = Submission("table.etl", options, shard_size_bytes=16 * 1024, on_error="skip")
    job_id = str((await client.submit(submission, table(8_000, bad)))["job_id"])
    document = await client.wait(job_id, timeout_s=120)
    assert document["state"] == "partial"
    assert (document["shards"]["failed"], document["shards"]["gaps"]) == (0, [])
    assert document["shards"]["bad_rows"] == len(bad)
    assert [(error["row"], error["reason"]) for error in document["errors"]] == [(row, "permanent") for row in bad]
    assert (
        "row 7777: column \"amount\" is '-', which is not BIGINT, the type that cast gives"
        in document["errors"][-1]["error"]
    )
    rows = [json.loads(line) for line in (await client.result(job_id)).splitlines()]
    assert [int(row["id"]) for row in rows] == [row for row in range(8_000) if row not in bad]
    letters = await read_dead_letters(stack.broker.bootstrap_servers, stack.topics, job_id)
    assert [letter.row for letter in letters] == list(bad)
    assert [letter.payload for letter in letters if letter.row == 2_999] == [b"2999,many,b\n"]


async def test_groups_are_those_of_the_good_rows(client: Client) -> None:
    options = {"cast": "amount:int", "group_by": "side", "aggregate": "total=sum(amount); rows=count()"}
    submission = Submission("table.etl", options, shard_size_bytes=8 * 1024, on_error="skip")
    job_id = str((await client.submit(submission, table(2_000, {11: "eleven", 1_234: "?"})))["job_id"])
    assert (await client.wait(job_id, timeout_s=120))["state"] == "partial"
    good = [row for row in range(2_000) if row not in (11, 1_234)]
    assert json.loads(await client.result(job_id))["groups"] == [
        {"side": side, "total": 3 * sum(rows), "rows": len(rows)}
        for side, rows in (("a", [row for row in good if row % 2 == 0]), ("b", [row for row in good if row % 2]))
    ]


async def test_rows_that_hang_or_crash_are_told_apart_too(client: Client) -> None:
    faults = {3: {"do": "sleep"}, 41: {"do": "segfault"}, 42: {"do": "exit"}, 90: {"do": "raise"}}
    lines = [json.dumps(faults.get(row, {})).encode() + b"\n" for row in range(100)]
    submission = Submission("diagnostics", {"do": "as_rows_say"}, 64 * 1024, on_error="skip", timeout_s=0.5)
    job_id = str((await client.submit(submission, b"".join(lines)))["job_id"])
    document = await client.wait(job_id, timeout_s=120)
    reasons = {error["row"]: error["reason"] for error in document["errors"]}
    assert reasons == {3: "timed-out", 41: "crashed", 42: "exited", 90: "raised"}
    good = [line for row, line in enumerate(lines) if row not in faults]
    assert json.loads(await client.result(job_id))["size_bytes"] == sum(map(len, good))


async def test_without_the_wish_to_skip_the_job_fails_and_names_the_row(client: Client) -> None:
    submission = Submission("table.etl", {"cast": "amount:int"}, shard_size_bytes=8 * 1024)
    job_id = str((await client.submit(submission, table(2_000, {1_234: "?"})))["job_id"])
    document = await client.wait(job_id, timeout_s=120)
    assert (document["state"], document["reason"], document["shards"]["bad_rows"]) == ("failed", "shard-failed", 0)
    assert "row 1234: column \"amount\" is '?', which is not BIGINT, the type that cast gives" in document["error"]


async def test_a_shard_with_more_bad_rows_than_are_looked_for_is_a_gap(client: Client) -> None:
    submission = Submission("table.etl", {"cast": "amount:int"}, shard_size_bytes=64 * 1024, on_error="skip")
    job_id = str((await client.submit(submission, table(100, dict.fromkeys(range(17), "?"))))["job_id"])
    document = await client.wait(job_id, timeout_s=120)
    assert (document["state"], document["shards"]["gaps"], document["shards"]["bad_rows"]) == ("partial", [[0, 0]], 0)
    assert "too many rows are bad: 0, 1, 2," in document["errors"][0]["error"]


async def test_shards_with_bad_rows_spend_the_failure_budget(client: Client) -> None:
    submission = Submission(
        "table.etl", {"cast": "amount:int"}, shard_size_bytes=8 * 1024, on_error="skip", max_failed_count=1
    )
    job_id = str((await client.submit(submission, table(8_000, dict.fromkeys((0, 4_000, 7_999), "?"))))["job_id"])
    document = await client.wait(job_id, timeout_s=120)
    assert (document["state"], document["reason"]) == ("failed", "too-many-failed")
