"""The process stack: what is killed comes back, what is stopped is gone, and nothing survives its parent."""

import asyncio
import json
import os
import signal
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from regather.embedded.embedded_kafka import free_port
from regather.embedded.kafka_broker import Broker
from regather.testing.waiting import eventually
from regather_cli.process_table import descendants
from regather_cli.service_process import Role, StackError
from regather_cli.stack import Stack, StackSettings

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.e2e]


def _settings(**changes: Any) -> StackSettings:
    prefix = f"stack-{os.urandom(4).hex()}-"
    fast = {
        "REGATHER_SESSION_TIMEOUT_MS": "6000",  # how long the group waits for a member that was killed
        "REGATHER_DRAIN_S": "1",
        "REGATHER_DIAGNOSTICS": "true",
    }
    return StackSettings(worker_slots=1, topic_prefix=prefix, environment=fast, **changes)


async def _version(url: str) -> dict[str, str]:
    async with httpx2.AsyncClient() as client:
        answer: dict[str, str] = (await client.get(f"{url}/version")).json()
        return answer


async def test_a_killed_service_comes_back_another_joins_and_none_is_left(kafka_broker: Broker) -> None:
    async with Stack(_settings(), broker=kafka_broker) as stack:
        (worker,) = stack.of(Role.WORKER)
        killed_pid = worker.pid
        stack.kill(worker)
        assert not worker.running
        await stack.restart(worker)
        assert worker.running
        assert worker.pid != killed_pid
        second = await stack.add_worker()
        assert [service.name for service in stack.of(Role.WORKER)] == ["worker-1", "worker-2"]
        assert {service.pid for service in stack.services} <= set(stack.leftover_pids())
        assert (await _version(second.url))["service"] == "shard-worker"
        home = stack.home
    assert stack.leftover_pids() == []
    assert not home.exists()


async def test_a_service_that_fails_to_start_ends_the_whole_stack_and_keeps_the_logs(
    kafka_broker: Broker, tmp_path: Path
) -> None:
    settings = _settings(role_environment={Role.WORKER: {"REGATHER_SLOTS": "none"}})
    stack = Stack(settings, broker=kafka_broker, home=tmp_path)
    with pytest.raises(StackError, match=r"worker-1 ended with exit code 1(.|\n)*slots"):
        await stack.__aenter__()
    # A service that is stopped before it listens to SIGTERM ends at once, its children by their parent's death.
    await eventually(lambda: stack.leftover_pids() == [], timeout_s=5, what="the end of the services' own children")
    assert "slots" in (tmp_path / "worker-1.log").read_text()


async def _submit(stack: Stack, body: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "regather_cli.main", "submit", str(body), "--url", stack.gateway_url, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_the_exit_code_of_submit_says_how_the_job_ended(kafka_broker: Broker, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"a line\n" * 1000)
    faulty = ["--kind", "diagnostics", "--wait", "--shard-size", "1024", "--option", "only=1", "--json"]
    async with Stack(_settings(), broker=kafka_broker) as stack:
        code, output = await _submit(stack, body, "--kind", "bytes.digest", "--wait", "--json")
        assert (code, json.loads(output)["output"]["crc32"]) == (0, zlib.crc32(body.read_bytes()))
        code, output = await _submit(stack, body, *faulty, "--option", "do=permanent", "--on-error", "skip")
        assert (code, json.loads(output)["output"]["gaps"]) == (3, [[1, 1]])
        code, output = await _submit(stack, body, *faulty, "--option", "do=permanent")
        assert (code, json.loads(output)["state"]) == (1, "failed")
        code, output = await _submit(stack, body, *faulty, "--option", "do=sleep", "--timeout", "0.1")
        assert (code, json.loads(output)["job_id"] != "") == (124, True)
        assert await _submit(stack, body, "--kind", "nonsense") == (2, "")


async def _up(broker: Broker, home: Path) -> tuple[asyncio.subprocess.Process, Callable[[], str]]:
    """`regather up`, running, and what it has said so far."""
    with (home / "up.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "regather_cli.main", "up", "--workers", "1", "--port", str(free_port()),
            "--data-dir", str(home), stdout=log, stderr=log,
            env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        )  # fmt: skip
    text = (home / "up.log").read_text
    await eventually(lambda: "Ctrl-C" in text() or process.returncode is not None, timeout_s=60, what="a running stack")
    assert process.returncode is None, text()
    return process, text


async def test_the_command_up_names_a_service_that_was_killed_and_starts_it_again(
    kafka_broker: Broker, tmp_path: Path
) -> None:
    process, text = await _up(kafka_broker, tmp_path)
    try:
        ready = tmp_path / "worker-1.ready.json"
        before = json.loads(ready.read_text())["pid"]
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: "worker-1 ended with code -9" in text(), timeout_s=10, what="the word about it")
        await eventually(
            lambda: ready.exists() and json.loads(ready.read_text())["pid"] != before, timeout_s=30, what="the restart"
        )
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 40) == 0, text()
    finally:
        if process.returncode is None:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_nothing_survives_the_command_up(number: signal.Signals, kafka_broker: Broker, tmp_path: Path) -> None:
    process, text = await _up(kafka_broker, tmp_path)
    children = descendants(process.pid)
    assert len(children) >= 3
    process.send_signal(number)
    code = await asyncio.wait_for(process.wait(), 40)
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0), text()
    await eventually(lambda: not children & _living(), timeout_s=10, what="the end of every child")


def _living() -> set[int]:
    return {int(path.name) for path in Path("/proc").glob("[0-9]*") if _state(path) not in "ZX"}


def _state(path: Path) -> str:
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
