"""The two synchronous endpoints: /process-data and /analyze-image."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import image_samples
import numpy as np
import pytest

from regather.core.model import Opened, Reason
from regather.core.status import ShardError
from regather.testing.waiting import eventually
from regather.wire.shards import decode_shard


async def sealed_job(gateway: Any) -> str:
    """Id of the one job, once it is sealed."""

    async def look() -> str | None:
        events = await gateway.events()
        return events[0].owner.job_id if len(events) == 2 else None

    return str(await eventually(look, what="a sealed job"))


async def through(gateway: Any, request: Any, result: bytes = b'{"n": 1}') -> Any:
    """The answer to a request whose job succeeds with `result`."""
    answering = asyncio.create_task(request)
    await gateway.succeed(await sealed_job(gateway), result)
    return await answering


async def input_of(gateway: Any) -> bytes:
    """The bytes of the one job, from its shards."""
    shards = [decode_shard(record.headers, record.value) for record in await gateway.shards()]
    return b"".join(shard.payload for shard in sorted(shards, key=lambda shard: shard.seq))


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        pytest.param("grün \N{SNOWMAN}\n", "grün \N{SNOWMAN}\n".encode(), id="text"),
        pytest.param([1, {"a": [True, None]}, "x y"], b'1\n{"a":[true,null]}\n"x y"\n', id="array"),
    ],
)
async def test_payload_is_processed_and_the_result_returned(gateway: Any, payload: Any, data: bytes) -> None:
    answer = await through(
        gateway, gateway.client.post("/process-data", json={"payload": payload, "shard_size": 1024, "options": {}})
    )

    assert answer.status_code == 200
    assert answer.json() == {"result": {"n": 1}, "job_id": await sealed_job(gateway), "shards": 1}
    assert await input_of(gateway) == data


async def test_fields_may_follow_the_payload(gateway: Any) -> None:
    body = json.dumps({"payload": "x" * 5000, "shard_size": 1024, "kind": "diagnostics", "options": {}})

    await through(gateway, gateway.client.post("/process-data", content=body))

    opened = (await gateway.events())[0]
    assert isinstance(opened, Opened)
    assert opened.kind == "diagnostics"
    assert len(await gateway.shards()) == 5


async def test_image_in_base64_gives_its_analysis(gateway: Any, npy: Callable[[int, int], bytes]) -> None:
    image = npy(40, 200)

    answer = await through(
        gateway,
        gateway.client.post(
            "/analyze-image", json={"image_data": base64.b64encode(image).decode(), "shard_size": 1024}
        ),
        b'{"height": 40}',
    )

    assert answer.json()["analysis"] == {"height": 40}
    assert len(await gateway.shards()) > 1


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/x-raw", "application/x-npy"])
async def test_raw_image_is_cut_while_it_arrives(
    gateway: Any, npy: Callable[[int, int], bytes], content_type: str
) -> None:
    answer = await through(
        gateway,
        gateway.client.post(
            "/analyze-image?shard_size=1024", content=npy(40, 200), headers={"Content-Type": content_type}
        ),
    )

    assert answer.status_code == 200


async def test_raw_pixels_take_their_geometry_from_the_query(gateway: Any) -> None:
    answer = await through(
        gateway,
        gateway.client.post(
            "/analyze-image?width=10&height=4&channels=3",
            content=bytes(120),
            headers={"Content-Type": "application/octet-stream"},
        ),
    )

    assert answer.status_code == 200
    assert json.loads((await gateway.events())[0].options) == {"width": 10, "height": 4, "channels": 3}


@pytest.mark.parametrize("in_form", [False, True])
async def test_which_image_of_a_file_is_meant_is_said_in_the_query_or_the_form(gateway: Any, *, in_form: bool) -> None:
    pages = image_samples.tiff(np.stack([image_samples.GREY, image_samples.GREY[::-1]]))
    chosen = {"format": "tiff", "page": "1", "level": "0"}
    request: dict[str, Any] = {"params": chosen, "content": pages, "headers": {"Content-Type": "image/tiff"}}
    if in_form:
        request = {"data": chosen, "files": {"image": ("a.tif", pages, "image/tiff")}}

    answer = await through(gateway, gateway.client.post("/analyze-image", **request))

    assert answer.status_code == 200
    assert json.loads((await gateway.events())[0].options) == {"format": "tiff", "page": 1, "level": 0}


async def test_form_with_an_image_takes_its_fields_from_the_form(
    gateway: Any, npy: Callable[[int, int], bytes]
) -> None:
    answer = await through(
        gateway,
        gateway.client.post(
            "/analyze-image",
            files={"image": ("a.npy", npy(40, 200), "application/x-npy")},
            data={"shard_size": "1024"},
        ),
    )

    assert answer.status_code == 200
    assert len(await gateway.shards()) > 1


@pytest.mark.parametrize("size", [0, 1023, 10_485_761, "abc", None, 2000.5])
async def test_wrong_shard_size_is_a_422_with_the_framework_s_list(gateway: Any, size: Any) -> None:
    answers = [
        await gateway.client.post("/process-data", json={"payload": "x", "shard_size": size}),
        await gateway.client.post("/analyze-image", json={"image_data": "QUJD", "shard_size": size}),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, "shard-size-invalid")
        assert answer.json()["detail"][0]["loc"] == ["body", "shard_size"]
        assert answer.json()["detail"][0]["msg"]
    assert await gateway.published() == 0


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        pytest.param("/process-data", b"{}", "missing", id="no payload"),
        pytest.param("/process-data", b"", "json-invalid", id="no body"),
        pytest.param("/process-data", b'{"payload": "x"', "json-invalid", id="broken JSON"),
        pytest.param("/process-data", b'{"payload": 5}', "field-type", id="payload is a number"),
        pytest.param("/process-data", b'{"payload": ""}', "empty-body", id="empty text"),
        pytest.param("/process-data", b'{"payload": []}', "empty-body", id="empty array"),
        pytest.param("/process-data", b'{"payload": "x", "kind": "no.such"}', "unknown-kind", id="unknown kind"),
        pytest.param("/process-data", b'{"payload": "x", "options": {"a": 1}}', "bad-option", id="unknown option"),
        pytest.param("/process-data", b'{"payload": "x", "options": 3}', "options-invalid", id="options no object"),
        pytest.param("/analyze-image", b'{"image_data": "?"}', "base64-invalid", id="no base64"),
        pytest.param("/analyze-image", b'{"image_data": "QUJD"}', "bad-request", id="no image"),
        pytest.param("/analyze-image", b'{"shard_size": 1024}', "missing", id="no image_data"),
    ],
)
async def test_wrong_bodies_are_a_422_and_leave_nothing_behind(gateway: Any, path: str, body: bytes, code: str) -> None:
    answer = await gateway.client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["detail"][0].keys() >= {"type", "loc", "msg"}
    assert await gateway.published() == 0


async def test_other_types_than_images_are_a_415(gateway: Any) -> None:
    answer = await gateway.client.post("/analyze-image", content=b"x", headers={"Content-Type": "text/plain"})

    assert (answer.status_code, answer.json()["code"]) == (415, "content-type")


async def test_wait_limit_gives_503_and_says_where_the_job_is(start_gateway: Any) -> None:
    async with start_gateway(sync_wait_s=0.01) as gateway:
        answer = await gateway.client.post("/process-data", json={"payload": "x"})

        job_id = await sealed_job(gateway)
        assert answer.status_code == 503
        assert answer.json()["job_id"] == job_id
        assert (await gateway.client.get(answer.json()["status_url"])).json()["job_id"] == job_id
        assert int(answer.headers["retry-after"]) > 0
        assert isinstance(answer.json()["detail"], str)


async def test_refused_admission_is_a_503(start_gateway: Any) -> None:
    async with start_gateway(max_concurrent_jobs=1) as gateway:
        with gateway.app.state.gateway.admission.enter():
            answer = await gateway.client.post("/process-data", json={"payload": "x"})

        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("reason", "status", "code"), [(Reason.PERMANENT, 422, "bad-data"), (Reason.TIMED_OUT, 500, "job-failed")]
)
async def test_failed_job_is_422_for_bad_data_and_else_500(
    gateway: Any, reason: Reason, status: int, code: str
) -> None:
    answering = asyncio.create_task(gateway.client.post("/process-data", json={"payload": "x"}))
    job_id = await sealed_job(gateway)
    error = ShardError(0, reason, "it does not work", 1)
    await gateway.fail(job_id, Reason.SHARD_FAILED, "shard 0 failed for good", failed=1, errors=(error,))

    answer = await answering

    assert (answer.status_code, answer.json()["code"], answer.json()["job_id"]) == (status, code, job_id)
    assert "shard 0 failed for good" in json.dumps(answer.json()["detail"])


async def test_data_above_the_limit_of_the_spool_is_a_413(start_gateway: Any) -> None:
    async with start_gateway(max_spool_bytes=2_000_000) as gateway:
        answer = await gateway.client.post("/process-data", json={"payload": "x" * 2_000_001})

        assert (answer.status_code, answer.json()["max_body_bytes"]) == (413, 2_000_000)
        assert await gateway.published() == 0


async def test_data_above_the_memory_of_the_spool_arrives_whole(gateway: Any) -> None:
    payload = "".join(f"{number:079d}\n" for number in range(40_000))

    await through(gateway, gateway.client.post("/process-data", json={"payload": payload}))

    assert await input_of(gateway) == payload.encode()


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (b'{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \\" Infinity"}',
         '{"a": "NaN", "b": ["-Infinity", "Infinity"], "c": "NaN \\" Infinity"}'),
        (b'{"sum": 1e400, "n": 1.10, "whole": ' + b"7" * 5000 + b"}",
         '{"sum": 1e400, "n": 1.10, "whole": ' + "7" * 5000 + "}"),
        (b'{"half": "\\ud800"}', '{"half": "\\ud800"}'),
        ("{\"snow\": \"\N{SNOWMAN}\"}".encode(), "{\"snow\": \"\N{SNOWMAN}\"}"),
        (b"NaN", '"NaN"'),
    ],
    ids=["constants", "numbers", "half a pair", "text", "a constant alone"],
)  # fmt: skip
async def test_a_result_is_answered_as_it_is(gateway: Any, result: bytes, shown: str) -> None:
    answer = await through(gateway, gateway.client.post("/process-data", json={"payload": "x"}), result)

    assert answer.status_code == 200
    assert answer.text == f'{{"result":{shown},"job_id":"{await sealed_job(gateway)}","shards":1}}'


async def test_lines_of_a_result_become_an_array(gateway: Any) -> None:
    answering = asyncio.create_task(gateway.client.post("/process-data", json={"payload": "x"}))
    await gateway.succeed(await sealed_job(gateway), b'{"p": NaN}\n\n[1e999]\r\n', "application/x-ndjson")

    assert (await answering).text.startswith('{"result":[{"p": "NaN"},[1e999]\r],')


@pytest.mark.parametrize(
    ("result", "status", "code"),
    [
        (b"{", 500, "result-invalid"),
        (b'{"a": 1} {"b": 2}', 500, "result-invalid"),
        (b"\xff", 500, "result-invalid"),
        (b"[" * 50_000 + b"]" * 50_000, 422, "result-too-deep"),
    ],
)
async def test_a_result_that_is_no_json_names_where_its_bytes_are(
    gateway: Any, result: bytes, status: int, code: str
) -> None:
    answer = await through(gateway, gateway.client.post("/process-data", json={"payload": "x"}), result)

    job_id = await sealed_job(gateway)
    assert (answer.status_code, answer.json()["code"], answer.json()["job_id"]) == (status, code, job_id)
    if status == 500:
        assert f"/v1/jobs/{job_id}/result" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (rb'{"payload": ["\ud800"]}', "json-invalid"),
        (rb'{"payload": [{"\udc00": 1}]}', "json-invalid"),
        (rb'{"payload": "\ud800"}', "json-invalid"),
        (rb'{"payload": "x", "kind": "\ud800"}', "json-invalid"),
        (rb'{"payload": "x", "options": {"a": "\ud800"}}', "json-invalid"),
        (rb'{"payload": "x", "options": {"\ud800": 1}}', "json-invalid"),
        (rb'{"payload": "x", "\ud800": 1}', "json-invalid"),
        (rb'{"payload": [1e999]}', "json-invalid"),
        (rb'{"payload": [NaN]}', "json-invalid"),
        (rb'{"payload": [-Infinity]}', "json-invalid"),
        (rb'{"payload": "x", "options": {"seconds": 1e999}, "kind": "diagnostics"}', "json-invalid"),
        (rb'{"payload": "x", "options": {"seconds": "inf"}, "kind": "diagnostics"}', "bad-option"),
        (rb'{"payload": "x", "options": {"seconds": "nan"}, "kind": "diagnostics"}', "bad-option"),
        (b'{"payload": [' + b"9" * 5000 + b"]}", "json-invalid"),
        (b'{"payload": "x", "shard_size": ' + b"9" * 5000 + b"}", "json-invalid"),
        (b'{"payload": "x", "shard_size": ' + b"9" * 400 + b"}", "shard-size-invalid"),
        (b'{"payload": "x", "shard_size": 1e300}', "shard-size-invalid"),
        (b'{"payload": "x", "options": {"size_bytes": ' + b"9" * 400 + b'}, "kind": "diagnostics"}', "bad-option"),
        (b'{"payload": [' + b"[" * 100_000, "json-invalid"),
        (b'{"payload": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "json-invalid"),
        (b'{"payload": [1\x00]}', "json-invalid"),
        (b'{"payload": ["\xff"]}', "json-invalid"),
        (b"\xef\xbb\xbf{}", "json-invalid"),
        (b'{"payload": "x", "options": {"a": {"b": [NaN]}}}', "json-invalid"),
    ],
)
async def test_odd_json_is_a_422_and_leaves_nothing_behind(gateway: Any, body: bytes, code: str) -> None:
    answer = await gateway.client.post("/process-data", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert [detail.keys() for detail in answer.json()["detail"]] == [{"type", "loc", "msg"}]
    assert len(answer.content) < 2_000
    assert await gateway.published() == 0


async def test_elements_keep_their_digits(gateway: Any) -> None:
    body = rb'{"payload": [ 1.10, 12345678901234567890.123456789, {"a" : [ 1E5 , "\u00e9 \" ] " ] }, -0, "b\tc" ]}'

    await through(gateway, gateway.client.post("/process-data", content=body))

    lines = ["1.10", "12345678901234567890.123456789", '{"a":[1E5,"é \\" ] "]}', "-0", '"b\\tc"', ""]
    assert await input_of(gateway) == "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("job_reason", "shard_reason"),
    [
        (Reason.PERMANENT, None),
        (Reason.RESULT_TOO_LARGE, None),
        (Reason.SHARD_FAILED, Reason.RETURNED_TOO_MUCH),
    ],
)
async def test_what_the_data_is_to_blame_for_is_a_422(
    gateway: Any, job_reason: Reason, shard_reason: Reason | None
) -> None:
    answering = asyncio.create_task(gateway.client.post("/process-data", json={"payload": "x"}))
    errors = (ShardError(0, shard_reason, "too much", 1),) if shard_reason else ()
    await gateway.fail(await sealed_job(gateway), job_reason, "row 7: the sum overflows", errors=errors)

    answer = await answering

    assert (answer.status_code, answer.json()["code"]) == (422, "bad-data")
    assert answer.json()["detail"][0]["msg"] == "row 7: the sum overflows"
