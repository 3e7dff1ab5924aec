"""Publishes a report of this worker to the `workers` topic every two seconds, and a tombstone when it stops."""

import asyncio
from collections.abc import Callable

from regather import __version__
from regather.core.errors import TransportError
from regather.core.worker_report import WorkerReport
from regather.service.environment import Environment
from regather.service.logs import get_logger
from regather.service.retrying import retrying
from regather.topics.layout import CONTROL_RECORD_BYTES, Topics
from regather.transport.base import Producer, Transport
from regather.wire.worker_reports import encode_report

log = get_logger()
EVERY_S = 2.0
_REMOVAL_S = 2.0


def make_report(
    environment: Environment, kinds: tuple[str, ...], *, slots: int, busy: int, queued: int, partitions: int, lag_s: float
) -> WorkerReport:  # fmt: skip
    """Return a report, with the machine's name, memory and load added."""
    return WorkerReport(
        worker=environment.process,
        host=environment.hostname,
        version=__version__,
        kinds=kinds,
        slots=slots,
        busy=busy,
        queued=queued,
        partitions=partitions,
        rss_bytes=environment.rss_bytes(),
        load=environment.load(),
        lag_s=round(lag_s, 3),
    )


class Reporter:
    """Sends reports. While no broker answers they are skipped, not queued."""

    def __init__(self, transport: Transport, topics: Topics, worker: str, report: Callable[[], WorkerReport]) -> None:
        self._transport = transport
        self._topic = topics.workers
        self._worker = worker
        self._report = report

    async def run(self) -> None:
        """Report until cancelled, then remove the report with a tombstone, within two seconds or not at all."""
        await retrying(self._report_with_new_producer, "report-failed", first_s=EVERY_S)

    async def _report_with_new_producer(self) -> None:
        producer = self._transport.producer(max_record_bytes=CONTROL_RECORD_BYTES)
        try:
            await producer.start()
            await self._report_forever(producer)
        finally:
            await producer.stop()

    async def _report_forever(self, producer: Producer) -> None:
        try:
            while True:
                await self._send(producer, encode_report(self._report()))
                await asyncio.sleep(EVERY_S)
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(_REMOVAL_S):
                    await self._send(producer, None)
            except (TransportError, TimeoutError) as error:
                log.warning("report-not-removed", error=repr(error))
            raise

    async def _send(self, producer: Producer, value: bytes | None) -> None:
        await (await producer.send(self._topic, value=value, key=self._worker.encode(), partition=0))
