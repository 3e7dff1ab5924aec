"""Which workers there are, as the gateway shows it: reports, stale ones, removed ones, and jobs that nobody can run."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.core.errors import WireError
from regather.core.worker_report import WorkerReport
from regather.testing.waiting import eventually
from regather.topics.layout import CONTROL_RECORD_BYTES, Topics
from regather.transport.memory import MemoryTransport
from regather.wire.worker_reports import decode_report, encode_report

StartGateway = Callable[..., AbstractAsyncContextManager[Any]]
TOPIC = Topics().workers


def report(name: str = "w1", *kinds: str) -> WorkerReport:
    return WorkerReport(name, "host", "0.1.0", kinds, 4, 1, 2, 8, 50_000_000, 0.5, 1.25)


async def publish(transport: MemoryTransport, name: str, value: bytes | None) -> None:
    producer = transport.producer(max_record_bytes=CONTROL_RECORD_BYTES)
    await producer.start()
    await (await producer.send(TOPIC, value=value, key=name.encode(), partition=0))
    await producer.stop()


async def names_of(gateway: Any, count: int) -> list[str]:
    async def listed() -> list[str] | None:
        workers = (await gateway.client.get("/v1/workers")).json()["workers"]
        return [worker["worker"] for worker in workers] if len(workers) == count else None

    found: list[str] = await eventually(listed, what=f"{count} workers") if count else []
    return found


async def test_a_worker_is_listed_from_its_first_report_to_its_removal(
    transport: MemoryTransport, gateway: Any
) -> None:
    await publish(transport, "w1", encode_report(report("w1", "bytes.digest")))
    await publish(transport, "w2", b"no report")
    assert await names_of(gateway, 1) == ["w1"]
    (worker,) = (await gateway.client.get("/v1/workers")).json()["workers"]
    assert (worker["state"], worker["slots"], worker["kinds"], worker["lag_s"]) == ("live", 4, ["bytes.digest"], 1.25)
    await publish(transport, "w1", None)

    async def gone() -> bool:
        return (await gateway.client.get("/v1/workers")).json()["workers"] == []

    await eventually(gone, what="the removal")


async def test_a_gateway_that_starts_later_knows_the_workers(
    transport: MemoryTransport, start_gateway: StartGateway
) -> None:
    await publish(transport, "w1", encode_report(report("w1", "a")))
    await publish(transport, "w1", encode_report(report("w1", "a", "b")))
    async with start_gateway() as gateway:
        assert await names_of(gateway, 1) == ["w1"]


@pytest.mark.parametrize(
    ("kinds", "warning"),
    [
        ((), "no worker is alive: start one"),
        (("image.features",), "none of the 1 live workers offers the kind 'bytes.digest'; they offer image.features"),
        (("bytes.digest",), None),
    ],
)
async def test_an_open_job_says_that_nobody_can_run_it(
    transport: MemoryTransport, gateway: Any, kinds: tuple[str, ...], warning: str | None
) -> None:
    if kinds:
        await publish(transport, "w1", encode_report(report("w1", *kinds)))
        await names_of(gateway, 1)
    document = await gateway.submit()

    async def warned() -> bool:
        found = (await gateway.client.get(f"/v1/jobs/{document['job_id']}")).json()["warnings"]
        return bool(found == ([warning] if warning else []))

    await eventually(warned, what="the warning")


names = st.text(max_size=30)


@given(
    st.builds(
        WorkerReport,
        names,
        names,
        names,
        st.lists(names, max_size=5).map(tuple),
        *[st.integers(0, 999)] * 5,
        st.floats(0, 99),
        st.floats(0, 99),
    )
)
def test_a_report_survives_the_trip(found: WorkerReport) -> None:
    assert decode_report(encode_report(found)) == found


def test_a_report_of_very_many_kinds_fits_its_record() -> None:
    many = report("w" * 100, *[f"kind-number-{number}" for number in range(1000)])
    encoded = encode_report(many)
    assert len(encoded) < CONTROL_RECORD_BYTES
    assert decode_report(encoded).kinds == many.kinds[: len(decode_report(encoded).kinds)]


@pytest.mark.parametrize("value", [b"", b"[]", b'{"worker": "w"}', b'{"kinds": 3}'])
def test_garbage_is_no_report(value: bytes) -> None:
    with pytest.raises(WireError, match="report"):
        decode_report(value)
