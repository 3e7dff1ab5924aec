"""Whatever can be refused is refused before anything is published."""

import base64
import hashlib
from typing import Any

import pytest

JOBS = "/v1/jobs"


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        pytest.param("kind=bytes.digest", b"", "empty-body", id="empty body"),
        pytest.param("kind=image.features", b"", "bad-request", id="empty image"),
        pytest.param("kind=no.such", b"x", "unknown-kind", id="unknown kind"),
        pytest.param("", b"x", "invalid-parameter", id="no kind"),
        pytest.param("kind=bytes.digest&option.colour=red", b"x", "bad-option", id="unknown option"),
        pytest.param("kind=image.features&option.width=-1", b"x", "bad-option", id="wrong option"),
        pytest.param("kind=image.features&option.width=1&option.width=2", b"x", "bad-option", id="option twice"),
        pytest.param("kind=bytes.digest&colour=red", b"x", "unknown-parameter", id="unknown parameter"),
        pytest.param("kind=bytes.digest&shard_size=0", b"x", "bad-shard-size", id="shard_size 0"),
        pytest.param("kind=bytes.digest&shard_size=1023", b"x", "bad-shard-size", id="shard_size 1023"),
        pytest.param("kind=bytes.digest&shard_size=10485761", b"x", "bad-shard-size", id="shard_size 10485761"),
        pytest.param("kind=bytes.digest&shard_size=abc", b"x", "invalid-parameter", id="shard_size abc"),
        pytest.param("kind=bytes.digest&shard_size=1024&shards=2", b"x", "bad-split", id="two splits"),
        pytest.param("kind=bytes.digest&shards=2", b"x", "bad-split", id="more shards than bytes"),
        pytest.param("kind=bytes.digest&timeout_s=0", b"x", "invalid-parameter", id="timeout_s 0"),
        pytest.param("kind=bytes.digest&timeout_s=3601", b"x", "invalid-parameter", id="timeout_s 3601"),
        pytest.param("kind=bytes.digest&deadline_s=3601", b"x", "bad-request", id="deadline_s 3601"),
        pytest.param("kind=bytes.digest&on_error=retry", b"x", "invalid-parameter", id="on_error retry"),
        pytest.param("kind=image.features", b"GIF89a", "bad-input", id="no NPY file"),
        pytest.param("kind=image.features", b"\x93NUMPY\x01\x00\x76\x00{'descr'", "bad-input", id="header cut off"),
    ],
)
async def test_wrong_input_is_a_422_problem_and_leaves_nothing_behind(
    gateway: Any, query: str, body: bytes, code: str
) -> None:
    answer = await gateway.client.post(f"{JOBS}?{query}", content=body)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"]
    assert problem["type"] == f"urn:regather:problem:{code}"
    assert await gateway.published() == 0


@pytest.mark.parametrize("size", [1024, 10_485_760])
async def test_both_ends_of_the_shard_size_are_allowed(gateway: Any, size: int) -> None:
    assert (await gateway.submit(b"x", shard_size=str(size)))["shards"]["total"] == 1


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        pytest.param({"content-digest": "sha-256=:AAAA:"}, 400, "content-digest-invalid", id="digest too short"),
        pytest.param({"content-digest": "sha-256=abc"}, 400, "content-digest-invalid", id="digest without colons"),
        pytest.param({"content-encoding": "br"}, 415, "content-encoding", id="compressed"),
        pytest.param({"idempotency-key": "a b"}, 400, "idempotency-key-invalid", id="key with a space"),
        pytest.param({"idempotency-key": ""}, 400, "idempotency-key-invalid", id="empty key"),
        pytest.param({"content-type": "multipart/form-data"}, 422, "multipart-invalid", id="no boundary"),
        pytest.param(
            {"content-type": "multipart/form-data; boundary=b"}, 422, "multipart-invalid", id="no multipart body"
        ),
    ],
)
async def test_wrong_headers_are_refused(gateway: Any, headers: dict[str, str], status: int, code: str) -> None:
    answer = await gateway.client.post(f"{JOBS}?kind=bytes.digest", content=b"x", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await gateway.published() == 0


async def test_wrong_content_digest_of_a_small_body_leaves_nothing_behind(gateway: Any) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"another").digest()).decode()

    answer = await gateway.client.post(
        f"{JOBS}?kind=bytes.digest", content=b"body", headers={"Content-Digest": f"sha-256=:{wrong}:"}
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "content-digest-differs")
    assert await gateway.published() == 0


async def test_body_above_the_limit_is_a_413_that_names_the_limit(start_gateway: Any) -> None:
    async with start_gateway(max_body_bytes=2048) as gateway:
        answer = await gateway.client.post(f"{JOBS}?kind=bytes.digest", content=bytes(2049))
        fitting = await gateway.client.post(f"{JOBS}?kind=bytes.digest", content=bytes(2048))

        assert (answer.status_code, answer.json()["max_body_bytes"]) == (413, 2048)
        assert fitting.status_code == 202


async def test_no_more_jobs_than_the_limit_at_once(start_gateway: Any) -> None:
    async with start_gateway(max_concurrent_jobs=1) as gateway:
        with gateway.app.state.gateway.admission.enter():
            answer = await gateway.client.post(f"{JOBS}?kind=bytes.digest", content=b"x")
        later = await gateway.client.post(f"{JOBS}?kind=bytes.digest", content=b"x")

        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert later.status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/v1/kinds", 405, "method-not-allowed"),
        ("GET", "/v1/jobs/no-uuid", 404, "unknown-job"),
        ("GET", "/v1/jobs/018f0000-0000-7000-8000-000000000000", 404, "unknown-job"),
        ("GET", "/v1/jobs/018f0000-0000-7000-8000-000000000000/result", 404, "unknown-job"),
        ("GET", "/v1/jobs/018f0000-0000-7000-8000-000000000000/shards", 404, "unknown-job"),
        ("GET", "/v1/jobs?limit=0", 422, "invalid-parameter"),
        ("GET", "/v1/jobs?cursor=%21", 422, "bad-cursor"),
    ],
)
async def test_every_error_is_a_problem_document(gateway: Any, method: str, path: str, status: int, code: str) -> None:
    answer = await gateway.client.request(method, path)

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param("shards=x", "bad-shards", id="no number"),
        pytest.param("shards=3-1", "bad-shards", id="backwards"),
        pytest.param("shards=,", "bad-shards", id="nothing named"),
        pytest.param("shards=1,", "bad-shards", id="something left out"),
        pytest.param(
            "shards=" + ",".join(f"{n}00000-{n}99999" for n in range(999)), "bad-shards", id="a hundred million"
        ),
        pytest.param("shard=1", "unknown-parameter", id="misspelt"),
        pytest.param("shards=1&shards=2", "invalid-parameter", id="twice"),
        pytest.param("timeout_s=0", "invalid-parameter", id="timeout_s 0"),
    ],
)
async def test_a_redrive_that_is_not_understood_runs_nothing(gateway: Any, query: str, code: str) -> None:
    job_id = (await gateway.submit(b"x"))["job_id"]
    published = await gateway.published()

    answer = await gateway.client.post(f"{JOBS}/{job_id}:redrive?{query}")

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert await gateway.published() == published


async def test_a_conflict_that_does_not_pass_is_not_called_retryable(gateway: Any) -> None:
    job_id = (await gateway.submit(b"x"))["job_id"]

    open_still = await gateway.client.post(f"{JOBS}/{job_id}:redrive")
    early = await gateway.client.get(f"{JOBS}/{job_id}/result")

    assert (open_still.json()["code"], open_still.json()["retryable"]) == ("redrive-conflict", False)
    assert (early.json()["code"], early.json()["retryable"]) == ("not-ready", True)


async def test_a_result_that_is_sure_to_be_too_large_is_refused_before_anything_is_sent(start_gateway: Any) -> None:
    async with start_gateway(max_result_bytes=10_000) as gateway:
        query = "kind=image.map&option.operator=invert&option.format=raw&option.width=100&option.channels=1"
        answer = await gateway.client.post(f"/v1/jobs?{query}", content=bytes(10_100))
        published = await gateway.published()
        fits = await gateway.client.post(f"/v1/jobs?{query}", content=bytes(9_000))
    assert answer.status_code == 422
    assert "at most 10000" in answer.json()["detail"]
    assert published == 0
    assert fits.status_code == 202
