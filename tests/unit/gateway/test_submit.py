"""A submission on the log: opened, shards in two lanes, seal; and what happens when it goes wrong half-way."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from regather.core.ids import keyed_job_id
from regather.core.model import Abandoned, Identity, JobState, Opened, Reason, Sealed, SubmissionId, Uploading
from regather.core.status import JobStatus
from regather.testing.waiting import eventually
from regather.wire.shards import decode_shard

JOBS = "/v1/jobs?kind=bytes.digest"


def lines(count: int, size: int = 1024) -> bytes:
    """`count` pieces of `size` bytes that all differ."""
    return b"".join(number.to_bytes(4, "big") * (size // 4) for number in range(count))


async def test_body_becomes_shards_between_opened_and_sealed(gateway: Any) -> None:
    body = lines(100)

    document = await gateway.submit(
        body, shard_size="1024", label="night run", timeout_s="2.5", deadline_s="60", on_error="skip"
    )

    opened, sealed = await gateway.events()
    assert isinstance(opened, Opened)
    assert (opened.kind, opened.options, opened.deadline_ms) == ("bytes.digest", b"{}", 60_000)
    assert (opened.on_error, opened.label) == ("skip", "night run")
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert sealed == Sealed(opened.owner, 100, len(body), digest, sealed.shard_ranges)
    stretches = {(topic, partition): range(first, last + 1) for topic, partition, first, last in sealed.shard_ranges}
    assert all(record.offset in stretches[record.topic, record.partition] for record in await gateway.shards())
    assert sum(map(len, stretches.values())) == 100
    shards = [decode_shard(record.headers, record.value) for record in await gateway.shards()]
    shards.sort(key=lambda shard: shard.seq)
    assert [shard.seq for shard in shards] == list(range(100))
    assert b"".join(shard.payload for shard in shards) == body
    assert {(shard.owner, shard.kind, shard.timeout_ms, shard.attempt) for shard in shards} == {
        (opened.owner, "bytes.digest", 2500, 0)
    }
    assert document["job_id"] == opened.owner.job_id


async def test_first_eight_shards_go_to_the_small_lane_and_all_partitions_get_some(gateway: Any) -> None:
    await gateway.submit(lines(1000), shard_size="1024")

    small = await gateway.records(gateway.topics.shards_small)
    bulk = await gateway.records(gateway.topics.shards_bulk)
    assert sorted(decode_shard(record.headers, record.value).seq for record in small) == list(range(8))
    assert {record.partition for record in small} == set(range(8))
    assert {record.partition for record in bulk} == set(range(8))
    first_partition = [record for record in bulk if record.partition == bulk[0].partition]
    assert len(first_partition) >= 64, "bulk shards do not stay together for a run"


async def test_answer_is_202_with_the_job_document(gateway: Any) -> None:
    body = b"some bytes"

    answer = await gateway.client.post(JOBS, content=body, headers={"Prefer": "respond-async"})

    document = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{document['job_id']}"
    assert answer.headers["preference-applied"] == "respond-async"
    assert int(answer.headers["retry-after"]) >= 1
    assert document["state"] == "accepted"
    assert document["shards"] == {
        "total": 1,
        "done": 0,
        "failed": 0,
        "retries": 0,
        "frontier": 0,
        "gaps": [],
        "bad_rows": 0,
    }
    assert document["input"] == {"size_bytes": 10, "digest": f"sha256:{hashlib.sha256(body).hexdigest()}"}
    assert document["created_at"].endswith("Z")
    assert document["result"] is None


async def test_shards_parameter_cuts_evenly(gateway: Any) -> None:
    await gateway.submit(bytes(1000), shards="3")

    assert sorted(len(record.value) for record in await gateway.shards()) == [333, 333, 334]


async def test_multipart_file_is_the_input(gateway: Any) -> None:
    answer = await gateway.client.post(JOBS, files={"file": ("a.bin", b"\x00\x01" * 600, "application/octet-stream")})

    assert answer.status_code == 202
    assert b"".join(record.value for record in await gateway.shards()) == b"\x00\x01" * 600
    assert answer.json()["input"]["size_bytes"] == 1200


async def test_right_content_digest_is_accepted(gateway: Any) -> None:
    digest = base64.b64encode(hashlib.sha256(b"body").digest()).decode()

    answer = await gateway.client.post(JOBS, content=b"body", headers={"Content-Digest": f"sha-256=:{digest}:"})

    assert answer.status_code == 202


async def test_wait_ends_with_the_job(gateway: Any) -> None:
    request = asyncio.create_task(gateway.client.post(JOBS, content=b"x", headers={"Prefer": "wait=30"}))
    job_id = (await eventually(gateway.events, what="a published event"))[0].owner.job_id
    await eventually(lambda: _sealed(gateway), what="the seal")

    await gateway.succeed(job_id, b'{"n": 1}')
    answer = await request

    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"


async def test_wait_that_is_over_gives_the_unfinished_job(gateway: Any) -> None:
    answer = await gateway.client.post(JOBS, content=b"x", headers={"Prefer": "wait=0"})

    assert (answer.status_code, answer.json()["state"]) == (202, "accepted")


async def test_client_gone_in_mid_upload_abandons_the_job(gateway: Any) -> None:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": lines(50), "more_body": True}
        yield {"type": "http.request", "body": lines(1), "more_body": True}
        yield {"type": "http.disconnect"}

    await gateway.request("/v1/jobs", messages(), {}, "kind=bytes.digest&shard_size=1024")

    opened, abandoned = await gateway.events()
    assert isinstance(opened, Opened)
    assert abandoned == Abandoned(opened.owner, "the client disconnected before the end of the upload")
    assert await gateway.shards()


async def test_truncated_image_abandons_the_job_that_was_opened(gateway: Any, npy: Callable[[int, int], bytes]) -> None:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, 50_000, 10_000):
            yield npy(100, 512)[start : start + 10_000]

    answer = await gateway.client.post("/v1/jobs?kind=image.features&shard_size=4096", content=body())

    opened, abandoned = await gateway.events()
    assert answer.status_code == 422
    assert isinstance(abandoned, Abandoned)
    assert abandoned.owner == opened.owner
    assert abandoned.error == answer.json()["detail"]


async def test_wrong_digest_of_a_large_body_abandons_the_job(gateway: Any) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"another").digest()).decode()

    async def body() -> AsyncIterator[bytes]:
        yield lines(50)
        yield lines(50)

    answer = await gateway.client.post(
        f"{JOBS}&shard_size=1024", content=body(), headers={"Content-Digest": f"sha-256=:{wrong}:"}
    )

    assert answer.status_code == 400
    assert [type(event) for event in await gateway.events()] == [Opened, Abandoned]


async def test_body_shorter_than_announced_is_refused(gateway: Any) -> None:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": b"short", "more_body": False}

    sent = await gateway.request("/v1/jobs", messages(), {"Content-Length": "6"}, "kind=bytes.digest")

    assert sent[0]["status"] == 400
    assert await gateway.published() == 0


async def test_upload_that_stalls_is_a_408_and_abandoned(start_gateway: Any) -> None:
    async with start_gateway(body_idle_timeout_s=0.05) as gateway:

        async def messages() -> AsyncIterator[dict[str, Any]]:
            yield {"type": "http.request", "body": lines(50), "more_body": True}
            yield {"type": "http.request", "body": lines(1), "more_body": True}
            await asyncio.Event().wait()

        sent = await gateway.request("/v1/jobs", messages(), {}, "kind=bytes.digest&shard_size=1024")

        assert sent[0]["status"] == 408
        assert [type(event) for event in await gateway.events()] == [Opened, Abandoned]


async def test_slow_upload_gives_signs_of_life(start_gateway: Any) -> None:
    async with start_gateway(heartbeat_s=0.02) as gateway:

        async def signs() -> list[Uploading]:
            return [event for event in await gateway.events() if isinstance(event, Uploading)]

        async def messages() -> AsyncIterator[dict[str, Any]]:
            yield {"type": "http.request", "body": lines(50), "more_body": True}
            yield {"type": "http.request", "body": lines(1), "more_body": True}
            await eventually(signs, what="a sign of life")
            yield {"type": "http.request", "body": b"", "more_body": False}

        sent = await gateway.request("/v1/jobs", messages(), {}, "kind=bytes.digest&shard_size=1024")

        assert sent[0]["status"] == 202
        assert 0 < (await signs())[0].shards < 50


async def test_key_names_one_job(gateway: Any) -> None:
    headers = {"Idempotency-Key": "nightly-2026-11-24"}

    first = await gateway.client.post(JOBS, content=b"body", headers=headers)
    published = await gateway.published()
    second = await gateway.client.post(JOBS, content=b"body", headers=headers)

    assert first.json()["job_id"] == keyed_job_id("", "nightly-2026-11-24") == second.json()["job_id"]
    assert "idempotent-replayed" not in first.headers
    assert (second.status_code, second.headers["idempotent-replayed"]) == (202, "true")
    assert await gateway.published() == published


async def test_key_of_an_ended_job_gives_it_again(gateway: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    job_id = (await gateway.client.post(JOBS, content=b"body", headers=headers)).json()["job_id"]
    await gateway.succeed(job_id, b"{}")
    await gateway.seen(job_id, lambda document: document["state"] == "succeeded")

    again = await gateway.client.post(JOBS, content=b"body", headers=headers)

    assert (again.status_code, again.json()["state"]) == (200, "succeeded")


async def test_key_works_on_another_gateway(start_gateway: Any) -> None:
    async with start_gateway() as one, start_gateway() as other:
        headers = {"Idempotency-Key": "k"}
        first = await one.client.post(JOBS, content=b"body", headers=headers)
        status = await one.status_of(first.json()["job_id"])
        await one.publish(_sealed_status(status))

        second = await eventually(
            lambda: _accepted_by(other, headers), what="the other gateway's knowledge that the job was sealed"
        )

        assert second.json()["job_id"] == first.json()["job_id"]
        assert second.headers["idempotent-replayed"] == "true"


async def test_key_of_an_open_submission_is_a_409(gateway: Any) -> None:
    answers = []

    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": lines(50), "more_body": True}
        yield {"type": "http.request", "body": lines(1), "more_body": True}
        answers.append(await gateway.client.post(JOBS, content=b"body", headers={"Idempotency-Key": "k"}))
        yield {"type": "http.request", "body": b"", "more_body": False}

    sent = await gateway.request("/v1/jobs", messages(), {"Idempotency-Key": "k"}, "kind=bytes.digest&shard_size=1024")

    assert sent[0]["status"] == 202
    assert (answers[0].status_code, answers[0].json()["code"]) == (409, "submission-open")
    assert int(answers[0].headers["retry-after"]) > 0


async def test_key_of_a_job_that_was_never_sealed_opens_the_next_version(gateway: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    job_id = (await gateway.client.post(JOBS, content=b"body", headers=headers)).json()["job_id"]
    await gateway.fail(job_id, Reason.NOT_SEALED, "not sealed: no heartbeat of the upload")
    await gateway.seen(job_id, lambda document: document["state"] == "failed")

    again = await gateway.client.post(JOBS, content=b"body", headers=headers)

    opened = [event for event in await gateway.events() if isinstance(event, Opened)]
    assert (again.status_code, again.json()["version"], again.json()["state"]) == (202, 2, "accepted")
    assert [event.owner.version for event in opened] == [1, 2]
    assert opened[0].owner.submission != opened[1].owner.submission


async def test_key_of_another_job_is_a_422(gateway: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    await gateway.client.post(JOBS, content=b"body", headers=headers)
    digest = base64.b64encode(hashlib.sha256(b"other").digest()).decode()

    kind = await gateway.client.post("/v1/jobs?kind=diagnostics", content=b"body", headers=headers)
    body = await gateway.client.post(
        JOBS, content=b"other", headers={**headers, "Content-Digest": f"sha-256=:{digest}:"}
    )

    assert [answer.json()["code"] for answer in (kind, body)] == ["idempotency-key-reused"] * 2


async def test_job_closed_while_its_upload_ran_is_no_202(gateway: Any) -> None:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": lines(50), "more_body": True}
        yield {"type": "http.request", "body": lines(1), "more_body": True}
        job_id = (await gateway.events())[0].owner.job_id
        await gateway.fail(job_id, Reason.NOT_SEALED, "not sealed: no heartbeat of the upload for 60000 ms")
        await gateway.seen(job_id, lambda document: document["state"] == "failed")
        yield {"type": "http.request", "body": b"", "more_body": False}

    sent = await gateway.request("/v1/jobs", messages(), {}, "kind=bytes.digest&shard_size=1024")

    assert sent[0]["status"] == 409
    assert json.loads(sent[1]["body"])["code"] == "closed-meanwhile"


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ({"state": JobState.RUNNING, "total": 51}, 202, None),
        ({"state": JobState.FAILED, "reason": Reason.NOT_SEALED}, 409, "closed-meanwhile"),
        (None, 503, "state-unknown"),
    ],
    ids=["goes-on", "was-closed", "nobody-speaks"],
)
async def test_upload_that_fell_silent_is_a_202_only_when_the_aggregator_has_spoken(
    start_gateway: Any, broker_clock: Any, word: Any, status: int, code: str | None
) -> None:
    async def messages(gateway: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": lines(50), "more_body": True}
        yield {"type": "http.request", "body": lines(1), "more_body": True}
        await gateway.status_of((await gateway.events())[0].owner.job_id)
        broker_clock.ahead_ms = 21_000  # a stall: no sign of life has reached the log for twice 10 s
        yield {"type": "http.request", "body": b"", "more_body": False}

    async def speak(gateway: Any) -> None:
        await eventually(lambda: _sealed(gateway), what="the seal")
        if word is not None:
            accepted = await gateway.status_of((await gateway.events())[0].owner.job_id)
            await gateway.publish(replace(accepted, **word))

    async with start_gateway(ack_timeout_s=0.5, heartbeat_s=10) as gateway:
        query = "kind=bytes.digest&shard_size=1024"
        sent, _ = await asyncio.gather(gateway.request("/v1/jobs", messages(gateway), {}, query), speak(gateway))

    assert (sent[0]["status"], json.loads(sent[1]["body"]).get("code")) == (status, code)


async def test_upload_that_gave_its_signs_is_a_202_at_once(gateway: Any, broker_clock: Any) -> None:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": lines(50), "more_body": True}
        yield {"type": "http.request", "body": lines(1), "more_body": True}
        await gateway.status_of((await gateway.events())[0].owner.job_id)
        broker_clock.ahead_ms = 19_000
        yield {"type": "http.request", "body": b"", "more_body": False}

    sent = await gateway.request("/v1/jobs", messages(), {}, "kind=bytes.digest&shard_size=1024")

    assert sent[0]["status"] == 202


async def test_submission_that_lost_to_one_that_was_never_sealed_is_no_success(gateway: Any) -> None:
    headers = {"Idempotency-Key": "k"}

    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": lines(50), "more_body": True}
        yield {"type": "http.request", "body": lines(1), "more_body": True}
        mine = await gateway.status_of((await gateway.events())[0].owner.job_id)
        owner = mine.owner._replace(submission="ff" * 8)
        await gateway.publish(replace(mine, owner=owner, state=JobState.FAILED, reason=Reason.NOT_SEALED))
        await gateway.seen(owner.job_id, lambda document: document["state"] == "failed")
        yield {"type": "http.request", "body": b"", "more_body": False}

    sent = await gateway.request("/v1/jobs", messages(), headers, "kind=bytes.digest&shard_size=1024")

    assert (sent[0]["status"], json.loads(sent[1]["body"])["code"]) == (409, "closed-meanwhile")


async def test_of_two_gateways_with_one_key_only_the_one_whose_claim_comes_first_opens_the_job(
    start_gateway: Any,
) -> None:
    async def messages(asked: list[int]) -> AsyncIterator[dict[str, Any]]:
        asked.append(1)  # the body is asked for: so far this gateway knows of no other submission
        await eventually(lambda: len(asked) == 2, what="the other gateway")
        yield {"type": "http.request", "body": lines(50), "more_body": False}

    async with start_gateway() as one, start_gateway() as other:
        for number in range(10):
            asked: list[int] = []
            key, query = {"Idempotency-Key": f"k{number}"}, "kind=bytes.digest&shard_size=1024"
            answers = await asyncio.gather(
                *(gateway.request("/v1/jobs", messages(asked), key, query) for gateway in (one, other))
            )
            opened = [event for event in await one.events() if isinstance(event, Opened)]
            assert len(opened) == number + 1
            assert sorted(answer[0]["status"] for answer in answers) == [202, 409]


async def test_a_submission_that_finds_an_earlier_claim_gives_way_and_opens_nothing(gateway: Any) -> None:
    job_id = keyed_job_id("", "k")

    async def messages() -> AsyncIterator[dict[str, Any]]:
        rival = Identity(job_id, SubmissionId("ff" * 8))
        await gateway.publish(JobStatus(rival, JobState.ACCEPTED, "bytes.digest", created_ms=int(time.time() * 1000)))
        yield {"type": "http.request", "body": lines(50), "more_body": False}

    sent = await gateway.request("/v1/jobs", messages(), {"Idempotency-Key": "k"}, "kind=bytes.digest&shard_size=1024")

    assert (sent[0]["status"], json.loads(sent[1]["body"])["code"]) == (409, "submission-open")
    assert await gateway.events() == []
    assert await gateway.shards() == []


async def test_a_claim_that_is_acked_but_not_read_back_costs_no_other_upload_its_producer(start_gateway: Any) -> None:
    async with start_gateway(ack_timeout_s=0.5) as gateway:
        statuses = gateway.topics.job_status
        aggregator = gateway.transport.transactional_producer("aggregator", max_record_bytes=1024)
        await aggregator.start()
        producer = gateway.app.state.gateway.producers.current().producer

        async def messages() -> AsyncIterator[dict[str, Any]]:
            await aggregator.begin()
            for partition in range((await gateway.transport.partition_counts([statuses]))[statuses]):
                await (await aggregator.send(statuses, value=None, key=b"", partition=partition))
            yield {"type": "http.request", "body": lines(50), "more_body": False}

        query = "kind=bytes.digest&shard_size=1024"
        sent = await gateway.request("/v1/jobs", messages(), {"Idempotency-Key": "k"}, query)

        assert (sent[0]["status"], json.loads(sent[1]["body"])["code"]) == (503, "broker-unavailable")
        assert not producer.dead
        assert gateway.app.state.gateway.producers.current().producer is producer
        assert await gateway.events() == []


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [("mine runs", 202, None), ("the other was never sealed", 409, "closed-meanwhile"), ("", 503, "state-unknown")],
)
async def test_after_a_claim_of_a_gateway_that_died_the_aggregator_says_whose_job_it_is(
    start_gateway: Any, word: str, status: int, code: str | None
) -> None:
    async with start_gateway(ack_timeout_s=2) as gateway:
        dead = Identity(keyed_job_id("", "k"), SubmissionId("ff" * 8))
        claim = JobStatus(dead, JobState.ACCEPTED, "bytes.digest", created_ms=int(time.time() * 1000) - 5_000)
        await gateway.publish(claim)

        async def answer() -> Any:
            answer = await gateway.client.post(JOBS, content=b"body", headers={"Idempotency-Key": "k"})
            return None if answer.json().get("code") == "submission-open" else answer

        async def sealed() -> Sealed | None:
            return next((event for event in await gateway.events() if isinstance(event, Sealed)), None)

        assert await answer() is None
        answers = asyncio.create_task(
            eventually(answer, timeout_s=10, what="an answer three time-outs after the claim")
        )
        mine = (await eventually(sealed, what="the seal")).owner
        if word == "mine runs":
            await gateway.publish(replace(claim, owner=mine, state=JobState.RUNNING, total=1))
        elif word:
            await gateway.publish(replace(claim, state=JobState.FAILED, reason=Reason.NOT_SEALED))
        assert ((await answers).status_code, (await answers).json().get("code")) == (status, code)


def _sealed_status(status: Any) -> Any:
    return replace(status, state=JobState.RUNNING, total=1)


async def _sealed(gateway: Any) -> bool:
    return any(isinstance(event, Sealed) for event in await gateway.events())


async def _accepted_by(gateway: Any, headers: dict[str, str]) -> Any:
    answer = await gateway.client.post(JOBS, content=b"body", headers=headers)
    return answer if answer.status_code == 202 else None
