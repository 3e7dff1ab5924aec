"""Getting the bytes of a result: from the status record, or by offset from the results topic."""

from regather.core.errors import BrokerUnavailable, OffsetOutOfRange
from regather.core.model import Identity
from regather.core.status import JobStatus
from regather.core.wire.documents import decode_status
from regather.core.wire.identity import HEADER, header_map, pack_identity
from regather.transport.base import Record, TopicPartition
from regather.transport.topics import Topics
from regather_gateway.job_table import JobTable
from regather_gateway.log_reader import LogReader
from regather_gateway.problems import Problem

_TOO_EARLY_S = 1


class Results:
    """Reads results of ended jobs."""

    def __init__(self, reader: LogReader, table: JobTable, topics: Topics) -> None:
        self._reader = reader
        self._table = table
        self._topics = topics

    async def read(self, status: JobStatus) -> bytes:
        """Return the whole result.

        Raises Problem: 409 while the job runs, 410 where there is no result or none any more.
        """
        job_id = status.owner.job_id
        if not status.state.ended:
            detail = f"the job is {status.state}; ask again, or with `Prefer: wait=30`"
            raise Problem(409, "not-ready", detail, retry_after_s=_TOO_EARLY_S, job_id=job_id, state=status.state)
        address = status.result
        if address is None:
            detail = f"the job {status.state} and has no result: {status.error or status.reason or 'no reason given'}"
            raise Problem(410, "no-result", detail, job_id=job_id, state=status.state, reason=status.reason)
        try:
            if address.offset is None:
                return await self._inline(status)
            tp = TopicPartition(self._topics.results, address.partition)
            return self._own(await self._reader.read(tp, address.offset), status.owner).value or b""
        except OffsetOutOfRange:
            raise Problem(410, "result-gone", "the result is older than its retention", job_id=job_id) from None

    async def _inline(self, status: JobStatus) -> bytes:
        result = self._table.inline_result(status.owner.job_id)
        if result is not None:
            return result
        entry = self._table.get(status.owner.job_id)
        if entry is None or entry.address is None:
            raise BrokerUnavailable(f"the status of job {status.owner.job_id} was not read from the log yet")
        tp = TopicPartition(self._topics.job_status, entry.address.partition)
        record = self._own(await self._reader.read(tp, entry.address.offset), status.owner)
        return decode_status(record.headers, record.value)[1] or b""

    @staticmethod
    def _own(record: Record, owner: Identity) -> Record:
        if header_map(record.headers).get(HEADER) != pack_identity(owner):
            raise OffsetOutOfRange(f"{record.topic}-{record.partition} holds another job's record at {record.offset}")
        return record
