"""The gateway's view of the workers: follows the workers topic and keeps the newest report of each worker."""

import time
from dataclasses import dataclass

from regather.core.errors import WireError
from regather.core.worker_report import FORGOTTEN_AFTER_S, STALE_AFTER_S, WorkerReport, why_nobody_works
from regather.service.logs import get_logger
from regather.service.tailer import Tailer
from regather.transport.base import Record, TopicPartition, Transport
from regather.wire.worker_reports import decode_report

log = get_logger()


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A report and how many seconds ago it was written; `live` while that is less than ten."""

    report: WorkerReport
    age_s: float

    @property
    def live(self) -> bool:
        """Whether the latest report is recent enough to expect that the worker runs."""
        return self.age_s < STALE_AFTER_S


class WorkersView:
    """Keeps the newest report of each worker.

    An age counts from the arrival of the report, by this process's clock. While the topic is still loading, it counts
    from the record's timestamp.
    """

    def __init__(self, transport: Transport, topic: str) -> None:
        self._tail = Tailer(transport, topic, skip=True)
        self._tail.follow(TopicPartition(topic, 0), self._on_record)
        self._seen: dict[str, tuple[WorkerReport, float]] = {}

    def workers(self) -> list[SeenWorker]:
        """Return every worker with a report in the last ten minutes that it has not removed, sorted by name."""
        now_s = time.monotonic()
        self._seen = {name: seen for name, seen in self._seen.items() if now_s - seen[1] < FORGOTTEN_AFTER_S}
        return [SeenWorker(report, now_s - seen_s) for _, (report, seen_s) in sorted(self._seen.items())]

    def why_nobody_works(self, kind: str) -> str | None:
        """Return why no live worker can run this kind; None if one can, or while the topic is not loaded."""
        if not self._tail.loaded.is_set():
            return None
        return why_nobody_works(kind, [seen.report for seen in self.workers() if seen.live])

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        await self._tail.run()

    def _on_record(self, record: Record) -> None:
        name = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._seen.pop(name, None)
            return
        try:
            report = decode_report(record.value)
        except WireError as error:
            log.warning("report-unreadable", offset=record.offset, error=str(error))
            return
        age_s = 0.0 if self._tail.loaded.is_set() else max(0.0, time.time() - record.timestamp_ms / 1000)
        self._seen[name] = (report, time.monotonic() - age_s)
