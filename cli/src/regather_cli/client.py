"""The HTTP client of the command line: submit a body, follow a job to its end, fetch the result."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx2

_CHUNK_BYTES = 1024 * 1024
JobDocument = dict[str, Any]


class ApiError(RuntimeError):
    """The gateway refused a request; the message is the gateway's. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class WaitTimeout(TimeoutError):
    """The time limit of the wait passed before the end of the job, which goes on. `document` is its latest one."""

    def __init__(self, document: JobDocument) -> None:
        super().__init__(f"job {document['job_id']} is still {document['state']}")
        self.document = document


@dataclass(frozen=True, slots=True)
class Submission:
    """The parameters of a job. `options` are those of its kind."""

    kind: str
    options: Mapping[str, str]
    shard_size_bytes: int | None = None
    on_error: str | None = None
    label: str | None = None
    timeout_s: float | None = None
    max_failed_count: int | None = None

    def query(self) -> dict[str, str]:
        """Return the query parameters of POST /v1/jobs."""
        named = {
            "kind": self.kind,
            "shard_size": str(self.shard_size_bytes) if self.shard_size_bytes else None,
            "on_error": self.on_error,
            "label": self.label,
            "timeout_s": None if self.timeout_s is None else f"{self.timeout_s:g}",
            "max_failed_count": None if self.max_failed_count is None else str(self.max_failed_count),
        }
        given = {name: value for name, value in named.items() if value is not None}
        return given | {f"option.{name}": value for name, value in self.options.items()}


class Client:
    """HTTP client of one gateway. `transport` replaces the network in tests."""

    def __init__(self, url: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._http = httpx2.AsyncClient(base_url=url, timeout=httpx2.Timeout(60.0), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def submit(self, submission: Submission, body: Path | bytes, side: Path | bytes | None = None) -> JobDocument:
        """Send the body (a file is streamed) and return the job's document; raises ApiError.

        `side` is the second, small file of kinds that take one; the client then sends a form with the side file first.
        """
        if side is not None:
            return await self._submit_form(submission, side, body)
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        answer = await self._request(
            "POST",
            "/v1/jobs",
            params=submission.query(),
            content=body if isinstance(body, bytes) else _chunks(body),
            headers={"content-type": "application/octet-stream", "content-length": str(size)},
            timeout=httpx2.Timeout(60.0, read=600.0),
        )
        return _document(answer)

    async def _submit_form(self, submission: Submission, side: Path | bytes, body: Path | bytes) -> JobDocument:
        with contextlib.ExitStack() as opened:
            files = [(name, _file(name, content, opened)) for name, content in (("side", side), ("file", body))]
            answer = await self._request(
                "POST",
                "/v1/jobs",
                params=submission.query(),
                files=files,
                timeout=httpx2.Timeout(60.0, read=600.0),
            )
        return _document(answer)

    async def status(self, job_id: str) -> JobDocument:
        """Return the job's current document; raises ApiError."""
        return _document(await self._request("GET", f"/v1/jobs/{job_id}"))

    async def wait(
        self,
        job_id: str,
        *,
        timeout_s: float,
        on_progress: Callable[[JobDocument], None] = lambda document: None,
        every_s: float = 0.2,
        version: int = 1,
    ) -> JobDocument:
        """Poll a job until this version or a later one ends; return its last document. Raises WaitTimeout.

        After a redrive through another gateway, this one may still show the ended previous version for a moment.
        """
        end = time.monotonic() + timeout_s
        while True:
            document = await self.status(job_id)
            known = document.get("version", 1) >= version
            if known:
                on_progress(document)
            if known and has_ended(document):
                return document
            if time.monotonic() > end:
                raise WaitTimeout(document)
            await asyncio.sleep(every_s)

    async def redrive(self, job_id: str, shards: str = "", timeout_s: float | None = None) -> JobDocument:
        """Run shards of an ended job again; by default all that failed, have bad rows or never ran.

        Returns the document of the new version.
        """
        query = {"shards": shards} if shards else {}
        if timeout_s is not None:
            query["timeout_s"] = f"{timeout_s:g}"
        timeout = httpx2.Timeout(60.0, read=600.0)
        response = await self._request("POST", f"/v1/jobs/{job_id}:redrive", params=query, timeout=timeout)
        document: JobDocument = response.json()
        return document

    async def shards(self, job_id: str) -> list[dict[str, Any]]:
        """Return the documents of all shards, in order."""
        found: list[dict[str, Any]] = []
        after: int | None = -1
        while after is not None:
            answer = await self._request("GET", f"/v1/jobs/{job_id}/shards", params={"after": str(after)})
            page = answer.json()
            found += page["shards"]
            after = page["next_after"]
        return found

    async def result(self, job_id: str) -> bytes:
        """Return the bytes of a job's result."""
        return bytes((await self._request("GET", f"/v1/jobs/{job_id}/result")).content)

    async def _request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        try:
            response = await self._http.request(method, path, **arguments)
        except httpx2.TransportError as error:
            message = f"no answer from {self._http.base_url}: {error!r}. Is Regather running? (`regather up`)"
            raise ApiError(0, message) from error
        if response.is_error:
            raise ApiError(response.status_code, _problem(response))
        return response


_ENDS = frozenset({"succeeded", "partial", "failed", "cancelled", "expired"})


def has_ended(document: JobDocument) -> bool:
    """Whether the job's state is final."""
    return document["state"] in _ENDS


def _file(name: str, content: Path | bytes, opened: contextlib.ExitStack) -> tuple[str, bytes | BinaryIO, str]:
    """Return a file of a form: its name there, its content and its media type."""
    if isinstance(content, bytes):
        return name, content, "application/octet-stream"
    return content.name, opened.enter_context(content.open("rb")), "application/octet-stream"


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk


def _document(response: httpx2.Response) -> JobDocument:
    document: JobDocument = response.json()
    return document


def _problem(response: httpx2.Response) -> str:
    """Return title and detail of a problem+json answer, or the start of any other answer."""
    try:
        problem = response.json()
    except json.JSONDecodeError:
        return f"HTTP {response.status_code}: {response.text[:300]}"
    if isinstance(problem, dict) and "title" in problem:
        return f"{problem['title']}: {problem.get('detail', '')}".rstrip(": ")
    return f"HTTP {response.status_code}: {json.dumps(problem)[:300]}"
