"""The gateway over the memory transport: an HTTP client, a look at the log, and records of the aggregator."""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from regather.core.ids import event_partition
from regather.core.model import Event, Identity, JobId, JobState, Reason, SubmissionId
from regather.core.status import JobStatus, ResultAddress
from regather.processors.registry import installed
from regather.testing.inline_executor import InlineExecutor
from regather.testing.waiting import eventually
from regather.topics.layout import RESULT_RECORD_BYTES, Size, Topics, topic_specs
from regather.transport.base import Record, RecordAddress, TopicPartition
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.wire.documents import decode_status, encode_final, encode_status
from regather.wire.events import decode_event, encode_event
from regather_gateway.app import create_app
from regather_gateway.settings import GatewaySettings


class Harness:
    """A gateway that runs, and the log behind it. Nothing of the gateway is replaced."""

    def __init__(self, app: FastAPI, transport: MemoryTransport, client: httpx2.AsyncClient) -> None:
        self.app = app
        self.transport = transport
        self.client = client
        self.topics = Topics()

    async def records(self, topic: str) -> list[Record]:
        """Everything that was published to a topic, by partition and offset."""
        consumer = self.transport.consumer()
        await consumer.start()
        try:
            count = (await self.transport.partition_counts([topic]))[topic]
            partitions = [TopicPartition(topic, number) for number in range(count)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[Record] = []
            while [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
                for batch in (await consumer.poll(0.05)).values():
                    found += batch
            return found
        finally:
            await consumer.stop()

    async def events(self) -> list[Event]:
        """Job events in log order."""
        return [decode_event(record.headers, record.value) for record in await self.records(self.topics.job_events)]

    async def shards(self) -> list[Record]:
        """Shards of both lanes."""
        return [*await self.records(self.topics.shards_small), *await self.records(self.topics.shards_bulk)]

    async def published(self) -> int:
        """How many records stand in the topics that a submission writes."""
        return len(await self.shards()) + len(await self.events()) + len(await self.records(self.topics.job_status))

    async def append(
        self, topic: str, status: JobStatus, headers: Sequence[tuple[str, bytes]], value: bytes
    ) -> RecordAddress:
        """Write one record of the job's partition, as the aggregator does."""
        producer = self.transport.producer(max_record_bytes=RESULT_RECORD_BYTES)
        await producer.start()
        try:
            count = (await self.transport.partition_counts([topic]))[topic]
            job_id = status.owner.job_id
            return await (
                await producer.send(
                    topic,
                    value=value,
                    key=job_id.encode(),
                    headers=headers,
                    partition=event_partition(job_id, count),
                )
            )
        finally:
            await producer.stop()

    async def append_event(self, event: Any) -> RecordAddress:
        """Write one job event, as a worker does."""
        headers, value = encode_event(event)
        return await self.append(self.topics.job_events, JobStatus(event.owner, JobState.RUNNING, ""), headers, value)

    async def publish(self, status: JobStatus, inline: bytes | None = None) -> None:
        """Write a status record."""
        headers, value = encode_status(status, inline)
        await self.append(self.topics.job_status, status, headers, value)

    async def status_of(self, job_id: str) -> JobStatus:
        """The gateway's own first status of a job, to be continued by tell()."""
        records = await eventually(lambda: self._statuses(job_id), what=f"a status of job {job_id}")
        return records[-1]

    async def _statuses(self, job_id: str) -> list[JobStatus]:
        records = [record for record in await self.records(self.topics.job_status) if record.headers]
        statuses = [decode_status(record.headers, record.value)[0] for record in records]
        return [status for status in statuses if status.owner.job_id == job_id]

    async def succeed(self, job_id: str, result: bytes, media_type: str = "application/json") -> JobStatus:
        """End a job with a small result, which travels in the status record."""
        accepted = await self.status_of(job_id)
        status = replace(
            accepted,
            state=JobState.SUCCEEDED,
            total=1,
            done=1,
            frontier=1,
            events_offset=0,
            result=ResultAddress(0, None, len(result), media_type),
        )
        await self.publish(status, result)
        return status

    async def succeed_with_large_result(self, job_id: str, result: bytes) -> JobStatus:
        """End a job with a result that stands in the results topic."""
        accepted = await self.status_of(job_id)
        address = ResultAddress(0, None, len(result), "application/octet-stream")
        status = replace(accepted, state=JobState.SUCCEEDED, total=1, done=1, frontier=1, result=address)
        headers, value = encode_final(status, result, address.media_type)
        final = await self.append(self.topics.results, status, headers, value)
        status = replace(status, result=replace(address, partition=final.partition, offset=final.offset))
        await self.publish(status)
        return status

    async def fail(self, job_id: str, reason: Reason, error: str, **changes: Any) -> JobStatus:
        """End a job as failed."""
        accepted = await self.status_of(job_id)
        status = replace(accepted, state=JobState.FAILED, reason=reason, error=error, **changes)
        await self.publish(status)
        return status

    async def seen(self, job_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The job's document as soon as `condition` holds."""

        async def look() -> dict[str, Any] | None:
            document: dict[str, Any] = (await self.client.get(f"/v1/jobs/{job_id}")).json()
            return document if condition(document) else None

        found: dict[str, Any] = await eventually(look, what=f"the wanted document of job {job_id}")
        return found

    async def submit(self, body: bytes = b"payload", **parameters: str) -> dict[str, Any]:
        """Submit a job that is accepted; its document."""
        answer = await self.client.post("/v1/jobs", params={"kind": "bytes.digest", **parameters}, content=body)
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def request(
        self, path: str, messages: AsyncIterator[Mapping[str, Any]], headers: Mapping[str, str], query: str = ""
    ) -> list[dict[str, Any]]:
        """Call the application below HTTP: the answers to a POST whose body arrives as `messages`."""
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await self.app(scope, lambda: anext(messages), send)  # type: ignore[arg-type]  # ASGI's messages are wider here
        return sent


StartGateway = Callable[..., AbstractAsyncContextManager[Harness]]


class BrokerClock:
    """The time by which records are appended; tests set it `ahead_ms`."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


@pytest.fixture
def broker_clock() -> BrokerClock:
    """The clock of `transport`."""
    return BrokerClock()


@pytest.fixture
def broker(broker_clock: BrokerClock) -> MemoryBroker:
    """The broker of `transport`; tests set its faults."""
    return MemoryBroker(broker_clock)


@pytest.fixture
async def transport(broker: MemoryBroker) -> MemoryTransport:
    """A fresh log with all topics of an embedded installation."""
    transport = MemoryTransport(broker)
    await transport.create_topics(topic_specs(Topics(), Size.EMBEDDED))
    return transport


@pytest.fixture
def start_gateway(transport: MemoryTransport) -> StartGateway:
    """Start a gateway with changed settings; several of them share one log."""

    @contextlib.asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Harness]:
        settings = GatewaySettings(http_port=0, diagnostics=True, **changes)
        app = create_app(settings, transport, installed(diagnostics=True), InlineExecutor(installed(diagnostics=True)))
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway")
        async with app.router.lifespan_context(app), http as client:
            harness = Harness(app, transport, client)

            async def ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(ready, what="the gateway's readiness")
            yield harness

    return start


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> AsyncIterator[Harness]:
    """One gateway that is ready."""
    async with start_gateway() as harness:
        yield harness


@pytest.fixture
def make_status() -> Callable[..., JobStatus]:
    """Statuses of jobs 0, 1, 2 ... for tests without a log."""

    def make(number: int, state: JobState = JobState.RUNNING, **changes: Any) -> JobStatus:
        owner = Identity(JobId(f"018f0000-0000-7000-8000-{number:012x}"), SubmissionId("00" * 8))
        now_ms = int(time.time() * 1000)
        return JobStatus(owner, state, "bytes.digest", created_ms=now_ms, updated_ms=now_ms, **changes)

    return make


@pytest.fixture
def npy() -> Callable[[int, int], bytes]:
    """An NPY file of a grey image: 1.0 header, uint8, C order."""

    def make(height: int, width: int) -> bytes:
        header = json.dumps({"descr": "|u1", "fortran_order": False, "shape": [height, width]})
        text = header.replace("false", "False").replace("[", "(").replace("]", ")").ljust(117) + "\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(height * width)

    return make
