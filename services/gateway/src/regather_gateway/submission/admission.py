"""How much the gateway takes on at once."""

import asyncio
import contextlib
from collections.abc import Iterator

from regather_gateway.problems import Problem

_RETRY_AFTER_S = 2


class Admission:
    """Counts uploads and waits; refuses what is above the limit, and everything once the gateway drains."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.active = 0
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def full(self) -> bool:
        """True while nothing more is taken on."""
        return self.draining or self.active >= self._limit

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Take one place for the block, or raise the 503."""
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
            detail = "this gateway is shutting down; repeat the request, another one will answer"
        else:
            detail = f"{self._limit} uploads and waits are under way, which is the limit; repeat the request"
        return Problem(503, "busy", detail, retry_after_s=_RETRY_AFTER_S)
