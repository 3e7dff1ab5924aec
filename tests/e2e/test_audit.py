"""`regather audit` on a real broker: clean over what a real stack wrote, and every violation seen."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from e2e.forged_job import BREAKAGES, ForgedJob
from typer.testing import CliRunner

from regather.embedded.kafka_broker import Broker
from regather.topics.layout import Topics
from regather.transport.kafka import KafkaTransport
from regather_cli.client import Client, Submission
from regather_cli.main import app
from regather_cli.stack import Stack

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

ROWS = 40_000
VIOLATIONS = {name for _, seen in BREAKAGES.values() for name in seen}


async def audit(bootstrap: str, prefix: str, *arguments: str) -> tuple[int, list[str], dict[str, Any]]:
    """Run the command; exit code, the report's lines, and the document of its last line."""
    command = ["audit", "--from-beginning", "--bootstrap", bootstrap, "--prefix", prefix, *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    *lines, last = result.stdout.splitlines()
    return result.exit_code, lines, json.loads(last)


def table(rows: int, bad: int | None = None) -> bytes:
    lines = [f"{number},{'x' if number == bad else number * 3}" for number in range(rows)]
    return "\n".join(["id,amount", *lines, ""]).encode()


async def ended(client: Client, submission: Submission, body: bytes) -> dict[str, Any]:
    job = await client.submit(submission, body)
    return await client.wait(job["job_id"], timeout_s=120, every_s=0.05)


async def test_what_a_real_stack_wrote_is_clean(stack: Stack, client: Client) -> None:
    video = np.random.default_rng(1).integers(0, 256, (40, 30, 20), np.uint8).tobytes()
    frames = {"width": "20", "height": "30"}
    poison = {"do": "raise", "only": "3"}
    jobs = {
        "merged": (Submission("bytes.digest", {}, 1024), bytes(200 * 1024)),
        "joined": (Submission("frames.motion", frames, 2_000), video),
        "chained": (Submission("frames.track", frames, 2_000), video),
        "large": (Submission("table.etl", {"cast": "amount:int"}, 64 * 1024), table(ROWS)),
        "gap": (Submission("diagnostics", poison, 1024, on_error="skip"), bytes(8 * 1024)),
        "failed": (Submission("diagnostics", poison, 1024), bytes(8 * 1024)),
        "rows": (Submission("table.etl", {"cast": "amount:int"}, 16 * 1024, on_error="skip"), table(3_000, bad=77)),
    }
    documents = {name: await ended(client, submission, body) for name, (submission, body) in jobs.items()}
    assert {name: document["state"] for name, document in documents.items()} == {
        "merged": "succeeded", "joined": "succeeded", "chained": "succeeded", "large": "succeeded",
        "gap": "partial", "failed": "failed", "rows": "partial",
    }  # fmt: skip
    assert len(await client.result(documents["large"]["job_id"])) > 1024 * 1024
    endless = Submission("diagnostics", {"do": "sleep", "seconds": "250"}, 1024, timeout_s=299)
    job_id = (await client.submit(endless, bytes(1024)))["job_id"]
    code, _, open_now = await audit(stack.broker.bootstrap_servers, stack.topics.prefix)
    assert (code, open_now["open"], open_now["finals"]) == (0, 1, len(documents))
    await cancel(client, job_id)

    code, lines, document = await audit(stack.broker.bootstrap_servers, stack.topics.prefix)

    assert document["violations"] == []
    assert (code, document["audit"], document["inconclusive"]) == (0, "clean", {})
    assert lines[-1] == "clean: exactly one right final for every job"
    assert document["jobs"] == document["finals"] == document["versions_checked"] == len(documents) + 1
    assert document["dead_letters"] >= 3
    assert document["executions_max"] == 4
    assert {name: document[name] for name in VIOLATIONS} == dict.fromkeys(VIOLATIONS, 0)


async def cancel(client: Client, job_id: str) -> None:
    await client._request("POST", f"/v1/jobs/{job_id}:cancel")
    assert (await client.wait(job_id, timeout_s=30))["state"] == "cancelled"


async def test_a_job_that_was_redriven_is_clean(stack: Stack, client: Client) -> None:
    slow = {"do": "sleep", "seconds": "0.6", "only": "3,5"}
    first = await ended(client, Submission("diagnostics", slow, 1024, on_error="skip", timeout_s=0.2), bytes(8 * 1024))
    assert first["shards"]["gaps"] == [[3, 3], [5, 5]]
    for version, shards, gaps in ((2, "5", [[3, 3]]), (3, "", [])):  # the letter of the gap that stays is of version 1
        await client.redrive(first["job_id"], shards, timeout_s=20)
        done = await client.wait(first["job_id"], timeout_s=60)
        assert (done["version"], done["shards"]["gaps"]) == (version, gaps)

    code, _, document = await audit(
        stack.broker.bootstrap_servers, stack.topics.prefix, "--job", first["job_id"], "--json"
    )

    assert document["violations"] == []
    assert (code, document["audit"], document["inconclusive"]) == (0, "clean", {})
    assert (document["redriven"], document["finals"], document["versions_checked"]) == (2, 3, 3)


class Forge:
    """Topics of the test's own, jobs written into them by hand, and their audit."""

    def __init__(self, broker: Broker) -> None:
        self.bootstrap = broker.bootstrap_servers
        self.topics = Topics(f"audit-{uuid.uuid4().hex[:8]}.")
        self.jobs: list[ForgedJob] = []
        self._transport = KafkaTransport(self.bootstrap, client_id="forge")

    def job(self, **how: Any) -> ForgedJob:
        self.jobs.append(ForgedJob(self._transport, self.topics, len(self.jobs) + 1, **how))
        return self.jobs[-1]

    async def audit(self, *arguments: str) -> tuple[int, list[str], dict[str, Any]]:
        return await audit(self.bootstrap, self.topics.prefix, *arguments)


@pytest_asyncio.fixture(loop_scope="module")
async def forge(kafka_broker: Broker) -> AsyncIterator[Forge]:
    made = Forge(kafka_broker)
    await made.job().create()
    yield made
    for job in made.jobs:
        await job.close()


async def test_a_job_that_is_right_is_clean_beside_one_that_is_broken(forge: Forge) -> None:
    await forge.job().write()
    right = forge.job(in_segments=True)
    await right.write()
    code, _, document = await forge.audit("--json")
    assert (code, document["audit"], document["versions_checked"]) == (0, "clean", 2)
    await BREAKAGES["a wrong byte"][0](forge.job())
    assert (await forge.audit())[0] == 1
    code, _, document = await forge.audit("--job", right.owner.job_id)
    assert (code, document["versions_checked"]) == (0, 1)


@pytest.mark.parametrize("name", list(BREAKAGES))
async def test_a_broken_promise_is_seen_and_named(forge: Forge, name: str) -> None:
    break_, seen = BREAKAGES[name]
    job = forge.job(deadline_ms=0 if name == "no final" else 3_600_000)
    await break_(job)
    code, lines, document = await forge.audit("--grace", "0")
    assert code == 1
    assert {violation for violation in VIOLATIONS if document[violation]} == seen
    assert {entry["job"] for entry in document["violations"]} == {job.owner.job_id}
    assert any(job.owner.job_id in line for line in lines)
    assert lines[-1] == "violations: not every job has exactly one right final"


async def test_what_retention_took_could_not_be_told(forge: Forge) -> None:
    await forge.job().write()
    admin = AIOKafkaAdminClient(bootstrap_servers=forge.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(forge.topics.job_events, 0): RecordsToDelete(1)})
    finally:
        await admin.close()
    code, lines, document = await forge.audit()
    assert (code, document["audit"], document["inconclusive"]) == (3, "inconclusive", {"opened_gone": 1})
    assert lines[-1] == "inconclusive: no violations, but some checks could not be made"


async def test_topics_that_are_not_there_are_a_failure_with_advice(kafka_broker: Broker) -> None:
    command = ["audit", "--from-beginning", "--bootstrap", kafka_broker.bootstrap_servers, "--prefix", "nobody."]
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert result.exit_code == 1
    assert "topics are missing: nobody.results" in result.stderr
