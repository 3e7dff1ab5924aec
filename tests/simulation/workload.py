"""Jobs and the clients that submit them: impatient, repeating, sending twice, going away."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import ClientDisconnect

from regather.core.errors import RegatherError
from regather.core.ids import keyed_job_id
from regather.core.model import Identity, JobId, OnError
from regather.core.seq_ranges import SeqRanges
from regather.core.status import JobStatus
from regather_gateway.http.problem_responses import problem_of
from regather_gateway.problems import Problem
from regather_gateway.submission.job_spec import TENANT, SubmitRequest, make_spec
from regather_gateway.submission.opening import Receipt
from simulation.installation import Gateway, Installation, Service
from simulation.kinds import Row, encode_row

_ANSWER_LIMIT_S = 90.0
_TRIES = 5
_REPEATABLE = frozenset({None, "no-answer", "connection-broken", "state-unknown", "broker-unavailable"})
_LARGE_PAD = 210_000


@dataclass(frozen=True)
class JobPlan:
    """One job as its client wants it. Times are virtual seconds; `pauses_s` lie between the chunks of the upload."""

    label: str
    kind: str
    rows: tuple[Row, ...]
    per_shard: int
    start_s: float
    pad: int = 0
    merge: str = "ok"
    on_error: OnError = OnError.FAIL
    max_failed: int | None = None
    deadline_s: float = 3600.0
    key: str | None = None
    pauses_s: tuple[float, ...] = ()
    goes_away: bool = False
    twice: bool = False
    repeats_after_s: float | None = None
    cancels_after_s: float | None = None
    redrives: tuple[SeqRanges, ...] = ()
    """What is to run again once the job has ended, and again after that; an empty one: all without a whole outcome."""

    @property
    def shards(self) -> list[tuple[Row, ...]]:
        return [self.rows[at : at + self.per_shard] for at in range(0, len(self.rows), self.per_shard)]

    @property
    def harmless(self) -> bool:
        """Whether nothing but faults of the installation can keep this job from succeeding."""
        fine = all(row.fate in ("ok", "slow") or 0 < row.argument < 4 for row in self.rows)
        return fine and self.merge == "ok" and self.cancels_after_s is None and self.deadline_s >= 3600


@dataclass
class Promise:
    """A 202: what the client was told of its job."""

    plan: JobPlan
    owner: Identity
    replayed: bool
    at_s: float


@dataclass
class Clients:
    """Everybody who submits, and what they were told."""

    installation: Installation
    gateways: Sequence[Service]
    promises: list[Promise] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    cancels: int = 0

    async def carry_out(self, plan: JobPlan) -> None:
        """Do all that a client does about one job."""
        await asyncio.sleep(plan.start_s)
        if plan.twice:
            await asyncio.gather(self._insist(plan), self._insist(plan))
        else:
            await self._insist(plan)
        if plan.repeats_after_s is not None:
            await asyncio.sleep(plan.repeats_after_s)
            await self._insist(plan)
        for wanted in plan.redrives:
            promised = [promise.owner.job_id for promise in self.promises if promise.plan is plan]
            if promised:
                await asyncio.gather(*(self._redrive(plan, promised[0], wanted) for _ in range(1 + plan.twice)))

    async def _insist(self, plan: JobPlan) -> None:
        """Submit until there is an answer that needs no repeating; without a key that makes another job."""
        canceller = None
        if plan.cancels_after_s is not None and plan.key is not None:
            canceller = asyncio.create_task(self._cancel_later(plan, keyed_job_id(TENANT, plan.key)))
        for _ in range(_TRIES):
            answer = await self._submit_once(plan)
            if isinstance(answer, Promise):
                self.promises.append(answer)
                self._note("accepted", plan.label, answer.owner, answer.replayed)
                if canceller is None and plan.cancels_after_s is not None:
                    canceller = asyncio.create_task(self._cancel_later(plan, answer.owner.job_id))
                break
            self.refusals.append((plan.label, answer))
            self._note("refused", plan.label, answer)
            if answer == "client-gone":
                break
            await asyncio.sleep(1.0 + self.installation.chance.random() * 4)
        if canceller is not None:
            await canceller

    async def _submit_once(self, plan: JobPlan) -> "Promise | str":
        service = await self._some_gateway()
        gateway: Gateway = service.running
        spec = make_spec(_request(plan), gateway.registry, gateway.settings)
        body = _body(plan, self.installation.chance)
        task = service.process.start(gateway.submit(spec, body), f"submit-{plan.label}")
        answer = await self._answer(task)
        if isinstance(answer, Receipt):
            return Promise(plan, answer.status.owner, answer.replayed, self.installation.loop.time())
        return str(answer)

    async def _redrive(self, plan: JobPlan, job_id: JobId, wanted: SeqRanges) -> None:
        """Ask for a redrive until there is an answer that needs no repeating."""
        for _ in range(_TRIES):
            service = await self._some_gateway()
            task = service.process.start(service.running.redrive(job_id, wanted, 30.0), f"redrive-{plan.label}")
            answer = await self._answer(task)
            if isinstance(answer, JobStatus):
                self.promises.append(Promise(plan, answer.owner, False, self.installation.loop.time()))
                self._note("redriven", plan.label, answer.owner)
                return
            self._note("not redriven", plan.label, answer)
            if answer not in _REPEATABLE:
                return
            await asyncio.sleep(1.0 + self.installation.chance.random() * 4)

    async def _answer(self, task: "asyncio.Task[Any]") -> object:
        """What comes of a request: its result, or a word for what went wrong."""
        await asyncio.wait([task], timeout=_ANSWER_LIMIT_S)
        if not task.done():
            return "no-answer"
        if task.cancelled():
            return "connection-broken"
        error = task.exception()
        if error is None:
            return task.result()
        if not isinstance(error, (Problem, RegatherError, ClientDisconnect)):
            self.installation.unexpected.append(f"{task.get_name()}: {error!r}")
        return problem_of(error).code if isinstance(error, Exception) else repr(error)

    async def _cancel_later(self, plan: JobPlan, job_id: JobId) -> None:
        assert plan.cancels_after_s is not None
        await asyncio.sleep(plan.cancels_after_s)
        service = await self._some_gateway()
        task = service.process.start(_cancel(service.running, job_id), f"cancel-{plan.label}")
        await asyncio.wait([task], timeout=_ANSWER_LIMIT_S)
        failed = not task.done() or task.cancelled() or task.exception() is not None
        self._note("cancel", plan.label, "failed" if failed else task.result())

    async def _some_gateway(self) -> Service:
        """A gateway that takes jobs, however long there is none."""
        while True:
            ready = [service for service in self.gateways if self._ready(service)]
            if ready:
                return self.installation.chance.choice(ready)
            await asyncio.sleep(0.3)

    @staticmethod
    def _ready(service: Service) -> bool:
        gateway: Any = service.running
        return service.alive and service.wanted and gateway.producers.ready and gateway.view.ready

    def _note(self, what: str, *details: object) -> None:
        self.installation.history.note("client", what, *details)


async def _cancel(gateway: Gateway, job_id: JobId) -> str:
    status = await gateway.view.find(job_id)
    if status is None or status.state.ended:
        return "nothing to cancel"
    await gateway.canceller.cancel(status.owner)
    return "asked for"


def _request(plan: JobPlan) -> SubmitRequest:
    options: dict[str, object] = {"rows": plan.per_shard}
    if plan.pad:
        options["pad"] = plan.pad
    if plan.merge != "ok":
        options["merge"] = plan.merge
    return SubmitRequest(
        plan.kind,
        options,
        timeout_s=2.0,
        deadline_s=plan.deadline_s,
        on_error=plan.on_error,
        max_failed_count=plan.max_failed,
        label=plan.label,
        key=plan.key,
    )


async def _body(plan: JobPlan, chance: random.Random) -> AsyncIterator[bytes]:
    whole = b"".join(encode_row(row) for row in plan.rows)
    cuts = sorted(chance.randrange(len(whole)) for _ in plan.pauses_s)
    for begin, end, pause_s in zip([0, *cuts], [*cuts, len(whole)], [0.0, *plan.pauses_s], strict=True):
        if pause_s:
            await asyncio.sleep(pause_s)
        if plan.goes_away and end == len(whole):
            raise ClientDisconnect
        if begin < end:
            yield whole[begin:end]


THEMES = ("", "", "", "", "chained", "large", "slow", "twice", "hasty", "deadly", "redrive")
"""What the jobs of a run have in common: in half of the runs nothing, for some faults show only where it is frequent."""


def draw_jobs(chance: random.Random, count: int, until_s: float) -> list[JobPlan]:
    """Jobs of one run; in some runs one shard of one job takes its worker along."""
    theme = chance.choice(THEMES)
    plans = [_draw_job(chance, f"j{number}", until_s, theme) for number in range(count)]
    if theme == "deadly":
        victim = plans[0]
        rows = list(victim.rows)
        at = chance.randrange(len(rows))
        rows[at] = Row(victim.label, at, "deadly", chance.choice((1, 1, 2, 9)))
        plans[0] = replace(victim, rows=tuple(rows))
    return plans


def _draw_job(chance: random.Random, label: str, until_s: float, theme: str) -> JobPlan:
    roll = chance.random
    kind = "chained" if theme == "chained" else chance.choices(("rows", "merged", "chained"), (5, 3, 2))[0]
    large = roll() < (0.6 if theme == "large" else 0.05)
    shards = 6 if large else chance.choice((1, 2, 3, 4, 6, 9, 12))
    per_shard = 1 if large or kind == "chained" else chance.choice((1, 1, 2, 4))
    healthy = roll() < 0.6
    rows = tuple(
        _draw_row(chance, Row(label, number, "ok", 0), healthy=healthy) for number in range(shards * per_shard)
    )
    on_error = OnError.FAIL if roll() < 0.4 else OnError.SKIP
    keyed = roll() < (0.9 if theme == "twice" else 0.5)
    return JobPlan(
        label,
        kind,
        rows,
        per_shard,
        start_s=roll() * until_s,
        pad=_LARGE_PAD if large else 0,
        merge="raises" if kind == "merged" and roll() < 0.05 else "ok",
        on_error=on_error,
        max_failed=chance.randrange(3) if on_error is OnError.SKIP and roll() < 0.3 else None,
        deadline_s=3 + roll() * 40 if roll() < (0.6 if theme == "hasty" else 0.12) else 3600.0,
        key=label if keyed else None,
        pauses_s=_draw_pauses(chance, slow=theme == "slow"),
        goes_away=roll() < 0.05,
        twice=keyed and roll() < (0.7 if theme == "twice" else 0.2),
        repeats_after_s=roll() * 20 if keyed and roll() < (0.6 if theme == "twice" else 0.2) else None,
        cancels_after_s=roll() * 12 if roll() < (0.5 if theme == "hasty" else 0.08) else None,
        redrives=_draw_redrives(chance, shards, 0.7 if theme == "redrive" else 0.15),
    )


def _draw_redrives(chance: random.Random, shards: int, often: float) -> tuple[SeqRanges, ...]:
    """Mostly what is missing, sometimes shards by name; sometimes once more after that."""
    found: list[SeqRanges] = []
    while chance.random() < often and len(found) < 3:
        first = chance.randrange(shards)
        found.append(() if chance.random() < 0.6 else ((first, min(shards - 1, first + chance.randrange(3))),))
    return tuple(found)


def _draw_row(chance: random.Random, row: Row, *, healthy: bool) -> Row:
    if healthy:
        fate, argument = ("ok", 0) if chance.random() < 0.9 else ("slow", chance.choice((100, 400, 1500)))
        return row._replace(fate=fate, argument=argument)
    fate, arguments = chance.choices(
        (
            ("ok", (0,)),
            ("slow", (200, 1900)),
            ("fail", (1, 2, 3, 9)),
            ("bad", (0,)),
            ("perm", (0,)),
            ("crash", (1, 9)),
            ("hang", (1, 9)),
            ("oom", (1, 9)),
        ),
        (60, 8, 10, 8, 4, 5, 3, 2),
    )[0]
    return row._replace(fate=fate, argument=chance.choice(arguments))


def _draw_pauses(chance: random.Random, *, slow: bool) -> tuple[float, ...]:
    sort = chance.random() * 0.4 + 0.6 if slow else chance.random()
    if sort < 0.6:
        return ()
    if sort < 0.85:
        return tuple(chance.random() * 0.5 for _ in range(chance.randrange(1, 4)))
    if sort < 0.97:
        return tuple(chance.random() * 8 for _ in range(chance.randrange(1, 5)))
    return (30 + chance.random() * 30,)
