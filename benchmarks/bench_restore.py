"""`make bench-restore`: how long a killed aggregator takes to be as it was, against open jobs and against the log.

`open_jobs`: so many jobs wait for their second shard when the aggregator is killed with SIGKILL. `behind_mb`: one job waits
while so much of other jobs' outcomes goes through its partition; with checkpoints (the default) and without. Seconds are
from the start of the new process until a job that came meanwhile has ended; `floor_s` is what it takes with nothing to
restore: the session time-out of the member that was killed (6 s here, less what passed of it), start, fence.
{"open_jobs": {n: s}, "behind_mb": {mb: {"with", "without"}}, "floor_s"}
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence

from regather.core.ids import uuid7
from regather.core.model import Event, Identity, OnError, Opened, Outcome, Outcomes, Sealed, SubmissionId
from regather.testing.waiting import eventually
from regather.topics.layout import EVENT_RECORD_BYTES
from regather.transport.kafka import KafkaTransport
from regather.wire.events import encode_event
from regather_cli.client import ApiError, Client
from regather_cli.report import write_report
from regather_cli.stack import Role, Stack, StackSettings

OPEN_JOBS = (100, 1_000, 10_000)
BEHIND_MB = 512
MIB = 1024 * 1024
NO_CHECKPOINTS = {"REGATHER_CHECKPOINT_LOG_BYTES": str(1024**4)}


def identity(number: int) -> Identity:
    return Identity(uuid7(number + 1, number.to_bytes(10, "big")), SubmissionId("00" * 8))


def half_done(number: int) -> list[Event]:
    """A job of two shards of which one is done."""
    owner = identity(number)
    return [
        Opened(owner, "frames.motion", b"{}", "", 3_600_000, OnError.FAIL),
        Outcomes(owner, "bench", [Outcome(0, 1, 100, 0, 1, output=bytes(100))]),
        Sealed(owner, 2, 200, "sha256:x"),
    ]


def ended(number: int, size_bytes: int = MIB) -> list[Event]:
    """A job of one shard with an output of this size."""
    owner = identity(number)
    return [
        Opened(owner, "frames.motion", b"{}", "", 3_600_000, OnError.FAIL),
        Outcomes(owner, "bench", [Outcome(0, 1, size_bytes, 0, 1, output=bytes(size_bytes))]),
        Sealed(owner, 1, size_bytes, "sha256:x"),
    ]


async def tell(stack: Stack, events: Iterator[Event]) -> None:
    """Append events to the one partition of job-events."""
    transport = KafkaTransport(stack.broker.bootstrap_servers, client_id="bench")
    producer = transport.producer(max_record_bytes=EVENT_RECORD_BYTES)
    await producer.start()
    try:
        acks = []
        for event in events:
            headers, value = encode_event(event)
            acks.append(await producer.send(stack.topics.job_events, value=value, headers=headers, partition=0))
            if len(acks) >= 200:
                await asyncio.gather(*acks)
                acks.clear()
        await asyncio.gather(*acks)
    finally:
        await producer.stop()
        await transport.close()


async def restored_s(stack: Stack, open_jobs: int, probe: int) -> float:
    """Kill the aggregator and start another: seconds until the job number `probe`, which came meanwhile, has ended."""
    aggregator = stack.of(Role.AGGREGATOR)[0]

    async def all_open() -> bool:
        return await aggregator.metric("regather_jobs_open") == [open_jobs]

    await eventually(all_open, timeout_s=120, interval_s=0.05, what=f"{open_jobs} open jobs")
    await asyncio.sleep(1.5)  # two commits: what is measured is a restart, not what was not yet committed
    stack.kill(aggregator)
    await tell(stack, iter(ended(probe, 10)))
    started = time.monotonic()
    await stack.restart(aggregator)
    async with Client(stack.gateway_url) as client:

        async def probe_ended() -> bool:
            try:
                return (await client.status(identity(probe).job_id))["state"] == "succeeded"
            except ApiError:
                return False

        await eventually(probe_ended, timeout_s=120, interval_s=0.02, what="the end of the job that came meanwhile")
    return round(time.monotonic() - started, 2)


async def against_open_jobs(counts: Sequence[int]) -> dict[str, float]:
    found = {}
    settings = StackSettings(workers=1, environment={"REGATHER_SESSION_TIMEOUT_MS": "6000"})
    async with Stack(settings) as stack:
        found["0"] = await restored_s(stack, 0, 100_000)
        told = 0
        for count in counts:
            await tell(stack, (event for number in range(told, count) for event in half_done(number)))
            told = count
            found[str(count)] = await restored_s(stack, count, 100_000 + count)
    return found


async def behind(mb: int, environment: dict[str, str]) -> float:
    """Seconds of a restart with one open job, behind which so much went through the partition."""
    settings = StackSettings(workers=1, environment={"REGATHER_SESSION_TIMEOUT_MS": "6000"} | environment)
    async with Stack(settings) as stack:
        await tell(stack, iter(half_done(0)))
        await tell(stack, (event for number in range(1, mb + 1) for event in ended(number)))
        return await restored_s(stack, 1, 100_000)


async def main() -> int:
    started = time.monotonic()
    found = await against_open_jobs(OPEN_JOBS)
    floor_s = found.pop("0")
    document = {
        "ok": True,
        "floor_s": floor_s,
        "open_jobs": found,
        "behind_mb": {
            str(BEHIND_MB): {"with": await behind(BEHIND_MB, {}), "without": await behind(BEHIND_MB, NO_CHECKPOINTS)}
        },
    }
    print(json.dumps(write_report("bench-restore", document, started)))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
