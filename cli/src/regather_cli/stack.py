"""A complete Regather as processes on this machine: a broker, the topics, gateways, workers and aggregators.

It serves `regather up`, `regather demo` and tests that kill processes. Every process ends when this one ends.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from regather.core.errors import BrokerUnavailable
from regather.embedded.kafka_broker import BOOTSTRAP_VARIABLE, Broker, BrokerLadderError, open_broker
from regather.embedded.kafka_jars import JarsUnavailable
from regather.embedded.kafka_process import EmbeddedKafkaError
from regather.topics.layout import Size, Topics, topic_specs
from regather.topics.rules import TopicSpec
from regather.transport.kafka import KafkaTransport
from regather_cli.process_table import adopt_orphans, descendants
from regather_cli.service_process import Role, Service, StackError

_STOP_GRACE_S = 20.0
START_ERRORS = (StackError, BrokerLadderError, EmbeddedKafkaError, JarsUnavailable, BrokerUnavailable)
"""The errors that entering a stack raises when something is missing or broken; each message says what."""


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What to run.

    `environment` is set for all services, `role_environment` for one role; both extend this process's environment. With
    `worker_slots` None a worker uses its default. `gateway_port` 0 takes any free port; otherwise further gateways use
    the ports after it. `size` sets the partition counts of the topics, `replication` the copies of each partition.
    """

    gateways: int = 1
    workers: int = 1
    worker_slots: int | None = None
    aggregators: int = 1
    topic_prefix: str = ""
    size: Size = Size.EMBEDDED
    replication: int = 1
    gateway_port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    role_environment: Mapping[Role, Mapping[str, str]] = field(default_factory=dict)
    ready_timeout_s: float = 60.0


class Stack:
    """Async context manager that starts everything on entry and ends everything on exit.

    `home` holds the logs and an embedded broker's data, and is kept. Without it the stack uses a temporary directory
    and removes it at the end, unless the block raised. `broker` is a running one; without it the stack opens one
    (`open_broker`).
    """

    def __init__(
        self, settings: StackSettings | None = None, *, home: Path | None = None, broker: Broker | None = None
    ) -> None:
        self.settings = settings or StackSettings()
        self.services: list[Service] = []
        self._given_home = home
        self._home: Path | None = None
        self._broker = broker
        self._exits = contextlib.ExitStack()
        self._strangers: set[int] = set()
        self._launched: Counter[Role] = Counter()

    async def __aenter__(self) -> Self:
        adopt_orphans()
        self._strangers = descendants()
        try:
            await self._start()
        except BaseException:
            await self._stop(keep_logs=True)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        await self._stop(keep_logs=kind is not None)

    @property
    def home(self) -> Path:
        """Folder of the logs."""
        assert self._home is not None, "the stack was not entered"
        return self._home

    @property
    def broker(self) -> Broker:
        """The broker in use."""
        assert self._broker is not None, "the stack was not entered"
        return self._broker

    @property
    def topics(self) -> Topics:
        """Names of this stack's topics."""
        return Topics(self.settings.topic_prefix)

    @property
    def gateway_url(self) -> str:
        """Base URL of the first gateway."""
        return self.of(Role.GATEWAY)[0].url

    def of(self, role: Role) -> list[Service]:
        """Return the services of a role in the order of their start, including those that have ended."""
        return [service for service in self.services if service.role is role]

    def leftover_pids(self, besides: Iterable[int] = ()) -> list[int]:
        """Return the descendants of this process begun after the stack, without `besides`; [] after a clean end."""
        return sorted(descendants().difference(self._strangers, besides))

    async def add_worker(self, environment: Mapping[str, str] | None = None) -> Service:
        """Start one more worker and wait until it is ready."""
        worker = self.launch(Role.WORKER, environment)
        await worker.wait_ready(self.settings.ready_timeout_s)
        return worker

    def launch(self, role: Role, environment: Mapping[str, str] | None = None) -> Service:
        """Start one more service; it is not ready yet when this returns."""
        self._launched[role] += 1
        number = self._launched[role]
        port = self.settings.gateway_port + number - 1 if role is Role.GATEWAY and self.settings.gateway_port else 0
        environment = {**self.settings.role_environment.get(role, {}), **(environment or {})}
        if role is Role.WORKER and self.settings.worker_slots:
            environment = {"REGATHER_SLOTS": str(self.settings.worker_slots)} | environment
        variables = {
            BOOTSTRAP_VARIABLE: self.broker.bootstrap_servers,
            "REGATHER_TOPIC_PREFIX": self.settings.topic_prefix,
            "REGATHER_HTTP_HOST": "127.0.0.1",
            "REGATHER_HTTP_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
        }
        variables |= {**self.settings.environment, **environment}
        service = Service(role, f"{role.word}-{number}", self.home, variables)
        service.start()
        self.services.append(service)
        return service

    async def dismiss(self, service: Service, *, grace_s: float = _STOP_GRACE_S) -> None:
        """Stop a service, with SIGKILL after `grace_s`, and remove it from the stack."""
        await asyncio.to_thread(service.stop, grace_s)
        self.services.remove(service)

    def topic_specs(self) -> list[TopicSpec]:
        """Return the specifications with which the topics were created."""
        return topic_specs(self.topics, self.settings.size, replication=self.settings.replication)

    def kill(self, service: Service) -> None:
        """Send SIGKILL to one service, like a crash."""
        service.kill()

    async def restart(self, service: Service) -> None:
        """Stop a service if it runs, start it with the same settings, and wait until it is ready."""
        await asyncio.to_thread(service.stop, _STOP_GRACE_S)
        service.start()
        await service.wait_ready(self.settings.ready_timeout_s)

    async def _start(self) -> None:
        self._home = (self._given_home or Path(tempfile.mkdtemp(prefix="regather-stack-"))).absolute()
        self._home.mkdir(parents=True, exist_ok=True)
        if self._broker is None:
            data_dir = self._home / "kafka" if self._given_home else None
            self._broker = self._exits.enter_context(open_broker(data_dir))
        await self._create_topics()
        counts = {
            Role.GATEWAY: self.settings.gateways,
            Role.WORKER: self.settings.workers,
            Role.AGGREGATOR: self.settings.aggregators,
        }
        started = [self.launch(role) for role, count in counts.items() for _ in range(count)]
        try:
            async with asyncio.TaskGroup() as group:
                for service in started:
                    group.create_task(service.wait_ready(self.settings.ready_timeout_s))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _create_topics(self) -> None:
        transport = KafkaTransport(
            self.broker.bootstrap_servers, client_id="regather-stack", replication=self.settings.replication
        )
        try:
            await transport.create_topics(self.topic_specs())
        finally:
            await transport.close()

    async def _stop(self, *, keep_logs: bool) -> None:
        # All at once: each service gets the whole grace period.
        await asyncio.gather(*(asyncio.to_thread(service.stop, _STOP_GRACE_S) for service in self.services))
        await asyncio.to_thread(self._exits.close)
        if self._given_home is None and self._home is not None and not keep_logs:
            shutil.rmtree(self._home, ignore_errors=True)


__all__ = ["START_ERRORS", "Role", "Service", "Stack", "StackError", "StackSettings"]
