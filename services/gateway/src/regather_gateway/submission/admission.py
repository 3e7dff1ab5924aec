"""The limit of uploads and waits that the gateway accepts at once."""

import asyncio
import contextlib
from collections.abc import Iterator

from regather_gateway.problems import Problem

_RETRY_AFTER_S = 2


class Admission:
    """Counts uploads and waits. Refuses those above the limit, and all of them once the gateway drains."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.active = 0
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def full(self) -> bool:
        """True while no further request is accepted."""
        return self.draining or self.active >= self._limit

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Count one request for the duration of the block; Problem 503 while full."""
        if self.full:
            raise self._refusal()
        self.active += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.active -= 1
            if not self.active:
                self.idle.set()

    def _refusal(self) -> Problem:
        if self.draining:
            detail = "this gateway is shutting down; repeat the request to reach another one"
        else:
            detail = f"this gateway has reached its limit of {self._limit} uploads and waits; repeat the request later"
        return Problem(503, "busy", detail, retry_after_s=_RETRY_AFTER_S)
