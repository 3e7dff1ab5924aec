"""A broker that is down at the start or goes in mid-job: answers in bounded time, and all goes on when it is back."""

import time

import httpx2
import pytest

from regather.embedded.embedded_kafka import EmbeddedKafka, free_port
from regather.testing.waiting import eventually
from regather_cli.client import Client, Submission
from regather_cli.stack import Role, Stack, StackSettings

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.e2e, pytest.mark.timeout(300)]
ENVIRONMENT = {
    "REGATHER_DIAGNOSTICS": "true",
    "REGATHER_PROGRESS_S": "0.1",
    "REGATHER_ACK_TIMEOUT_S": "5",
    "REGATHER_SESSION_TIMEOUT_MS": "6000",
}


@pytest.fixture
def stack_settings() -> StackSettings:
    return StackSettings(
        worker_slots=1,
        topic_prefix="down.",
        gateway_port=free_port(),  # the same one after a restart
        environment=ENVIRONMENT,
    )


async def test_a_job_survives_the_broker_and_a_gateway_starts_without_one(
    kafka_and_stack: tuple[EmbeddedKafka, Stack],
) -> None:
    kafka, stack = kafka_and_stack
    (gateway,) = stack.of(Role.GATEWAY)
    async with Client(stack.gateway_url) as client:
        slow = Submission("diagnostics", {"do": "sleep", "seconds": "0.1"}, shard_size_bytes=1024)
        job_id = (await client.submit(slow, bytes(100 * 1024)))["job_id"]

        async def begun() -> bool:
            return bool((await client.status(job_id))["shards"]["done"] > 10)

        await eventually(begun, timeout_s=30, what="ten settled shards")
        kafka.kill()

        status, code, seconds = await _post(gateway.url)
        assert (status, code in ("broker-unavailable", "state-unknown")) == (503, True)
        assert seconds < 20

        stack.kill(gateway)
        gateway.start()
        await eventually(lambda: _alive(gateway.url), timeout_s=30, what="a gateway without a broker")
        async with httpx2.AsyncClient(base_url=gateway.url) as http:
            ready = await http.get("/readyz")
            assert ready.status_code == 503
            assert ready.json()["reason"]
        assert (await _post(gateway.url))[:2] == (503, "broker-unavailable")

        kafka.start()
        await gateway.wait_ready(60)
    async with Client(gateway.url) as client:
        document = await client.wait(job_id, timeout_s=120)
        assert (document["state"], document["shards"]["done"]) == ("succeeded", 100)
        again = await client.submit(Submission("bytes.digest", {}, 1024), b"x")
        assert (await client.wait(again["job_id"], timeout_s=60))["state"] == "succeeded"


async def _post(url: str) -> tuple[int, str, float]:
    started = time.monotonic()
    async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
        answer = await http.post("/v1/jobs?kind=bytes.digest", content=b"x")
    return answer.status_code, answer.json()["code"], time.monotonic() - started


async def _alive(url: str) -> bool:
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=2) as http:
            return (await http.get("/livez")).status_code == 200
    except httpx2.TransportError:
        return False
