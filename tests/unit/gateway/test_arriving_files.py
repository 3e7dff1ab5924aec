"""Files that a look at their beginning lets be cut while they arrive, over the gateway and the memory transport."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
from reference.dicom_files import dicom

from regather.core.model import Abandoned, Opened, Sealed
from regather.testing.waiting import eventually

DEEP = np.random.default_rng(1).integers(0, 4096, (1024, 2560), np.uint16)
IMAGE = dicom(DEEP, stored=12)
"""5 MiB: large enough to be looked at."""

QUERY = "kind=image.features&shard_size=262144"


def announced(body: bytes) -> dict[str, str]:
    return {"content-length": str(len(body))}


async def test_shards_of_a_dicom_file_are_sent_before_its_upload_ends(start_gateway: Any, tmp_path: Path) -> None:
    async with start_gateway(spool_dir=str(tmp_path)) as gateway:

        async def messages() -> AsyncIterator[dict[str, Any]]:
            yield {"type": "http.request", "body": IMAGE[:3_000_000], "more_body": True}
            yield {"type": "http.request", "body": IMAGE[3_000_000:4_000_000], "more_body": True}
            await eventually(gateway.shards, what="shards before the upload's end")
            assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"] == []
            yield {"type": "http.request", "body": IMAGE[4_000_000:], "more_body": False}

        sent = await gateway.request("/v1/jobs", messages(), announced(IMAGE), QUERY)
        events = await gateway.events()
        shards = await gateway.shards()
    assert sent[0]["status"] == 202
    assert [type(event) for event in events] == [Opened, Sealed]
    assert len(shards) == events[-1].shards > 10


async def test_a_client_that_leaves_in_mid_file_abandons_the_job(gateway: Any) -> None:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": IMAGE[:3_000_000], "more_body": True}
        yield {"type": "http.request", "body": IMAGE[3_000_000:4_000_000], "more_body": True}
        yield {"type": "http.disconnect"}

    await gateway.request("/v1/jobs", messages(), announced(IMAGE), QUERY)
    opened, abandoned = await gateway.events()
    assert abandoned == Abandoned(opened.owner, "the client disconnected before the end of the upload")


async def test_a_file_that_its_beginning_shows_to_be_cut_off_leaves_no_job_behind(gateway: Any) -> None:
    answer = await gateway.client.post(f"/v1/jobs?{QUERY}", content=IMAGE[:-2])
    assert answer.status_code == 422
    assert "it is cut off" in answer.json()["detail"]
    assert await gateway.published() == 0


async def test_a_file_that_disagrees_with_its_options_is_refused_before_it_has_arrived(gateway: Any) -> None:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": IMAGE[:100_000], "more_body": True}
        while True:
            yield {"type": "http.disconnect"}

    sent = await gateway.request("/v1/jobs", messages(), announced(IMAGE), f"{QUERY}&option.width=3")
    assert sent[0]["status"] == 422
    assert b"option width is 3, but the file says 2560" in sent[1]["body"]
    assert await gateway.published() == 0


async def test_a_file_of_unknown_length_is_cut_when_it_is_there(gateway: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        for at in range(0, len(IMAGE), 1_000_000):
            yield IMAGE[at : at + 1_000_000]

    answer = await gateway.client.post(f"/v1/jobs?{QUERY}", content=body())
    assert answer.status_code == 202
    assert answer.json()["shards"]["total"] > 10
