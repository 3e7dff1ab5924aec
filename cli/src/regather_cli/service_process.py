"""One Regather service as a process: started with this Python, awaited until ready, ended by its pid."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import httpx2

from regather.embedded.processes import end, spawn_bound, tail

_POLL_S = 0.02
_METRICS_TIMEOUT_S = 30.0  # a service answers late while shards use every core


class Role(StrEnum):
    """The three services; the value is the name of the module that runs it."""

    GATEWAY = "regather_gateway"
    WORKER = "regather_worker"
    AGGREGATOR = "regather_aggregator"

    @property
    def word(self) -> str:
        """Short name, for logs and messages."""
        return self.name.lower()


class StackError(RuntimeError):
    """A service did not become ready; the message has its name and the end of its log."""


class Service:
    """One running service process."""

    def __init__(self, role: Role, name: str, home: Path, environment: Mapping[str, str]) -> None:
        self.role = role
        self.name = name
        self.environment = dict(environment)
        self.log_path = home / f"{name}.log"
        self._ready_file = home / f"{name}.ready.json"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        if self._process is None:
            raise StackError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last process, minus the number for a signal; None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process; it is not ready yet when this returns."""
        self._ready_file.unlink(missing_ok=True)
        self._process = spawn_bound(
            [sys.executable, "-m", self.role.value],
            log_file=self.log_path,
            env=os.environ | self.environment | {"REGATHER_READY_FILE": str(self._ready_file)},
        )

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait for a 200 from /readyz; raises StackError with the last answer and the end of the log."""
        deadline = time.monotonic() + timeout_s
        last = "it did not open its HTTP port"
        async with httpx2.AsyncClient(timeout=2.0) as client:
            while time.monotonic() < deadline:
                if not self.running:
                    raise self._failure(f"ended with exit code {self._process and self._process.returncode}")
                if self.read_address():
                    try:
                        answer = await client.get(f"{self.url}/readyz")
                    except httpx2.TransportError as error:
                        last = repr(error)
                    else:
                        if answer.status_code == httpx2.codes.OK:
                            return
                        last = f"/readyz says {answer.status_code}: {answer.text[:300]}"
                await asyncio.sleep(_POLL_S)
        raise self._failure(f"was not ready within {timeout_s:g} s: {last}")

    async def metric(self, name: str, **labels: str) -> list[float]:
        """Return the current samples of one metric that have these labels."""
        # Plain HTTP needs no certificates; loading them would take far longer than the request.
        async with httpx2.AsyncClient(timeout=_METRICS_TIMEOUT_S, verify=False) as client:
            page = (await client.get(f"{self.url}/metrics")).raise_for_status().text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = []
        for line in page.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(label in sample for label in wanted):
                found.append(float(value))
        return found

    def _failure(self, what: str) -> StackError:
        return StackError(f"{self.name} {what}\n--- last lines of {self.log_path}\n{tail(self.log_path)}")

    def read_address(self) -> bool:
        """Read the `url` of the last start; return False while its HTTP port is not open."""
        try:
            address = json.loads(self._ready_file.read_text())
        except (FileNotFoundError, ValueError):
            return False
        self.url = f"http://{address['host']}:{address['port']}"
        return True

    def kill(self) -> None:
        """Send SIGKILL by pid, like a crash, and reap the process."""
        if self._process is not None:
            end(self._process, grace_s=0)

    def suspend(self) -> None:
        """Send SIGSTOP by pid: the process keeps its connections, but no longer answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT by pid: the process goes on where it stopped. No effect if it was killed meanwhile."""
        if self.running:
            os.kill(self.pid, signal.SIGCONT)

    def stop(self, grace_s: float) -> None:
        """Send SIGTERM, after `grace_s` SIGKILL, and reap the process."""
        if self._process is not None:
            end(self._process, grace_s=grace_s)
