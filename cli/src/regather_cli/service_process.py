"""One service of Regather as a process: started from this Python, watched until it is ready, ended by its pid."""

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
_METRICS_TIMEOUT_S = 30.0  # it answers late where shards hold every core


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
    """A service did not become ready; the message names it and holds the tail of its log."""


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
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the last process ended, minus the number of a signal; None while it lives, and before the first start."""
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
        """Wait for 200 from /readyz; StackError naming this service, with its last answer and the tail of its log."""
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
        """The samples of one metric that carry these labels, as the running service counts them now."""
        # It is plain HTTP: without the certificates, whose loading would take far longer than the question.
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
        """Learn the `url` of the last start; False while its HTTP port is not open."""
        try:
            address = json.loads(self._ready_file.read_text())
        except (FileNotFoundError, ValueError):
            return False
        self.url = f"http://{address['host']}:{address['port']}"
        return True

    def kill(self) -> None:
        """SIGKILL by pid, as a crash; reaped."""
        if self._process is not None:
            end(self._process, grace_s=0)

    def suspend(self) -> None:
        """SIGSTOP by pid: to everybody else it has fallen silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT by pid: it goes on as if no time had passed. Without effect on one that was killed meanwhile."""
        if self.running:
            os.kill(self.pid, signal.SIGCONT)

    def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s`; reaped."""
        if self._process is not None:
            end(self._process, grace_s=grace_s)
