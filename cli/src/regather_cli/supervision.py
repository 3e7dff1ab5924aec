"""Restarts services that exit, as systemd, Docker or Kubernetes would for an operator."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from regather_cli.service_process import Service

_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Exit:
    """The exit of a service: its name, its exit code (minus the number of a signal), and the time.monotonic() of it."""

    service: str
    code: int
    at_s: float


class Supervision:
    """Restarts every service that exits, `delay_s` seconds after it notices the exit.

    `exits` lists every exit noticed; `on_exit` is called with each.
    """

    def __init__(
        self,
        services: Callable[[], Iterable[Service]],
        *,
        delay_s: float = 1.0,
        on_exit: Callable[[Exit], None] = lambda end: None,
    ) -> None:
        self._services = services
        self._delay_s = delay_s
        self._on_exit = on_exit
        self._seen: dict[str, tuple[int, float]] = {}
        self._released: set[str] = set()
        self.exits: list[Exit] = []

    def release(self, service: Service) -> None:
        """Do not restart this service any more."""
        self._released.add(service.name)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            for service in list(self._services()):
                if service.name not in self._released:
                    self._look(service, time.monotonic())
            await asyncio.sleep(_LOOK_S)

    def _look(self, service: Service, now_s: float) -> None:
        code = service.exit_code
        if code is None:
            service.read_address()  # it may have restarted on another port
            return
        pid, seen_s = self._seen.get(service.name, (0, 0.0))
        if pid != service.pid:
            self._seen[service.name] = (service.pid, now_s)
            self.exits.append(Exit(service.name, code, now_s))
            self._on_exit(self.exits[-1])
        elif now_s - seen_s >= self._delay_s:
            service.start()
