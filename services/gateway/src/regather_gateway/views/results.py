"""Reads the bytes of a result: from the status record, or by offset from the results or segments topic."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from regather.core.errors import BrokerUnavailable, NotReadableYet, OffsetOutOfRange
from regather.core.model import Identity
from regather.core.status import JobStatus, ResultAddress
from regather.topics.layout import Topics
from regather.transport.base import Record, TopicPartition
from regather.transport.log_reader import LogReader
from regather.wire.documents import decode_status
from regather.wire.identity import HEADER, header_map, pack_identity
from regather_gateway.problems import Problem
from regather_gateway.views.status_view import JobTable

_TOO_EARLY_S = 1
_LOOK_AGAIN_S = 0.05
"""A status may be readable before its result: another broker ends the transaction in each partition, at its own time."""


@dataclass(frozen=True, slots=True)
class OpenResult:
    """A result that can be read: `content` has all bytes, or is None if only `parts` yields them, piece by piece."""

    digest: bytes
    size_bytes: int
    media_type: str
    content: bytes | None
    parts: AsyncIterator[bytes]


class Results:
    """Reads results of ended jobs."""

    def __init__(self, reader: LogReader, table: JobTable, topics: Topics, *, readable_within_s: float) -> None:
        self._reader = reader
        self._table = table
        self._topics = topics
        self._readable_within_s = readable_within_s

    async def open(self, status: JobStatus) -> OpenResult:
        """Find a job's result.

        Raises Problem 409 while the job runs, and 410 if it has no result or retention deleted it. Waits a little for a
        result that cannot be read yet, then raises NotReadableYet.
        """
        address = _address(status)
        try:
            if address.segments:
                digest = bytes.fromhex(address.digest.removeprefix("sha256:"))
                parts = await _begun(self._segments(status, address))
                return OpenResult(digest, address.size_bytes, address.media_type, None, parts)
            content = await self._whole(status, address)
        except OffsetOutOfRange:
            raise Problem(
                410, "result-gone", "the result is older than its retention", job_id=status.owner.job_id
            ) from None
        digest = hashlib.sha256(content).digest()
        return OpenResult(digest, len(content), address.media_type, content, _parts(content))

    async def read(self, status: JobStatus) -> bytes:
        """Return the whole result; raises the errors of open()."""
        return b"".join([part async for part in (await self.open(status)).parts])

    async def _whole(self, status: JobStatus, address: ResultAddress) -> bytes:
        if address.offset is None:
            return await self._inline(status)
        tp = TopicPartition(self._topics.results, address.partition)
        return self._own(await self._record(tp, address.offset), status.owner).value or b""

    async def _segments(self, status: JobStatus, address: ResultAddress) -> AsyncIterator[bytes]:
        tp = TopicPartition(self._topics.segments, address.partition)
        for offset, _ in address.segments:
            yield self._own(await self._record(tp, offset), status.owner).value or b""

    async def _inline(self, status: JobStatus) -> bytes:
        result = self._table.inline_result(status.owner.job_id)
        if result is not None:
            return result
        entry = self._table.get(status.owner.job_id)
        if entry is None or entry.address is None:
            raise BrokerUnavailable(f"the status of job {status.owner.job_id} has not been read from the log yet")
        tp = TopicPartition(self._topics.job_status, entry.address.partition)
        record = self._own(await self._record(tp, entry.address.offset), status.owner)
        return decode_status(record.headers, record.value)[1] or b""

    async def _record(self, tp: TopicPartition, offset: int) -> Record:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._readable_within_s
        while True:
            try:
                return await self._reader.read(tp, offset)
            except NotReadableYet:
                if loop.time() >= until_s:
                    raise
            await asyncio.sleep(_LOOK_AGAIN_S)

    @staticmethod
    def _own(record: Record, owner: Identity) -> Record:
        if header_map(record.headers).get(HEADER) != pack_identity(owner):
            raise OffsetOutOfRange(f"{record.topic}-{record.partition} has another job's record at {record.offset}")
        return record


def _address(status: JobStatus) -> ResultAddress:
    job_id = status.owner.job_id
    if not status.state.ended:
        detail = f"the job is {status.state}; ask again, or with `Prefer: wait=30`"
        raise Problem(409, "not-ready", detail, retry_after_s=_TOO_EARLY_S, job_id=job_id, state=status.state)
    if status.result is None:
        detail = f"the job {status.state} and has no result: {status.error or status.reason or 'no reason given'}"
        raise Problem(410, "no-result", detail, job_id=job_id, state=status.state, reason=status.reason)
    return status.result


async def _parts(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _begun(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Read the first part, then return all parts: a missing record must raise before the answer begins."""
    first = await anext(parts)

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return all_parts()
