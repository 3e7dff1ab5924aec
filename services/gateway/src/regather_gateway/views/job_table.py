"""The gateway's table of jobs: the newest status of each, small results, and the order of the list of jobs."""

import bisect
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from regather.core.model import JobId
from regather.core.status import JobStatus, newer


class StatusAddress(NamedTuple):
    """Partition and offset of a status record in job-status."""

    partition: int
    offset: int


class PageKey(NamedTuple):
    """A job's position in the list of jobs: the creation time of its first status seen here, then its id."""

    created_ms: int
    job_id: str


@dataclass(slots=True)
class JobEntry:
    """One job. `address` is None until a status of the job was read from the log."""

    status: JobStatus
    key: PageKey
    address: StatusAddress | None = None


class JobTable:
    """Holds at most `max_ended` ended jobs and `max_inline_bytes` of small results, and drops the oldest first."""

    def __init__(self, *, max_ended: int, max_inline_bytes: int) -> None:
        self._max_ended = max_ended
        self._max_inline_bytes = max_inline_bytes
        self._entries: dict[JobId, JobEntry] = {}
        self._ended: OrderedDict[JobId, None] = OrderedDict()
        self._keys: list[PageKey] = []
        self._inline: OrderedDict[JobId, bytes] = OrderedDict()
        self._inline_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, job_id: JobId) -> JobEntry | None:
        """Return the job's entry; None for an unknown job."""
        return self._entries.get(job_id)

    def inline_result(self, job_id: JobId) -> bytes | None:
        """Return the job's small result; None if it has none here or it was dropped to free memory."""
        return self._inline.get(job_id)

    def put(
        self, status: JobStatus, *, address: StatusAddress | None = None, inline: bytes | None = None
    ) -> JobStatus | None:
        """Add a status; return it if it is the newest of its job, None if a newer one is already here."""
        job_id = status.owner.job_id
        entry = self._entries.get(job_id)
        if entry is None:
            key = PageKey(status.created_ms, job_id)
            self._entries[job_id] = entry = JobEntry(status, key, address)
            bisect.insort(self._keys, key)
        elif newer(entry.status, status) is status:
            entry.status, entry.address = status, address or entry.address
        else:
            return None
        self._keep_inline(job_id, inline)
        if status.state.ended:
            self._ended[job_id] = None
            self._make_room()
        else:
            self._ended.pop(job_id, None)  # a redrive opened a later version of an ended job
        return status

    def newest_first(self, before: PageKey | None) -> Iterator[JobEntry]:
        """Yield the jobs from the newest to the oldest, starting after the position `before`."""
        at = len(self._keys) if before is None else bisect.bisect_left(self._keys, before)
        while at > 0:
            at -= 1
            yield self._entries[JobId(self._keys[at].job_id)]

    def _keep_inline(self, job_id: JobId, inline: bytes | None) -> None:
        self._inline_bytes -= len(self._inline.pop(job_id, b""))
        if inline is None:
            return
        self._inline[job_id] = inline
        self._inline_bytes += len(inline)
        while self._inline_bytes > self._max_inline_bytes:
            _, oldest = self._inline.popitem(last=False)
            self._inline_bytes -= len(oldest)

    def _make_room(self) -> None:
        while len(self._ended) > self._max_ended:
            job_id, _ = self._ended.popitem(last=False)
            entry = self._entries.pop(job_id)
            del self._keys[bisect.bisect_left(self._keys, entry.key)]
            self._inline_bytes -= len(self._inline.pop(job_id, b""))
