"""The whole of Regather as processes on this machine: a broker, the topics, gateways, workers and aggregators.

For newcomers (`regather up`, `regather demo`) and for tests that kill things. Every process dies with this one.
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
"""What entering a stack raises when something is missing or broken; each message says what."""


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What to run. `environment` is for all services, `role_environment` for one role, both on top of this process's.

    `worker_slots` None leaves the worker's own default. `gateway_port` 0 takes any free port; with several gateways the
    others take the ports after it. `size` decides how many partitions the topics have, `replication` on how many brokers.
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
    """Starts everything on entry and ends everything on exit, in an `async with`.

    `home` holds the logs and an embedded broker's data, and is kept; without it a temporary directory is used, removed
    at the end unless the block raised. `broker` is one that runs already; without it the ladder gives one.
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
        """Where the logs are."""
        assert self._home is not None, "the stack was not entered"
        return self._home

    @property
    def broker(self) -> Broker:
        """The broker in use."""
        assert self._broker is not None, "the stack was not entered"
        return self._broker

    @property
    def topics(self) -> Topics:
        """The names of this stack's topics."""
        return Topics(self.settings.topic_prefix)

    @property
    def gateway_url(self) -> str:
        """Base URL of the first gateway."""
        return self.of(Role.GATEWAY)[0].url

    def of(self, role: Role) -> list[Service]:
        """The services of a role in the order of their start, dead ones included."""
        return [service for service in self.services if service.role is role]

    def leftover_pids(self, besides: Iterable[int] = ()) -> list[int]:
        """Living descendants of this process that came after the stack, `besides` these: [] after a clean end."""
        return sorted(descendants().difference(self._strangers, besides))

    async def add_worker(self, environment: Mapping[str, str] | None = None) -> Service:
        """Start one more worker and wait until it is ready."""
        worker = self.launch(Role.WORKER, environment)
        await worker.wait_ready(self.settings.ready_timeout_s)
        return worker

    def launch(self, role: Role, environment: Mapping[str, str] | None = None) -> Service:
        """Start one more service, which is not ready yet when this returns."""
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
        """Stop a service for good, by SIGKILL after `grace_s`, and forget it."""
        await asyncio.to_thread(service.stop, grace_s)
        self.services.remove(service)

    def topic_specs(self) -> list[TopicSpec]:
        """The topics as they were created."""
        return topic_specs(self.topics, self.settings.size, replication=self.settings.replication)

    def kill(self, service: Service) -> None:
        """SIGKILL one service, as a crash would."""
        service.kill()

    async def restart(self, service: Service) -> None:
        """Start a service again with the settings it had, after a stop if it still runs; wait until it is ready."""
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
        # All at once: each has the whole grace period, and none waits for another.
        await asyncio.gather(*(asyncio.to_thread(service.stop, _STOP_GRACE_S) for service in self.services))
        await asyncio.to_thread(self._exits.close)
        if self._given_home is None and self._home is not None and not keep_logs:
            shutil.rmtree(self._home, ignore_errors=True)


__all__ = ["START_ERRORS", "Role", "Service", "Stack", "StackError", "StackSettings"]
