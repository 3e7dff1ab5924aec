"""One run: the services' real loops over the simulated broker, healthy jobs, and odd records between their records.

Two sorts of records are written. *Strangers* are of jobs that nobody submitted, right or odd. *Damaged* ones are copies of
what the services wrote, of live jobs, changed until no reader may accept them. So neither may change what becomes of
a job that a client submitted.
"""

import asyncio
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from simulation.executor import SimulatedExecutor
from simulation.installation import EPOCH_MS, Installation, Service
from simulation.kinds import KINDS, Row, decode_rows, merged, shard_answer
from simulation.workload import Clients, JobPlan, Promise

from fuzz_records.odd import Content, odd
from fuzz_records.samples import Sample, samples
from regather.children.work import Call, Work
from regather.core.errors import NewerRecord, WireError
from regather.core.execution import Failed, Result
from regather.core.ids import uuid7
from regather.core.model import Identity, JobState, Reason, SubmissionId
from regather.core.status import JobStatus
from regather.testing.simulation.broker import Broker
from regather.testing.simulation.event_loop import VirtualLoop, VirtualTimeError
from regather.testing.simulation.history import History
from regather.testing.simulation.network import FaultProfile, Network
from regather.topics.layout import Size, Topics, topic_specs
from regather.transport.base import Record, TopicPartition
from regather.wire.documents import decode_final
from regather_aggregator.settings import AggregatorSettings
from regather_gateway.settings import GatewaySettings
from regather_worker.settings import WorkerSettings

_JOBS_S = 60.0
_PROBE_S = 60.0
_DRAIN_S = 700.0
"""More than the longest delay of a retry."""

_LIMIT_S = 1_800.0
_STRANGER_PART = 0.8


@dataclass
class Findings:
    """What one run came to."""

    records: int = 0
    refused: int = 0
    exits: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    hurt: list[str] = field(default_factory=list)
    jobs: int = 0


class WaryExecutor(SimulatedExecutor):
    """An executor that also gets shards of strangers, whose payloads and kinds may be anything."""

    async def run(self, work: Work) -> list[Result]:
        """Fail what no child of the simulation could begin."""
        try:
            KINDS[work.kind].options_model.model_validate_json(work.options or b"{}")
            for item in work.items if work.call is not Call.MERGE else ():
                decode_rows(item.payload)
        except Exception as error:
            return [Failed(Reason.RAISED, str(error)[:200], self._now_ms(), 1) for _ in work.items]
        return await super().run(work)


class WaryInstallation(Installation):
    """An installation whose children bear strangers."""

    def _executor(self, service: Service, environment: Any, slots: int) -> SimulatedExecutor:
        watcher = self.executions.watcher(environment.process, service.kill)
        return WaryExecutor(KINDS, slots, self.chance, environment.now_ms, watcher)


class Run:
    """`records` odd records, all drawn from the seed."""

    def __init__(self, seed: int, records: int) -> None:
        self.chance = chance = random.Random(seed)
        self.records = records
        self.found = Findings()
        self.topics = Topics()
        self.loop = VirtualLoop(chance)  # type: ignore[abstract]  # typeshed has every method of AbstractEventLoop abstract
        history = History(self.loop.time)
        network = Network(self.loop, chance, history, FaultProfile())
        self.broker = Broker(network, chance, history, self._now_ms)
        self.installation = WaryInstallation(self.loop, self.broker, chance, history, self.topics)
        for spec in topic_specs(self.topics, Size.EMBEDDED):
            self.broker.logs.create(spec)
        gateway = self.installation.add_gateway("g", GatewaySettings())
        self.installation.add_worker("w0", WorkerSettings(slots=2))
        self.installation.add_worker("w1", WorkerSettings(slots=2))
        self.installation.add_aggregator("a", AggregatorSettings(checkpoint_log_bytes=1_000, tick_s=2.0))
        self.clients = Clients(self.installation, [gateway])
        self.plans = [_plan(number, chance) for number in range(9)]

    def go(self) -> Findings:
        """Run to the end."""
        try:
            self.loop.run(self._main(), limit_s=_LIMIT_S)
        except VirtualTimeError as error:
            self.found.hangs.append(f"the run did not end: {error}")
        self.found.exits += self.installation.unexpected
        self.found.exits += [f"{name}: {error}" for name, error in self.loop.errors if "never retrieved" not in error]
        return self.found

    def _now_ms(self) -> int:
        return EPOCH_MS + int(self.loop.time() * 1000)

    async def _main(self) -> None:
        for service in self.installation.services:
            service.start()
        clients = self.loop.process("clients")
        jobs = [clients.start(self.clients.carry_out(plan), plan.label) for plan in self.plans]
        for _ in range(self.records):
            await asyncio.sleep(self.chance.expovariate(self.records / _JOBS_S))
            self._write()
        await asyncio.wait(jobs, timeout=_PROBE_S)
        await self._restart()
        probe = _plan(len(self.plans), self.chance, start_s=1.0)
        self.plans.append(probe)
        await asyncio.wait([clients.start(self.clients.carry_out(probe), probe.label)], timeout=_PROBE_S)
        await self._until_nothing_is_left()
        self._judge()
        for service in self.installation.services:
            service.halt()
        await asyncio.sleep(40)

    async def _restart(self) -> None:
        """Read all of it again: what stops a reader stops it at each start."""
        for service in self.installation.services:
            service.restart()
        await asyncio.sleep(20)

    async def _until_nothing_is_left(self) -> None:
        """Wait until every job has its final and every record of shards and events is committed."""
        for _ in range(int(_DRAIN_S)):
            if len(self._finals()) == len(self.plans) and not list(self._uncommitted()):
                return
            await asyncio.sleep(1)
        self.found.hangs += self._uncommitted()

    def _uncommitted(self) -> Iterator[str]:
        topics = self.topics
        shards = (topics.shards_small, topics.shards_bulk, topics.shards_retry)
        for role, names in (("workers", shards), ("aggregators", (topics.job_events,))):
            committed = self.broker.group(topics.group(role)).committed
            for tp in (tp for name in names for tp in self.broker.logs.partitions(name)):
                log = self.broker.logs.log(tp)
                at = committed[tp].offset if tp in committed else 0
                if log.read(at, 1)[0]:
                    yield f"{tp.topic}-{tp.partition} is committed up to {at} of {log.end}"

    def _write(self) -> None:
        written = self._stranger() if self.chance.random() < _STRANGER_PART else self._damaged()
        if written is None or self._is_newer(*written):
            return
        tp, (headers, value) = written
        key = self.chance.choice((None, b"", b"\xff", b"key"))
        self.found.records += 1
        self.broker.logs.append(tp, (key, value, headers), None, lambda _: None)

    def _is_newer(self, _tp: TopicPartition, content: Content) -> bool:
        """Whether it looks like a record of a later release: at such a one a service stops on purpose."""
        return any(_refused_as(other, content, NewerRecord) for other in samples(_NOBODY, self.topics))

    def _stranger(self) -> tuple[TopicPartition, Content]:
        owner = Identity(
            uuid7(self._now_ms(), self.chance.randbytes(10)), SubmissionId(self.chance.randbytes(8).hex()), 1
        )
        sample = self.chance.choice(samples(owner, self.topics))
        content = odd(sample.content, self.chance) if self.chance.random() < 0.9 else sample.content
        tp = self._place(self.chance.choice(sample.topics))
        self.found.refused += _refused(sample, content)
        return tp, content

    def _damaged(self) -> tuple[TopicPartition, Content] | None:
        """Return a copy of a record that stands in a topic, changed so that it cannot be read."""
        sample = self.chance.choice(samples(_NOBODY, self.topics))
        tp = self._place(self.chance.choice(sample.topics))
        record = self._some_record(tp)
        if record is None:
            return None
        for _ in range(20):
            content = odd((record.headers, record.value), self.chance)
            if all(_refused(other, content) for other in samples(_NOBODY, self.topics) if tp.topic in other.topics):
                self.found.refused += 1
                return tp, content
        return None

    def _some_record(self, tp: TopicPartition) -> Record | None:
        log = self.broker.logs.log(tp)
        if log.end == log.beginning:
            return None
        return self.broker.logs.committed_at(tp, self.chance.randrange(log.beginning, log.end))

    def _place(self, topic: str) -> TopicPartition:
        return self.chance.choice(self.broker.logs.partitions(topic))

    def _finals(self) -> dict[str, list[tuple[JobStatus, bytes]]]:
        """The finals of the clients' jobs, by label."""
        owners = {promise.owner: promise.plan.label for promise in self.clients.promises}
        found: dict[str, list[tuple[JobStatus, bytes]]] = {}
        for record in self.broker.logs.committed(self.topics.results):
            try:
                status = decode_final(record.headers)
            except WireError:
                continue
            if status.owner in owners:
                found.setdefault(owners[status.owner], []).append((status, record.value or b""))
        return found

    def _judge(self) -> None:
        finals = self._finals()
        self.found.jobs = len(self.plans)
        for plan in self.plans:
            complaint = _complaint(plan, finals.get(plan.label, []), self.clients.promises)
            if complaint is not None:
                self.found.hurt.append(f"{plan.label} ({plan.kind}): {complaint}")


_NOBODY = Identity(uuid7(0, bytes(10)), SubmissionId("00" * 8))


def _refused_as(sample: Sample, content: Content, kind: type[Exception]) -> bool:
    try:
        sample.decode(content)
    except Exception as error:
        return isinstance(error, kind)
    return False


def _refused(sample: Sample, content: Content) -> bool:
    return _refused_as(sample, content, Exception)  # no other error than WireError may come: the services show it


def _plan(number: int, chance: random.Random, start_s: float | None = None) -> JobPlan:
    label, kind = f"j{number}", ("rows", "merged", "chained")[number % 3]
    rows = tuple(Row(label, row, "ok", 0) for row in range(chance.randint(5, 20)))
    return JobPlan(label, kind, rows, 2, start_s=chance.random() * _JOBS_S if start_s is None else start_s)


def _complaint(plan: JobPlan, finals: list[tuple[JobStatus, bytes]], promises: list[Promise]) -> str | None:
    accepted = sum(promise.plan is plan for promise in promises)
    if accepted != 1:
        return f"it was accepted {accepted} times"
    if len(finals) != 1:
        return f"it has {len(finals)} finals"
    status, result = finals[0]
    if status.state is not JobState.SUCCEEDED or status.retries:
        return f"it is {status.state} after {status.retries} retries: {status.error}"
    return None if result == _right(plan) else f"its result is {result[:80]!r}"


def _right(plan: JobPlan) -> bytes:
    outputs = list(_outputs(plan))
    return merged(outputs) if plan.kind == "merged" else b"".join(outputs)


def _outputs(plan: JobPlan) -> Iterator[bytes]:
    carry = b""
    for rows in plan.shards:
        output = shard_answer(rows, plan.pad)
        if plan.kind != "chained":
            yield output
            continue
        yield carry[:6] + b">" + output
        carry = hashlib.sha256(carry + output).hexdigest().encode()
