"""The finals of a partition: those that a transaction waits to read back, and those that a restart needs."""

import asyncio
from collections import deque
from collections.abc import Iterable

from regather.core.model import Identity, JobId

_REMEMBER_MS = 26 * 3600 * 1000
"""More than the lifetime of an idempotency key (24 h) plus the longest job (1 h)."""

Version = tuple[JobId, int]


class OwnFinals:
    """The finals of one partition that were read back. Mutable, without IO."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, int, Version]] = deque()
        self._awaited: set[Version] = set()
        self._all_seen = asyncio.Event()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def first_offset(self) -> int | None:
        """Offset from which a restart must read finals; None if it needs none."""
        return self._kept[0][0] if self._kept else None

    @property
    def awaited(self) -> bool:
        """Whether an expected final has not been read back yet."""
        return bool(self._awaited)

    def expect(self, owners: Iterable[Identity]) -> None:
        """Expect the finals of these jobs and versions from now on, and no others."""
        self._awaited = {(owner.job_id, owner.version) for owner in owners}
        self._all_seen.clear()

    async def wait(self) -> None:
        """Return once every expected final has been read back."""
        await self._all_seen.wait()

    def add(self, owner: Identity, offset: int, append_ms: int) -> None:
        """Note a final that was read back."""
        self._kept.append((offset, append_ms, (owner.job_id, owner.version)))
        self._awaited.discard((owner.job_id, owner.version))
        if not self._awaited:
            self._all_seen.set()

    def forget_old(self, now_ms: int) -> list[Version]:
        """Drop the finals that were appended more than 26 h before `now_ms`; return their jobs and versions."""
        forgotten: list[Version] = []
        while self._kept and self._kept[0][1] < now_ms - _REMEMBER_MS:
            forgotten.append(self._kept.popleft()[2])
        return forgotten
