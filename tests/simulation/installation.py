"""The services as simulated processes: started, killed, frozen and restarted like those of an operating system."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from regather.children.file_cut import FileCutter
from regather.children.work import WorkLimits
from regather.core.model import JobId
from regather.core.seq_ranges import SeqRanges
from regather.core.status import JobStatus
from regather.processors.registry import Registry
from regather.service.environment import Environment
from regather.service.lifecycle import WatchedTasks
from regather.testing.simulation.broker import Broker
from regather.testing.simulation.event_loop import Process, VirtualLoop
from regather.testing.simulation.groups import SESSION_S
from regather.testing.simulation.history import History
from regather.testing.simulation.transport import SimulatedTransport
from regather.topics.layout import Topics
from regather_aggregator import app as aggregator_app
from regather_aggregator.settings import AggregatorSettings
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.cancel import Canceller
from regather_gateway.submission.cutting import Cutting
from regather_gateway.submission.job_spec import JobSpec
from regather_gateway.submission.opening import JobKeys, Receipt
from regather_gateway.submission.producing import ProducerKeeper
from regather_gateway.submission.redrive import Redriver
from regather_gateway.submission.redrive_events import JobEvents
from regather_gateway.submission.redrive_payloads import Payloads
from regather_gateway.submission.spool_dir import SpoolDir
from regather_gateway.submission.submit import Submitter
from regather_gateway.submission.upload import UploadFactory
from regather_gateway.views.status_view import JobTable, StatusView
from regather_worker import app as worker_app
from regather_worker.settings import WorkerSettings
from simulation.executor import SimulatedExecutor
from simulation.kinds import KINDS, Row

EPOCH_MS = 1_767_225_600_000
"""When a run begins by the broker's clock: 2026-01-01."""

RESTART_S = 1.0


class Running(Protocol):
    """A service between its start and its end."""

    async def run(self, stop: asyncio.Event) -> None: ...


@dataclass
class Executions:
    """What children were asked to do, by worker; shared by all workers of an installation."""

    history: History
    began: list[tuple[str, bytes, int]]
    busy_s: float = 0.0

    def watcher(self, name: str, kill: Callable[[], None]) -> "_Watcher":
        return _Watcher(self, name, kill)


@dataclass
class _Watcher:
    executions: Executions
    name: str
    kill: Callable[[], None]

    def began(self, rows: Sequence[Row], payload: bytes, attempt: int) -> None:
        self.executions.began.append((self.name, payload, attempt))
        self.executions.history.note(self.name, "run", payload, attempt)

    def busy(self, duration_s: float) -> None:
        self.executions.busy_s += duration_s

    def deadly(self, payload: bytes) -> None:
        self.executions.history.fault(self.name, "worker-killed-by-shard", payload)
        self.kill()

    def deadly_merge(self) -> None:
        self.executions.history.fault(self.name, "aggregator-killed-by-merge")
        self.kill()


class Service:
    """One service under a supervisor that starts it again when it has ended, by itself or by a kill."""

    def __init__(
        self, name: str, installation: "Installation", make: "Callable[[Service, Environment], Running]"
    ) -> None:
        self.name = name
        self.installation = installation
        self._make = make
        self._starts = 0
        self.process: Process = installation.loop.process(name)
        self.transport: SimulatedTransport = installation.transport(self.process)
        self.running: Any = None
        self.task: asyncio.Task[None] | None = None
        self.stop = asyncio.Event()
        self.wanted = False
        self.left: list[Process] = []
        """Processes that were killed; nothing of them may go on for long."""

    @property
    def alive(self) -> bool:
        return self.task is not None and not self.task.done()

    def start(self) -> None:
        """Start a process and keep one running until halt()."""
        self.wanted = True
        installation = self.installation
        self._starts += 1
        self.process = installation.loop.process(f"{self.name}.{self._starts}")
        self.transport = installation.transport(self.process)
        self.process.on_fuse = self.kill
        self.stop = asyncio.Event()
        skew_ms = installation.skews_ms[self.name]
        self.running = self._make(self, installation.environment(self.process, skew_ms))
        self.task = self.process.start(self.running.run(self.stop), self.name)
        self.task.add_done_callback(self._ended, context=installation.loop.outside.context)
        installation.history.note(self.process.name, "started")

    def kill(self) -> None:
        """End the process as kill -9 does: nothing of it reaches the broker from now on."""
        if not self.alive:
            return
        self.installation.history.fault(self.process.name, "killed")
        self.transport.sever()
        self.process.cancel_all()
        self.left.append(self.process)

    def freeze(self, duration_s: float) -> None:
        """Stop the process as SIGSTOP does, and let it go on later; its session expires if that is long enough."""
        if not self.alive or self.process.frozen:
            return
        installation, process, transport = self.installation, self.process, self.transport
        installation.history.fault(process.name, "frozen", round(duration_s, 3))
        process.freeze()
        if duration_s > SESSION_S:
            installation.broker.network.at_broker(SESSION_S, transport.expire)
        installation.later(duration_s, self._thaw, process)

    def halt(self) -> None:
        """Stop in order, and stay stopped."""
        self.wanted = False
        self.stop.set()

    def restart(self) -> None:
        """Stop in order; the supervisor starts it again."""
        if self.alive:
            self.installation.history.fault(self.process.name, "stopped")
            self.stop.set()

    def _thaw(self, process: Process) -> None:
        self.installation.history.note(process.name, "thawed")
        process.thaw()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.installation.unexpected.append(f"{self.process.name} ended: {error!r}")
        self.installation.history.note(self.process.name, "ended", repr(error))
        self.transport.sever()
        if self.wanted:
            self.installation.later(RESTART_S * (0.5 + self.installation.chance.random()), self._start_again)

    def _start_again(self) -> None:
        if self.wanted and not self.alive:
            self.start()


class Gateway:
    """What stands behind the gateway's routes, without HTTP."""

    def __init__(self, settings: GatewaySettings, transport: SimulatedTransport, environment: Environment) -> None:
        topics = settings.topics
        self.registry = Registry(KINDS)
        self.settings = settings
        self.producers = ProducerKeeper(transport, topics, environment)
        table = JobTable(max_ended=settings.max_ended_jobs, max_inline_bytes=settings.max_inline_bytes)
        self.view = StatusView(transport, topics.job_status, table)
        cutting = Cutting(SpoolDir("", max_bytes=1), FileCutter(_no_files(), WorkLimits()))
        self.uploads = UploadFactory(settings, self.producers, self.view)
        self.submitter = Submitter(self.uploads, JobKeys(settings, self.view, environment), cutting)
        self.canceller = Canceller(self.producers, self.uploads)
        events, payloads = JobEvents(transport, topics.job_events), Payloads(transport)
        self.redriver = Redriver(self.producers, self.uploads, self.view, events, payloads)

    async def run(self, stop: asyncio.Event) -> None:
        async with WatchedTasks() as tasks:
            tasks.start("producer", self.producers.run())
            tasks.start("status-view", self.view.run())
            await stop.wait()
            await self.uploads.stop()

    async def submit(self, spec: JobSpec, body: AsyncIterator[bytes]) -> Receipt:
        """Do what the route does."""
        return await self.submitter.replay(spec) or await self.submitter.submit(spec, body)

    async def redrive(self, job_id: JobId, wanted: SeqRanges, wait_s: float) -> JobStatus | None:
        """Do what the route does, once the job has ended; None if it does not."""
        status = await self.view.find(job_id)
        if status is not None and not status.state.ended:
            await self.view.wait_ended(job_id, status.owner.version, wait_s)
            status = self.view.get(job_id)
        if status is None or not status.state.ended:
            return None
        return await self.redriver.redrive(status, wanted, None)


def _no_files() -> Any:
    return None  # no kind of the simulation cuts files


class Installation:
    """Broker and services in one virtual world."""

    def __init__(
        self, loop: VirtualLoop, broker: Broker, chance: random.Random, history: History, topics: Topics
    ) -> None:
        self.loop = loop
        self.topics = topics
        self.broker = broker
        self.chance = chance
        self.history = history
        self.executions = Executions(history, [])
        self.unexpected: list[str] = []
        self.skews_ms: dict[str, int] = {}
        self.lost_children = 0.0
        self.services: list[Service] = []

    def transport(self, process: Process) -> SimulatedTransport:
        return SimulatedTransport(self.broker, process, commit_awaits=False)

    def later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        self.loop.call_later(delay_s, callback, *args, context=self.loop.outside.context)

    def now_ms(self) -> int:
        return EPOCH_MS + int(self.loop.time() * 1000)

    def environment(self, process: Process, skew_ms: int) -> Environment:
        return Environment(
            process=process.name,
            hostname="simulated",
            now_ms=lambda: self.now_ms() + skew_ms,
            chance=self.chance.random,
            random_bytes=self.chance.randbytes,
            rss_bytes=lambda: 0,
            load=lambda: 0.0,
        )

    def add_gateway(self, name: str, settings: GatewaySettings) -> Service:
        return self._add(name, lambda service, environment: Gateway(settings, service.transport, environment))

    def add_worker(self, name: str, settings: WorkerSettings) -> Service:
        def make(service: Service, environment: Environment) -> Running:
            executor = self._executor(service, environment, settings.slots)
            return worker_app.build(settings, service.transport, executor, environment)

        return self._add(name, make)

    def add_aggregator(self, name: str, settings: AggregatorSettings) -> Service:
        def make(service: Service, environment: Environment) -> Running:
            executor = self._executor(service, environment, settings.merge_slots)
            return aggregator_app.build(settings, service.transport, executor, KINDS)

        return self._add(name, make)

    def _executor(self, service: Service, environment: Environment, slots: int) -> SimulatedExecutor:
        watcher = self.executions.watcher(environment.process, service.kill)
        executor = SimulatedExecutor(KINDS, slots, self.chance, environment.now_ms, watcher)
        executor.lost = self.lost_children
        return executor

    def _add(self, name: str, make: "Callable[[Service, Environment], Running]") -> Service:
        self.skews_ms.setdefault(name, 0)
        service = Service(name, self, make)
        self.services.append(service)
        return service
