"""Preference and condition headers: Prefer (RFC 7240), If-None-Match (RFC 9110), Idempotency-Key, Retry-After."""

import re

from starlette.requests import Request

from regather.core.status import JobStatus
from regather_gateway.problems import Problem

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)
_ASYNC = re.compile(r"(?:^|[,;])\s*respond-async\s*(?=$|[,;])", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_MAX_RETRY_S = 30


def wished_wait_s(request: Request, cap_s: float) -> float | None:
    """Return the seconds of `Prefer: wait=N`, at most `cap_s`; None without this preference."""
    header = ",".join(request.headers.getlist("prefer"))
    found = _WAIT.search(header)
    return min(float(found[1]), cap_s) if found else None


def applied(request: Request, waited_s: float | None) -> dict[str, str]:
    """Return the header that says which preference was applied."""
    if waited_s is not None:
        return {"Preference-Applied": f"wait={waited_s:g}"}
    if _ASYNC.search(",".join(request.headers.getlist("prefer"))):
        return {"Preference-Applied": "respond-async"}
    return {}


def idempotency_key(request: Request) -> str | None:
    """Return the key without the quotes of the draft standard; Problem 400 if it is not 1 to 255 visible characters."""
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header.strip().removeprefix('"').removesuffix('"')
    if not _KEY.fullmatch(key):
        raise Problem(400, "idempotency-key-invalid", "Idempotency-Key must have 1 to 255 visible ASCII characters")
    return key


def entity_tag(status: JobStatus) -> str:
    """Return the ETag of a job's document, which changes with its version, state and counters."""
    counters = (status.total, status.done, status.failed, status.retries, status.frontier)
    return f'"{status.owner.version}.{status.state.rank}.' + ".".join(map(str, counters)) + '"'


def matches(request: Request, tag: str) -> bool:
    """Whether If-None-Match names this tag."""
    header = request.headers.get("if-none-match")
    if header is None:
        return False
    tags = [entry.strip().removeprefix("W/") for entry in header.split(",")]
    return tag in tags or "*" in tags


def retry_after_s(status: JobStatus) -> int:
    """Return when to ask again: the estimated rest of the running time at the rate so far, 1 to 30 seconds."""
    settled = status.done + status.failed
    if not status.total or not settled:
        return 1
    elapsed_s = max(0, status.updated_ms - status.created_ms) / 1000
    return max(1, min(_MAX_RETRY_S, round(elapsed_s * (status.total - settled) / settled)))
