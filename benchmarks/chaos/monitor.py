"""What every service says of itself on /metrics: for the choice of victims, and for what grows."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import httpx2

from chaos.slopes import Sample, Slope, slope_of
from regather_cli.service_process import Role, Service

_EVERY_S = 2.0
_TIMEOUT_S = 3.0
GROWING = {
    "rss_slope_mb_h": ("process_resident_memory_bytes", 1024.0 * 1024.0),
    "fd_slope_h": ("process_open_fds", 1.0),
    "tasks_slope_h": ("regather_tasks", 1.0),
}
"""Report's name: metric, and what it is divided by."""

Metrics = Mapping[str, float]
"""Samples by name, over all labels together."""


class Monitor:
    """Asks every running service every two seconds."""

    def __init__(self, services: Callable[[], Iterable[Service]]) -> None:
        # It is plain HTTP: without the certificates, whose loading would take far longer than the question.
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT_S, verify=False)
        self._services = services
        self._lives: dict[tuple[str, int], float] = {}
        self._samples: dict[tuple[str, Role], list[Sample]] = defaultdict(list)

    async def run(self) -> None:
        """Sample until cancelled."""
        try:
            while True:
                await asyncio.gather(*(self._sample(service) for service in list(self._services())))
                await asyncio.sleep(_EVERY_S)
        finally:
            await self._http.aclose()

    async def read(self, service: Service) -> Metrics | None:
        """All metrics of one service now; None if it does not answer."""
        if not service.running or not service.url:
            return None
        with contextlib.suppress(httpx2.HTTPError):
            answer = await self._http.get(f"{service.url}/metrics")
            if answer.status_code == httpx2.codes.OK:
                return parse(answer.text)
        return None

    async def ready(self, service: Service) -> bool:
        """Whether /readyz says so."""
        if not service.running or not service.url:
            return False
        with contextlib.suppress(httpx2.HTTPError):
            return (await self._http.get(f"{service.url}/readyz")).status_code == httpx2.codes.OK
        return False

    async def total(self, role: Role, name: str) -> float | None:
        """One metric over all services of a role; None if one of them does not answer."""
        found = await asyncio.gather(*(self.read(service) for service in self._services() if service.role is role))
        return None if None in found else sum(metrics.get(name, 0.0) for metrics in found if metrics is not None)

    def slopes(self) -> dict[str, dict[str, Slope]]:
        """Growth per hour of life, by the report's name and role."""
        return {name: {role.word: slope_of(self._samples[name, role]) for role in Role} for name in GROWING}

    def write(self, path: Path) -> None:
        """Every reading, for a look at what grows: metric, role, process, age in seconds, value."""
        with path.open("w") as file:
            for (name, role), samples in self._samples.items():
                file.writelines(
                    f"{name},{role.word},{life},{age_s:.1f},{value:.1f}\n" for life, age_s, value in samples
                )

    async def _sample(self, service: Service) -> None:
        metrics = await self.read(service)
        if metrics is None:
            return
        life = (service.name, service.pid)
        now_s = time.monotonic()
        age_s = now_s - self._lives.setdefault(life, now_s)
        for name, (metric, unit) in GROWING.items():
            if metric in metrics:
                life_name = f"{service.name} {service.pid}"
                self._samples[name, service.role].append(Sample(life_name, age_s, metrics[metric] / unit))


def parse(page: str) -> Metrics:
    """Prometheus' text format, labels left out and their samples added up."""
    found: dict[str, float] = defaultdict(float)
    for line in page.splitlines():
        if line and not line.startswith("#"):
            sample, _, value = line.rpartition(" ")
            found[sample.partition("{")[0]] += float(value)
    return found
