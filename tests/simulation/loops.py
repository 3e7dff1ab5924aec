"""Level `loops`: the services' real loops over the simulated broker, several of each, killed, frozen and restarted."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from regather.core.errors import TransportError
from regather.testing.simulation.broker import Broker
from regather.testing.simulation.event_loop import VirtualLoop, VirtualTimeError
from regather.testing.simulation.history import History
from regather.testing.simulation.network import FaultProfile, Network
from regather.topics.layout import Size, Topics, topic_specs
from regather.topics.rules import TopicSpec
from regather.transport.base import Committed, Record, TopicPartition
from regather_aggregator.settings import AggregatorSettings
from regather_gateway.settings import GatewaySettings
from regather_worker.settings import WorkerSettings
from simulation.commits import CommitWatch
from simulation.installation import EPOCH_MS, Installation
from simulation.invariants import Invariants
from simulation.kinds import Row
from simulation.ledger import Ledger, label_of
from simulation.nemesis import Nemesis, draw_fault_profile, draw_sorts
from simulation.run_check import RunCheck
from simulation.workload import Clients, JobPlan, draw_jobs

SILENCE_S = 30.0
DRAIN_LIMIT_S = 200.0
PROBE_LIMIT_S = 45.0
LONGEST_TRANSACTION_S = 30.0
"""The session time-out, 20 s by default, and 10 s: a number of its own, for the services choose the time-out."""

_LIMIT_S = 3000.0


@dataclass
class Outcome:
    """What one run came to."""

    seed: int
    invariants: Invariants
    history: History
    digest: str
    steps: int
    virtual_s: float
    drain_s: float = 0.0
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def crashes(self) -> int:
        return self.history.faults["killed"]


class Run:
    """One run of one seed. With `plans` and `profile` given, those are what happens, and no other harm is done."""

    def __init__(
        self, seed: int, *, plans: Sequence[JobPlan] | None = None, profile: FaultProfile | None = None
    ) -> None:
        self.seed = seed
        self.chance = chance = random.Random(seed)
        self.loop = VirtualLoop(chance)  # type: ignore[abstract]  # typeshed has every method of AbstractEventLoop abstract
        self.history = History(self.loop.time)
        self.topics = Topics()
        self._harm = plans is None
        profile = profile or draw_fault_profile(chance)
        self.profile = str(profile)
        self.network = Network(self.loop, chance, self.history, profile)
        self.broker = Broker(self.network, chance, self.history, self._broker_ms)
        self.invariants = Invariants()
        self.ledger = Ledger(self.topics, self.loop.time)
        self.commits = CommitWatch(self.topics, self.ledger, self.invariants)
        self.broker.logs.observers.append(self.ledger)
        self.installation = Installation(self.loop, self.broker, chance, self.history, self.topics)
        self.concurrent: list[Record] = []
        self.faults_end_s = 15 + chance.random() * 45
        self.plans = list(plans) if plans else draw_jobs(chance, chance.randrange(2, 9), self.faults_end_s)
        if self._harm:
            self.plans = _with_deadly_merges(self.plans, random.Random(seed + 1))
        self.clients: Clients
        self.drain_s = 0.0

    def go(self) -> Outcome:
        """Run to the end, and judge."""
        self.play()
        self.judge()
        return Outcome(
            self.seed,
            self.invariants,
            self.history,
            self.history.digest(),
            self.loop.steps,
            self.loop.time(),
            self.drain_s,
        )

    def play(self) -> None:
        """Run to the end."""
        self._build()
        try:
            self.loop.run(self._main(), limit_s=_LIMIT_S)
        except VirtualTimeError as error:
            self.invariants.check("I10", False, f"the run did not end: {error}")

    def _broker_ms(self) -> int:
        return EPOCH_MS + int(self.loop.time() * 1000)

    def _build(self) -> None:
        chance, installation = self.chance, self.installation
        events = chance.choice((1, 1, 2, 3))
        for spec in topic_specs(self.topics, Size.EMBEDDED):
            self.broker.logs.create(_smaller(spec, self.topics, events))
        installation.lost_children = 0.02 if chance.random() < 0.2 else 0.0
        gateway = GatewaySettings(heartbeat_s=5.0)
        worker = WorkerSettings(slots=chance.choice((1, 2, 3)), drain_s=5.0, max_open_records=chance.choice((4, 4096)))
        aggregator = AggregatorSettings(
            heartbeat_timeout_s=SILENCE_S,
            tick_s=2.0,
            drain_s=5.0,
            checkpoint_log_bytes=chance.choice((1, 1_000, 64 * 1024**2)),
            outputs_memory_bytes=chance.choice((100_000, 512 * 1024**2, 512 * 1024**2)),
        )
        gateways = [installation.add_gateway(f"g{n}", gateway) for n in range(chance.choice((1, 2, 2)))]
        for number in range(chance.choice((1, 2, 3))):
            installation.add_worker(f"w{number}", worker)
        for number in range(chance.choice((1, 2, 2))):
            installation.add_aggregator(f"a{number}", aggregator)
        for service in installation.services:
            if chance.random() < 0.3:
                installation.skews_ms[service.name] = int(chance.uniform(-2, 2) * 86_400_000)
        for name in ("workers", "aggregators"):
            self.broker.group(self.topics.group(name)).observers.append(self.commits.committed)
        self.clients = Clients(installation, gateways)
        self.nemesis = Nemesis(installation, chance, draw_sorts(chance), self.commits)
        if not self._harm:
            return
        self.nemesis.schedule(chance.choice((0, 2, 5, 10, 20)), self.faults_end_s)

    async def _main(self) -> None:
        loop = self.loop
        for service in self.installation.services:
            service.start()
        reader = loop.process("reader")
        reader.start(self._read_along(), "reader")
        clients = loop.process("clients")
        submissions = [clients.start(self.clients.carry_out(plan), plan.label) for plan in self.plans]
        await asyncio.sleep(self.faults_end_s)
        self.network.profile.calm()
        self.history.note("nemesis", "calm")
        probe = JobPlan("probe", "merged", tuple(Row("probe", n, "ok", 0) for n in range(12)), 1, start_s=2.0)
        self.plans.append(probe)
        probing = clients.start(self.clients.carry_out(probe), "probe")
        busy_s = self.installation.executions.busy_s
        probed_s = await self._finish_probe(probing)
        limit_s = PROBE_LIMIT_S + self.installation.executions.busy_s - busy_s  # there may be one slot for everything
        self.invariants.check("I9", probed_s <= limit_s, f"a healthy job took {probed_s:.1f} s, not {limit_s:.1f} s")
        await self._drain([*submissions, probing])
        await self._stop()
        reader.cancel_all()

    async def _finish_probe(self, probing: "asyncio.Task[None]") -> float:
        """Wait for the end of a healthy job; seconds since it could have been worked for."""
        began_s = self.loop.time()
        while self.loop.time() - began_s < DRAIN_LIMIT_S:
            if probing.done() and any(finals[0].status.label == "probe" for finals in self.ledger.finals.values()):
                break
            await asyncio.sleep(0.5)
            began_s = max(began_s, self._last_fault_s())
        return self.loop.time() - began_s

    async def _drain(self, submissions: "list[asyncio.Task[None]]") -> None:
        """Wait until nothing is left to do; the time runs from the last fault on."""
        while not (all(task.done() for task in submissions) and not self._undone()):
            last_s = max(self.faults_end_s, self._last_fault_s())
            if self.loop.time() - last_s > DRAIN_LIMIT_S:
                break
            await asyncio.sleep(1.0)
        self.drain_s = self.loop.time() - max(self.faults_end_s, self._last_fault_s())
        undone = [task.get_name() for task in submissions if not task.done()] + self._undone()
        self.invariants.check("I7", not undone, f"not drained {self.drain_s:.0f} s after the last fault: {undone}")
        for task in submissions:
            task.cancel()

    def _last_fault_s(self) -> float:
        return next((m.at_s for m in reversed(self.history.moments) if m.what == "fault"), 0.0)

    def _undone(self) -> list[str]:
        """Open jobs and records that no commit covers."""
        undone = [
            f"open: {label_of(opened[0].event)} {job_id}"
            for job_id, opened in self.ledger.opened.items()
            if (job_id, opened[0].event.owner.version) not in self.ledger.finals
        ]
        topics = self.topics
        workers, aggregators = (self.broker.group(topics.group(name)) for name in ("workers", "aggregators"))
        for topic in (topics.shards_small, topics.shards_bulk, topics.shards_retry):
            undone += [f"lag: {tp}" for tp in self.broker.logs.partitions(topic) if self._lags(workers.committed, tp)]
        undone += [
            f"promised: {promise.plan.label}"
            for promise in self.clients.promises
            if (promise.owner.job_id, promise.owner.version) not in self.ledger.finals
        ]
        undone += [
            f"not ended: {status.label} {status.owner}"
            for status in (self.ledger.shown(job_id) for job_id in self.ledger.opened)
            if status is not None and not status.state.ended
        ]
        undone += ["late requests"] * bool(self.network.late_requests)
        return undone + [
            f"lag: {tp}"
            for tp in self.broker.logs.partitions(topics.job_events)
            if self._lags(aggregators.committed, tp)
        ]

    def _lags(self, committed: Mapping[TopicPartition, Committed], tp: TopicPartition) -> bool:
        """Whether something stands above the committed offset; if that was moved back, whether any of it is open."""
        at = committed.get(tp)
        log = self.broker.logs.log(tp)
        above, _ = log.read(at.offset if at else 0, None)
        if not above or not self.commits.moved_back:
            return bool(above)
        if tp.topic == self.topics.job_events:
            return False
        return any(not self.ledger.settled(tp, record.offset) for record in above)

    async def _stop(self) -> None:
        """Stop everything in order; nothing may be left of it, or of those that were killed."""
        for service in self.installation.services:
            service.halt()
        tasks = [service.task for service in self.installation.services if service.task is not None]
        await asyncio.wait(tasks, timeout=90)
        await asyncio.sleep(20)
        for service in self.installation.services:
            for process in (service.process, *service.left):
                left = [task.get_name() for task in process.tasks()]
                self.invariants.check("I10", not left, f"{process.name} is over and {left} still run")

    async def _read_along(self) -> None:
        """Read finals as they come, committed ones only, from where the reading stood."""
        transport = self.installation.transport(self.loop.process("reader"))
        partitions = self.broker.logs.partitions(self.topics.results)
        positions = dict.fromkeys(partitions, 0)
        while True:
            consumer = transport.consumer()
            try:
                await consumer.start()
                consumer.assign(partitions)
                for tp, offset in positions.items():
                    consumer.seek(tp, offset)
                while True:
                    for tp, records in (await consumer.poll(1.0)).items():
                        positions[tp] = records[-1].offset + 1
                        self.concurrent += records
            except TransportError:
                await consumer.stop()

    def judge(self) -> None:
        """Check everything that can be checked at the end."""
        installation = self.installation
        groups = self.broker.groups.values()
        disturbances = sum(group.generation for group in groups) + sum(self.history.faults.values())
        open_s = self.broker.transactions.longest_open_s()
        self.invariants.check("I8", open_s <= LONGEST_TRANSACTION_S, f"a transaction was open for {open_s:.1f} s")
        RunCheck(
            self.invariants,
            self.ledger,
            self.broker.logs,
            {plan.label: plan for plan in self.plans},
            installation.executions,
            int(SILENCE_S * 1000),
            merges_get_lost=installation.lost_children > 0,
            events_passed=self.commits.events_passed,
            named_alone=self.commits.named_alone,
            most_executions=3 + disturbances,
        ).judge(self.clients.promises, self.concurrent)
        self.invariants.check("ERRORS", not installation.unexpected, "; ".join(installation.unexpected))
        for name, error in self.loop.errors:
            if "never retrieved" not in error:  # of a task that failed beside the one that was awaited
                self.invariants.check("ERRORS", False, f"{name}: {error}")


def _with_deadly_merges(plans: Sequence[JobPlan], chance: random.Random) -> list[JobPlan]:
    """Let merges take their aggregator along in some runs; drawn beside all else, so that the other runs stay the same."""
    often = 0.5 if chance.random() < 0.1 else 0.0
    return [
        replace(plan, merge="deadly") if plan.kind == "merged" and chance.random() < often else plan for plan in plans
    ]


def _smaller(spec: TopicSpec, topics: Topics, events: int) -> TopicSpec:
    partitions = {
        topics.shards_small: 2,
        topics.shards_bulk: 2,
        topics.shards_retry: 2,
        topics.dead_letters: 2,
        topics.job_events: events,
        topics.results: events,
        topics.segments: events,
        topics.checkpoints: events,
        topics.job_status: events,
    }.get(spec.name, 1)
    return TopicSpec(spec.name, partitions, spec.max_record_bytes, spec.config)
