"""Clients that submit jobs all the time, as careful clients do: with a key, and again after every broken connection."""

import asyncio
import hashlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2

from chaos.jobs import Job
from chaos.ledger import Ledger, Told, Version

_ENDS = frozenset({"succeeded", "partial", "failed", "cancelled", "expired"})
_AGAIN = frozenset(
    {"submission-open", "closed-meanwhile", "client-gone", "upload-stalled", "busy", "broker-unavailable"}
)
"""Codes that ask for the same request once more; `state-unknown` does, too, of those who have a key."""

_TIMEOUT = httpx2.Timeout(12.0, connect=3.0)
_PAUSE_S = 0.5
_KEYED, _SLOW, _TWIN = 0.85, 0.3, 0.06
"""Shares of submissions with a key, uploaded slowly, and sent to both gateways at once."""


class Workload:
    """`clients` of them until stop(); each waits for the end of its job before it takes the next."""

    def __init__(self, gateways: Sequence[str], jobs: Sequence[tuple[int, Job]], ledger: Ledger, seed: int) -> None:
        self._https = [httpx2.AsyncClient(base_url=url, timeout=_TIMEOUT) for url in gateways]
        self._weights = [weight for weight, _ in jobs]
        self._jobs = [job for _, job in jobs]
        self._seed = seed
        self._stopping = asyncio.Event()
        self._given_up = asyncio.Event()
        self.ledger = ledger
        self.retries = 0

    async def run(self, clients: int) -> None:
        """Submit and follow until stop(), then until what was begun has ended, or give_up()."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._client(random.Random(f"chaos client {self._seed} {number}")))

    async def close(self) -> None:
        """Disconnect."""
        for http in self._https:
            await http.aclose()

    def stop(self) -> None:
        """Begin no further job."""
        self._stopping.set()

    def give_up(self) -> None:
        """Wait for nothing any more."""
        self._given_up.set()

    async def one(self, job: Job, draw: random.Random) -> Told:
        """Submit one more job beside the clients', with a key; it is accepted, or will never be."""
        told = self.ledger.begin(job, uuid.UUID(int=draw.getrandbits(128)).hex, time.time())
        await self._submit(told, draw, slow=False)
        return told

    async def follow(self, told: Told, draw: random.Random) -> None:
        """Ask for the job until it has ended, and for its result."""
        while told.open and not self._given_up.is_set():
            document = await self._ask(told, draw, "GET", {"Prefer": "wait=4"})
            if document is not None and document["state"] in _ENDS and document["version"] >= _newest(told)[1]:
                digest = await self._result_digest(told, draw) if document["result"] else None
                if digest is not None or not document["result"]:
                    told.ended = (document["state"], document["version"], digest)
                    return
            elif document is None:
                await asyncio.sleep(_PAUSE_S)
        told.given_up = told.ended is None

    async def document(self, told: Told, draw: random.Random) -> dict[str, Any] | None:
        """The job's document as some gateway has it now; None where none answers."""
        return await self._ask(told, draw, "GET", {})

    async def cancel(self, told: Told, draw: random.Random, limit_s: float) -> str:
        """Ask for the job's end until a gateway has answered: "taken", "refused" (409), or "unheard" within the limit."""
        told.cancelled = True
        return (await self._command(told, "cancel", draw, limit_s))[0]

    async def redrive(self, told: Told, draw: random.Random, limit_s: float) -> str:
        """Ask for the next version, as cancel() does; one that is taken is a version that must have its final."""
        heard, document = await self._command(told, "redrive", draw, limit_s)
        if heard == "taken":
            told.accepted.setdefault((str(document["job_id"]), int(document["version"])), time.time())
        return heard

    async def sweep(self) -> None:
        """Ask every gateway for every accepted job once more; they have to agree with the finals, all of them."""
        for told in self.ledger.all:
            for http in self._https if told.accepted else ():
                answer = await http.get(f"/v1/jobs/{_newest(told)[0]}")
                document = _json(answer)
                told.shown.append(
                    (_port(http), document.get("state", str(answer.status_code)), document.get("version", 0))
                )

    async def _command(self, told: Told, verb: str, draw: random.Random, limit_s: float) -> tuple[str, dict[str, Any]]:
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            try:
                answer = await draw.choice(self._https).post(f"/v1/jobs/{_newest(told)[0]}:{verb}")
            except httpx2.TransportError:
                await asyncio.sleep(_PAUSE_S)
                continue
            told.answers.append(f"{verb} {answer.status_code}")
            if answer.status_code in (200, 202):
                return "taken", _json(answer)
            if answer.status_code == httpx2.codes.CONFLICT:
                return "refused", {}
            await asyncio.sleep(_PAUSE_S)
        return "unheard", {}

    async def _client(self, draw: random.Random) -> None:
        while not self._stopping.is_set():
            job = draw.choices(self._jobs, self._weights)[0]
            key = uuid.UUID(int=draw.getrandbits(128)).hex if draw.random() < _KEYED else None
            told = self.ledger.begin(job, key, time.time())
            slow, twin = draw.random() < _SLOW, key is not None and draw.random() < _TWIN
            if twin:
                await asyncio.gather(*(self._submit(told, draw, slow=slow, first=http) for http in self._https))
            else:
                await self._submit(told, draw, slow=slow)
            if told.accepted:
                await self.follow(told, draw)
            await asyncio.sleep(draw.random() * 0.3)

    async def _submit(
        self, told: Told, draw: random.Random, *, slow: bool, first: httpx2.AsyncClient | None = None
    ) -> None:
        http = first or draw.choice(self._https)
        while not self._given_up.is_set():
            try:
                answer = await self._post(http, told, draw, slow=slow)
            except httpx2.TransportError as error:
                told.answers.append(f"{_port(http)} {type(error).__name__}")
            else:
                if self._take(told, answer, _port(http)):
                    return
            if told.key is None:
                break
            self.retries += 1
            await asyncio.sleep(_PAUSE_S * (0.5 + draw.random()))
            http, slow = draw.choice(self._https), False
        told.given_up = not told.accepted and not told.refused

    async def _post(self, http: httpx2.AsyncClient, told: Told, draw: random.Random, *, slow: bool) -> httpx2.Response:
        headers = {"Content-Type": "application/octet-stream"} | ({"Idempotency-Key": told.key} if told.key else {})
        query = told.job.query | {"label": told.label}
        content = _slowly(told.job.body, draw.random() * 3.0) if slow else told.job.body
        return await http.post("/v1/jobs", params=query, content=content, headers=headers)

    def _take(self, told: Told, answer: httpx2.Response, port: int) -> bool:
        """Note an answer; True if no further one is needed."""
        status, document = answer.status_code, _json(answer)
        if status in (200, 202):
            version = (str(document["job_id"]), int(document["version"]))
            told.answers.append(f"{port} {status} version {version[1]} {document['state']}")
            told.accepted.setdefault(version, time.time())
            return True
        code = str(document.get("code", answer.text[:200]))
        told.answers.append(f"{port} {status} {code}")
        if code not in _AGAIN and code != "state-unknown":
            told.refused = f"{status} {code}: {document.get('detail', '')}"
            return True
        return False

    async def _ask(
        self, told: Told, draw: random.Random, method: str, headers: dict[str, str]
    ) -> dict[str, Any] | None:
        http = draw.choice(self._https)
        try:
            answer = await http.request(method, f"/v1/jobs/{_newest(told)[0]}", headers=headers)
        except httpx2.TransportError:
            return None
        if answer.status_code == httpx2.codes.NOT_FOUND:
            told.forgotten.append(f"404 from {_port(http)} after it was accepted: {answer.text[:200]}")
        return _json(answer) if answer.status_code == httpx2.codes.OK else None

    async def _result_digest(self, told: Told, draw: random.Random) -> str | None:
        try:
            answer = await draw.choice(self._https).get(f"/v1/jobs/{_newest(told)[0]}/result")
        except httpx2.TransportError:
            return None
        return hashlib.sha256(answer.content).hexdigest() if answer.status_code == httpx2.codes.OK else None


async def _slowly(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    """The body in eight parts over some seconds."""
    step = max(1, -(-len(body) // 8))
    for at in range(0, len(body), step):
        yield body[at : at + step]
        await asyncio.sleep(seconds / 8)


def _newest(told: Told) -> Version:
    return max(told.accepted, key=lambda version: version[1])


def _port(http: httpx2.AsyncClient) -> int:
    return http.base_url.port or 0


def _json(answer: httpx2.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
