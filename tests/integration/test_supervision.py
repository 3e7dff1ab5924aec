"""Services that end are started again, as an operator's supervisor would; those that were released are not."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from regather.embedded.embedded_kafka import free_port
from regather.testing.waiting import eventually
from regather_cli.service_process import Role, Service
from regather_cli.supervision import Exit, Supervision

pytestmark = pytest.mark.long


@pytest_asyncio.fixture
async def services(tmp_path: Path) -> AsyncIterator[list[Service]]:
    """Two workers that wait for a broker."""
    nobody = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "REGATHER_SLOTS": "1"}
    started = [Service(Role.WORKER, f"worker-{number}", tmp_path, nobody) for number in range(2)]
    for service in started:
        service.start()
    yield started
    for service in started:
        service.stop(5)


async def test_a_killed_service_is_started_again_unless_it_was_released(services: list[Service]) -> None:
    watched, released = services
    told: list[Exit] = []
    supervision = Supervision(lambda: services, delay_s=0.2, on_exit=told.append)
    watching = asyncio.create_task(supervision.run())
    await eventually(lambda: watched.url and released.url, timeout_s=30, what="the HTTP ports")
    pid, url = watched.pid, watched.url
    supervision.release(released)
    released.kill()
    watched.kill()
    await eventually(lambda: watched.running and watched.pid != pid, timeout_s=10, what="the restart")
    await eventually(lambda: watched.url != url, timeout_s=30, what="the new HTTP port")
    watching.cancel()
    assert not released.running
    assert [(end.service, end.code) for end in supervision.exits] == [(watched.name, -9)]
    assert told == supervision.exits


async def test_a_suspended_service_says_nothing_and_goes_on_afterwards(services: list[Service]) -> None:
    service = services[0]
    await eventually(service.read_address, timeout_s=30, what="the HTTP port")
    state = Path(f"/proc/{service.pid}/stat")
    service.suspend()
    await eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", what="the stop")
    service.resume()
    await eventually(lambda: state.read_text().rpartition(")")[2].split()[0] != "T", what="the continuation")
    os.kill(service.pid, signal.SIGKILL)
    await eventually(lambda: not service.running, what="the end")
    service.resume()  # of one that is gone
