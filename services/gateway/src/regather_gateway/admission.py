"""What the gateway accepts at once: uploads and waits, and the memory of all their side files."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from regather_gateway.problems import Problem

_RETRY_AFTER_S = 2
ReserveRoom = Callable[[int], None]
"""Reserves bytes for the side file of one upload; Problem 503 if too few are free."""


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


class SideRoom:
    """Counts the bytes free for side files. A side file stays in memory, plain or packed, during its upload."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes

    @contextlib.contextmanager
    def enter(self) -> Iterator[ReserveRoom]:
        """Yield a function that reserves bytes for one upload until the block ends; Problem 503 if too few are free."""
        reserved_bytes = 0

        def reserve(size_bytes: int) -> None:
            nonlocal reserved_bytes
            if size_bytes > self._free_bytes:
                detail = "the side files of running uploads use all memory for them (REGATHER_ALL_SIDES_BYTES); retry"
                raise Problem(503, "busy", detail, retry_after_s=_RETRY_AFTER_S)
            self._free_bytes -= size_bytes
            reserved_bytes += size_bytes

        try:
            yield reserve
        finally:
            self._free_bytes += reserved_bytes
