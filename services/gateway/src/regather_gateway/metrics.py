"""The gateway's metrics."""

from collections.abc import Iterator

from regather.service.metrics import Sample, by_label
from regather_gateway.gateway import Gateway


def samples(gateway: Gateway) -> Iterator[Sample]:
    """Return the gateway's current metrics."""
    counts = gateway.submitter.counts
    yield from by_label("regather_submissions_total", counts.ended)
    yield Sample("regather_submitted_shards_total", counts.shards)
    yield Sample("regather_submitted_bytes_total", counts.size_bytes)
    yield Sample("regather_redriven_shards_total", gateway.redriver.redriven)
    yield Sample("regather_requests_active", gateway.admission.active)
    yield Sample("regather_workers_live", sum(worker.live for worker in gateway.workers.workers()))
    yield Sample("regather_jobs_remembered", len(gateway.view.table))
    yield Sample("regather_statuses_unreadable_total", gateway.view.unreadable)
