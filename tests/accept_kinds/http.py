"""Asking the real gateway: one job a question, its document, its result, and its shards where one was tried again."""

from types import TracebackType
from typing import Any, Self

import httpx2

from accept_kinds.case import Case
from accept_kinds.judge import Answer

_ENDS = frozenset({"succeeded", "partial", "failed", "cancelled", "expired"})
_WAIT = {"prefer": "wait=30"}
Content = dict[str, Any]
DEFAULT, ONE = "default", "one"


class Gateway:
    """Speaks to one gateway, in an `async with`. `limit_s` is how long one job may take."""

    def __init__(self, url: str, limit_s: float = 300.0) -> None:
        self._http = httpx2.AsyncClient(base_url=url, timeout=httpx2.Timeout(limit_s), verify=False)
        self.lost_answers = 0
        self._waits = max(1, round(limit_s / 30))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(self, case: Case, body: bytes, size: str) -> Answer:
        """Submit the case's body at one shard size and wait for the end of its job."""
        headers = {"content-type": case.content_type}
        sent: Content = {"content": body, "headers": headers | _WAIT}
        if case.side is not None:
            files = [("side", ("side", case.side())), ("file", ("file", body))]
            sent = {"files": files, "headers": _WAIT}
        query = {"kind": case.kind, "on_error": case.on_error, **cut(size)}
        query |= {f"option.{name}": value for name, value in case.options.items()}
        response = await self._submitted(query, sent)
        document = _json(response)
        if response.is_error:
            return Answer(response.status_code, document)
        job = f"/v1/jobs/{document['job_id']}"
        for _ in range(self._waits):
            if document["state"] in _ENDS:
                break
            document = _json(await self._http.get(job, headers=_WAIT))
        result = await self._http.get(f"{job}/result") if document["state"] in ("succeeded", "partial") else None
        content = result.content if result is not None and result.status_code == httpx2.codes.OK else None
        return Answer(response.status_code, document, content, await self._shards(job, document))

    async def _submitted(self, query: dict[str, str], content: Content) -> httpx2.Response:
        """A refusal before the body's end may reset the connection under the answer: ask once more, and count it."""
        try:
            return await self._http.post("/v1/jobs", params=query, **content)
        except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError):
            self.lost_answers += 1
            return await self._http.post("/v1/jobs", params=query, **content)

    async def _shards(self, job: str, document: dict[str, object]) -> list[dict[str, object]]:
        shards = document.get("shards")
        tried_again = isinstance(shards, dict) and shards.get("retries")
        if not tried_again and document["state"] != "failed":
            return []
        return [*_json(await self._http.get(f"{job}/shards", params={"limit": "10000"})).get("shards", [])]


def cut(size: str) -> dict[str, str]:
    """The query parameters of a shard size: a number of bytes, `default`, or `one` for a single shard."""
    if size == DEFAULT:
        return {}
    return {"shards": "1"} if size == ONE else {"shard_size": size}


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {"title": f"HTTP {response.status_code}", "detail": response.text[:300]}
    return document if isinstance(document, dict) else {"detail": str(document)[:300]}
