"""The finals of a partition that were read back: which of them a transaction waits for, and which a restart needs."""

import asyncio
from collections import deque
from collections.abc import Iterable

from regather.core.model import Identity, JobId

_REMEMBER_MS = 26 * 3600 * 1000
"""Longer than an idempotency key's life (24 h) and the longest job (1 h) together."""


class OwnFinals:
    """Mutable, without IO."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, int, JobId]] = deque()
        self._awaited: set[tuple[JobId, int]] = set()
        self._all_seen = asyncio.Event()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def first_offset(self) -> int | None:
        """Where a restart has to begin reading finals; None if it needs none."""
        return self._kept[0][0] if self._kept else None

    @property
    def awaited(self) -> bool:
        """Whether a final that was sent was not read back yet."""
        return bool(self._awaited)

    def expect(self, owners: Iterable[Identity]) -> None:
        """Wait for the finals of these jobs and versions from now on, and for no others."""
        self._awaited = {(owner.job_id, owner.version) for owner in owners}
        self._all_seen.clear()

    async def wait(self) -> None:
        """Return once every expected final was read back."""
        await self._all_seen.wait()

    def add(self, owner: Identity, offset: int, append_ms: int) -> None:
        """Note a final that was read back."""
        self._kept.append((offset, append_ms, owner.job_id))
        self._awaited.discard((owner.job_id, owner.version))
        if not self._awaited:
            self._all_seen.set()

    def forget_old(self, now_ms: int) -> list[JobId]:
        """Drop the finals that nobody can ask for any more; return their jobs."""
        forgotten: list[JobId] = []
        while self._kept and self._kept[0][1] < now_ms - _REMEMBER_MS:
            forgotten.append(self._kept.popleft()[2])
        return forgotten
