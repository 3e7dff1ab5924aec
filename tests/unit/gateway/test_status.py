"""Status, lists, long polls, results and shards: what the views answer."""

import asyncio
import base64
import hashlib
from dataclasses import replace
from typing import Any

from regather.core.model import (
    AttemptError,
    AttemptFailed,
    BadRow,
    DeadLetterAddress,
    Failure,
    Identity,
    JobState,
    Outcome,
    Outcomes,
    Reason,
    SubmissionId,
)
from regather.core.status import ShardError
from regather.testing.waiting import eventually


async def test_status_has_an_etag_and_an_unchanged_job_is_a_304(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]

    first = await gateway.client.get(f"/v1/jobs/{job_id}")
    again = await gateway.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})
    await gateway.succeed(job_id, b"{}")
    await gateway.seen(job_id, lambda document: document["state"] == "succeeded")
    changed = await gateway.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})

    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert changed.status_code == 200


async def test_job_of_one_gateway_is_known_to_another_at_once(start_gateway: Any) -> None:
    async with start_gateway() as one, start_gateway() as other:
        for _ in range(20):
            job_id = (await one.submit())["job_id"]

            assert (await other.client.get(f"/v1/jobs/{job_id}")).status_code == 200


async def test_job_behind_an_open_transaction_is_not_denied(start_gateway: Any) -> None:
    async with start_gateway() as one, start_gateway() as other:
        aggregator = one.transport.transactional_producer("aggregator", max_record_bytes=1024)
        await aggregator.start()
        await aggregator.begin()
        for partition in range((await one.transport.partition_counts([one.topics.job_status]))[one.topics.job_status]):
            await (await aggregator.send(one.topics.job_status, value=None, key=b"", partition=partition))
        job_id = (await one.submit())["job_id"]

        during = await other.client.get(f"/v1/jobs/{job_id}")
        await aggregator.commit()
        await eventually(lambda: _known(other, job_id), what="the job's status")

    assert (during.status_code, during.json()["code"]) == (503, "broker-unavailable")


async def _known(gateway: Any, job_id: str) -> bool:
    return bool((await gateway.client.get(f"/v1/jobs/{job_id}")).status_code == 200)


async def test_gateway_that_starts_later_knows_older_jobs(start_gateway: Any) -> None:
    async with start_gateway() as one:
        job_id = (await one.submit())["job_id"]
        await one.succeed(job_id, b'{"n": 1}')
    async with start_gateway() as other:
        document = (await other.client.get(f"/v1/jobs/{job_id}")).json()
        result = await other.client.get(f"/v1/jobs/{job_id}/result")

    assert document["state"] == "succeeded"
    assert result.json() == {"n": 1}


async def test_late_word_of_a_zombie_does_not_hide_the_end(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]
    ended = await gateway.succeed(job_id, b"{}")
    await gateway.publish(replace(ended, state=JobState.RUNNING, result=None))
    marker = (await gateway.submit())["job_id"]
    await gateway.succeed(marker, b"{}")
    await gateway.seen(marker, lambda document: document["state"] == "succeeded")

    assert (await gateway.client.get(f"/v1/jobs/{job_id}")).json()["state"] == "succeeded"


async def test_long_poll_returns_at_the_end_of_the_job(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]
    poll = asyncio.create_task(gateway.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=30"}))
    await asyncio.sleep(0)

    await gateway.succeed(job_id, b"{}")
    answer = await poll

    assert answer.json()["state"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=30"
    assert "retry-after" not in answer.headers


async def test_waits_end_when_the_gateway_drains(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]
    poll = asyncio.create_task(gateway.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=30"}))
    parts = gateway.app.state.gateway
    await eventually(lambda: parts.admission.active, what="the long poll")

    parts.admission.draining = True
    parts.view.end_waits()
    answer = await poll

    assert (answer.status_code, answer.json()["state"]) == (200, "accepted")
    assert (await gateway.client.get("/readyz")).status_code == 503
    assert (await gateway.client.get("/livez")).status_code == 200
    assert (await gateway.client.post("/v1/jobs?kind=bytes.digest", content=b"x")).json()["code"] == "busy"


async def test_wait_is_not_granted_above_the_limit(start_gateway: Any) -> None:
    async with start_gateway(max_concurrent_jobs=1) as gateway:
        job_id = (await gateway.submit())["job_id"]
        with gateway.app.state.gateway.admission.enter():
            answer = await gateway.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=30"})

        assert answer.status_code == 200
        assert "preference-applied" not in answer.headers


async def test_failed_job_shows_its_errors_and_gaps(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]
    errors = (
        ShardError(3, Reason.TIMED_OUT, "killed after 15 s", 4, (0, 17)),
        ShardError(5, Reason.PERMANENT, "no int", 1, (0, 18), row=517),
    )
    counts = {"total": 8, "done": 4, "failed": 1, "bad_rows": 1, "gaps": ((3, 3),)}
    await gateway.fail(job_id, Reason.SHARD_FAILED, "shard 3 failed", **counts, errors=errors)

    document = await gateway.seen(job_id, lambda found: found["state"] == "failed")

    assert document["progress"] == 0.625
    assert (document["reason"], document["error"]) == ("shard-failed", "shard 3 failed")
    assert document["shards"]["gaps"] == [[3, 3]]
    assert document["shards"]["bad_rows"] == 1
    assert document["errors"] == [
        {"seq": 3, "reason": "timed-out", "error": "killed after 15 s", "attempts": 4, "row": None},
        {"seq": 5, "reason": "permanent", "error": "no int", "attempts": 1, "row": 517},
    ]


async def test_list_is_newest_first_filtered_and_paged(gateway: Any) -> None:
    jobs = [await gateway.submit(label=str(number)) for number in range(5)]
    ids = [job["job_id"] for job in sorted(jobs, key=lambda job: (job["created_ms"], job["job_id"]))]
    await gateway.succeed(ids[1], b"{}")
    await gateway.seen(ids[1], lambda document: document["state"] == "succeeded")

    first = (await gateway.client.get("/v1/jobs", params={"limit": 2})).json()
    second = (await gateway.client.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    third = (await gateway.client.get("/v1/jobs", params={"limit": 2, "cursor": second["next_cursor"]})).json()
    ended = (await gateway.client.get("/v1/jobs", params={"state": "succeeded"})).json()
    other = (await gateway.client.get("/v1/jobs", params={"kind": "image.features"})).json()

    pages = [[job["job_id"] for job in page["jobs"]] for page in (first, second, third)]
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert third["next_cursor"] is None
    assert [job["job_id"] for job in ended["jobs"]] == [ids[1]]
    assert other == {"jobs": [], "next_cursor": None}


async def test_kinds_come_with_the_schema_of_their_options(gateway: Any) -> None:
    kinds = {kind["kind"]: kind for kind in (await gateway.client.get("/v1/kinds")).json()["kinds"]}

    assert "bytes.digest" in kinds
    assert "width" in kinds["image.features"]["options"]["properties"]


async def test_result_too_early_is_a_409_with_retry_after(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]

    answer = await gateway.client.get(f"/v1/jobs/{job_id}/result")

    assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (409, "not-ready", "accepted")
    assert int(answer.headers["retry-after"]) > 0


async def test_small_result_comes_with_its_type_and_digest(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]
    await gateway.succeed(job_id, b'{"n": 1}')

    answer = await gateway.client.get(f"/v1/jobs/{job_id}/result", headers={"Prefer": "wait=30"})
    again = await gateway.client.get(f"/v1/jobs/{job_id}/result", headers={"If-None-Match": answer.headers["etag"]})

    digest = base64.b64encode(hashlib.sha256(b'{"n": 1}').digest()).decode()
    assert (answer.status_code, answer.content) == (200, b'{"n": 1}')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == "8"
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert again.status_code == 304


async def test_large_result_is_read_by_its_offset(gateway: Any) -> None:
    results = {}
    for number in range(3):
        job_id = (await gateway.submit())["job_id"]
        results[job_id] = bytes([number]) * 700_000
        await gateway.succeed_with_large_result(job_id, results[job_id])

    for job_id, result in results.items():
        answer = await gateway.client.get(f"/v1/jobs/{job_id}/result", headers={"Prefer": "wait=30"})
        assert answer.content == result
        assert answer.headers["content-type"] == "application/octet-stream"


async def test_small_result_that_made_room_is_read_from_the_log(start_gateway: Any) -> None:
    async with start_gateway(max_inline_bytes=10) as gateway:
        job_id = (await gateway.submit())["job_id"]
        await gateway.succeed(job_id, b'{"longer": "than the cache"}')

        answer = await gateway.client.get(f"/v1/jobs/{job_id}/result", headers={"Prefer": "wait=30"})

        assert answer.json() == {"longer": "than the cache"}


async def test_result_of_a_failed_job_is_a_410_with_the_error(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]
    await gateway.fail(job_id, Reason.SHARD_FAILED, "shard 0 failed for good")

    answer = await gateway.client.get(f"/v1/jobs/{job_id}/result", headers={"Prefer": "wait=30"})

    assert (answer.status_code, answer.json()["reason"]) == (410, "shard-failed")
    assert "shard 0 failed for good" in answer.json()["detail"]


async def test_result_address_of_another_job_is_a_410(gateway: Any) -> None:
    one, other = (await gateway.submit())["job_id"], (await gateway.submit())["job_id"]
    status = await gateway.succeed_with_large_result(one, b"secret")
    await gateway.publish(replace(status, owner=(await gateway.status_of(other)).owner))

    answer = await gateway.client.get(f"/v1/jobs/{other}/result", headers={"Prefer": "wait=30"})

    assert (answer.status_code, answer.json()["code"]) == (410, "result-gone")


async def hide_results(gateway: Any) -> Any:
    """An aggregator whose open transaction hides all results that are written from now on."""
    results = gateway.topics.results
    aggregator = gateway.transport.transactional_producer("aggregator", max_record_bytes=1024)
    await aggregator.start()
    await aggregator.begin()
    for partition in range((await gateway.transport.partition_counts([results]))[results]):
        await (await aggregator.send(results, value=None, key=b"", partition=partition))
    return aggregator


async def test_a_result_that_is_not_readable_yet_is_awaited_and_not_gone(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]
    aggregator = await hide_results(gateway)
    await gateway.succeed_with_large_result(job_id, b"result")
    await gateway.seen(job_id, lambda document: document["state"] == "succeeded")

    reading = asyncio.create_task(gateway.client.get(f"/v1/jobs/{job_id}/result"))
    await asyncio.wait([reading], timeout=0.3)
    early = reading.done()
    await aggregator.commit()

    assert not early
    assert ((await reading).status_code, (await reading).content) == (200, b"result")


async def test_a_result_that_stays_unreadable_is_a_503(start_gateway: Any) -> None:
    async with start_gateway(ack_timeout_s=0.5) as gateway:
        job_id = (await gateway.submit())["job_id"]
        await hide_results(gateway)
        await gateway.succeed_with_large_result(job_id, b"result")

        answer = await gateway.client.get(f"/v1/jobs/{job_id}/result", headers={"Prefer": "wait=30"})

    assert (answer.status_code, answer.json()["code"]) == (503, "broker-unavailable")


async def test_shards_show_attempts_workers_and_errors(gateway: Any) -> None:
    job_id = (await gateway.submit(bytes(6 * 1024), shard_size="1024"))["job_id"]
    status = await gateway.status_of(job_id)
    owner = status.owner
    failed_once = AttemptError(0, Reason.TIMED_OUT, "killed after 1 s", "worker-1", 1000, 1001)
    failed_twice = replace(failed_once, attempt=1)
    dead = Failure(Reason.RAISED, "ValueError: no", (failed_once, failed_twice), DeadLetterAddress(0, 1))
    stranger = Identity(owner.job_id, SubmissionId("ff" * 8))
    for event in (
        Outcomes(stranger, "worker-9", [Outcome(4, 1, 1, 1, 1)]),
        AttemptFailed(owner, 1, failed_once),
        AttemptFailed(owner, 2, failed_once),
        Outcomes(owner, "worker-2", [Outcome(0, 1, 1024, 500, 250, b"out"), Outcome(1, 2, 1024, 600, 350, b"out")]),
        Outcomes(owner, "worker-2", [Outcome(4, 1, 1024, 1, 1, bad_rows=(BadRow(17, Reason.RAISED, "no"),))]),
        Outcomes(owner, "worker-2", [Outcome(3, 2, 1024, 700, 450, failure=dead)]),
        Outcomes(owner, "worker-3", [Outcome(0, 1, 1024, 900, 950, b"copy")]),
    ):
        await gateway.append_event(event)
    await gateway.publish(replace(status, state=JobState.RUNNING, total=6, events_offset=0))
    await gateway.seen(job_id, lambda document: document["state"] == "running")

    page = (await gateway.client.get(f"/v1/jobs/{job_id}/shards")).json()

    shards = {shard["seq"]: shard for shard in page["shards"]}
    assert [shards[seq]["state"] for seq in range(6)] == ["done", "done", "retrying", "failed", "done", "waiting"]
    assert [shards[seq]["attempts"] for seq in range(6)] == [1, 2, 1, 2, 1, 0]
    assert (shards[0]["worker"], shards[0]["duration_us"], shards[0]["input_bytes"]) == ("worker-2", 250, 1024)
    assert [failure["reason"] for failure in shards[1]["failures"]] == ["timed-out"]
    assert shards[2]["error"] == "killed after 1 s"
    assert (shards[3]["reason"], len(shards[3]["failures"])) == ("raised", 2)
    assert [shards[seq]["bad_rows"] for seq in (3, 4)] == [[], [17]]
    assert page["next_after"] is None


async def test_shards_are_paged_by_sequence_number(gateway: Any) -> None:
    job_id = (await gateway.submit(bytes(5 * 1024), shard_size="1024"))["job_id"]
    status = await gateway.status_of(job_id)
    await gateway.append_event(Outcomes(status.owner, "w", [Outcome(seq, 1, 1024, 1, 1) for seq in range(5)]))
    await gateway.publish(replace(status, state=JobState.RUNNING, total=5, events_offset=0))
    await gateway.seen(job_id, lambda document: document["state"] == "running")

    first = await gateway.client.get(f"/v1/jobs/{job_id}/shards", params={"limit": 2})
    second = await gateway.client.get(f"/v1/jobs/{job_id}/shards", params={"limit": 2, "after": 1})
    last = await gateway.client.get(f"/v1/jobs/{job_id}/shards", params={"limit": 2, "after": 3})

    assert [shard["seq"] for page in (first, second, last) for shard in page.json()["shards"]] == [0, 1, 2, 3, 4]
    assert [page.json()["next_after"] for page in (first, second, last)] == [1, 3, None]
    assert 'rel="next"' in first.headers["link"]


async def test_unreadable_status_is_skipped(gateway: Any) -> None:
    job_id = (await gateway.submit())["job_id"]
    status = await gateway.status_of(job_id)
    await gateway.append(gateway.topics.job_status, status, [], b"no JSON")
    await gateway.succeed(job_id, b"{}")

    await gateway.seen(job_id, lambda document: document["state"] == "succeeded")
    assert gateway.app.state.gateway.view.unreadable == 1


async def test_metrics_count_submissions_by_their_end(gateway: Any) -> None:
    await gateway.submit(bytes(3 * 1024), shard_size="1024")
    await gateway.client.post("/v1/jobs?kind=bytes.digest", content=b"")

    text = (await gateway.client.get("/metrics")).text

    assert 'regather_submissions_total{result="sealed"} 1.0' in text
    assert 'regather_submissions_total{result="refused"} 1.0' in text
    assert "regather_submitted_shards_total 3.0" in text
    assert "regather_submitted_bytes_total 3072.0" in text
