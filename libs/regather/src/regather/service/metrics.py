"""All metrics of Regather by name. The services count in plain numbers; a request of `/metrics` reads them.

A job's id is never a label, because every job would leave a time series behind.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.registry import Collector, CollectorRegistry


@dataclass(frozen=True, slots=True)
class Metric:
    """The definition of one metric; `label` is the only label of its samples, if any."""

    sort: Literal["counter", "gauge"]
    help: str
    label: str | None = None


METRICS: Mapping[str, Metric] = {
    # every service
    "regather_tasks": Metric("gauge", "Tasks of the event loop that have not ended"),
    # gateway
    "regather_submissions_total": Metric("counter", "Submissions by result", "result"),
    "regather_submitted_shards_total": Metric("counter", "Shards of sealed submissions"),
    "regather_submitted_bytes_total": Metric("counter", "Input bytes of sealed submissions"),
    "regather_redriven_shards_total": Metric("counter", "Shards of jobs that have ended, sent again by a redrive"),
    "regather_requests_active": Metric("gauge", "Uploads and waits in progress"),
    "regather_workers_live": Metric("gauge", "Workers that reported in the last ten seconds"),
    "regather_jobs_remembered": Metric("gauge", "Jobs whose status this gateway holds"),
    "regather_statuses_unreadable_total": Metric("counter", "Records of job-status that could not be decoded"),
    # shard worker
    "regather_slots": Metric("gauge", "Shards, or micro-batches of tiny ones, that can run at once"),
    "regather_slots_busy": Metric("gauge", "Slots in use"),
    "regather_shards_queued": Metric("gauge", "Shards that wait for a slot"),
    "regather_shards_delayed": Metric("gauge", "Retries whose delay has not passed"),
    "regather_shards_settled_total": Metric("counter", "Executed shards by result", "result"),
    "regather_shards_dropped_total": Metric("counter", "Shards not run to their end because their job was over"),
    "regather_attempts_failed_total": Metric("counter", "Failed executions by reason", "reason"),
    "regather_shard_seconds_total": Metric("counter", "Seconds that shards ran in children"),
    "regather_dead_letters_total": Metric("counter", "Dead letters written, by reason", "reason"),
    "regather_records_open": Metric("gauge", "Records read and not settled"),
    "regather_partitions": Metric("gauge", "Partitions that this process owns"),
    "regather_partitions_stopped": Metric(
        "gauge", "Partitions that wait for an upgrade: a record is of a later release"
    ),
    "regather_records_lost_total": Metric("counter", "Records that retention deleted before they were read", "topic"),
    # children of workers and aggregators
    "regather_children_killed_total": Metric("counter", "Children killed on purpose"),
    "regather_children_overdue_total": Metric("counter", "Children killed at a deadline"),
    "regather_children_died_total": Metric("counter", "Children that died by themselves"),
    "regather_children_lost_total": Metric("counter", "Times that all children were lost at once"),
    "regather_child_overrun_seconds": Metric(
        "gauge", "From a deadline to the confirmed death, of the last 1,000", "quantile"
    ),
    "regather_child_refill_seconds": Metric(
        "gauge", "From a child's end to its successor, of the last 1,000", "quantile"
    ),
    # aggregator
    "regather_jobs_open": Metric("gauge", "Jobs whose final was not read back yet"),
    "regather_events_dropped_total": Metric("counter", "Job events dropped, by reason", "why"),
    "regather_finals_total": Metric("counter", "Finals read back from results since the partitions were assigned"),
    "regather_transactions_total": Metric("counter", "Transactions committed"),
    "regather_ownership_restarts_total": Metric("counter", "Times that an owner fenced and restored again"),
    "regather_checkpoints_total": Metric("counter", "Checkpoints of long jobs written and read back"),
    "regather_broker_time_jumps_total": Metric("counter", "Times that a broker's clock jumped ahead by over a minute"),
    "regather_outputs_memory_bytes": Metric("gauge", "Outputs of open jobs in memory"),
    "regather_outputs_spilled_bytes": Metric("gauge", "Outputs of open jobs in spill files"),
    "regather_jobs_near_retention": Metric("gauge", "Open jobs whose first event retention deletes soon"),
}


class Sample(NamedTuple):
    """One number of one metric; `label` is the value of the metric's label."""

    name: str
    value: float
    label: str | None = None


ReadSamples = Callable[[], Iterable[Sample]]


def no_samples() -> Iterable[Sample]:
    """Return no samples, for a service without metrics of its own."""
    return ()


def by_label(name: str, counts: Mapping[str, float]) -> Iterator[Sample]:
    """Yield one sample for each value of the label."""
    for label, value in counts.items():
        yield Sample(name, value, label)


def registry_of(read: ReadSamples) -> CollectorRegistry:
    """Return a registry with a service's own samples and those of its process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_OnDemand(lambda: chain(_tasks(), read())))
    return registry


def _tasks() -> Iterator[Sample]:
    try:
        yield Sample("regather_tasks", len(asyncio.all_tasks()))
    except RuntimeError:
        return  # called outside of an event loop


class _OnDemand(Collector):
    def __init__(self, read: ReadSamples) -> None:
        self._read = read

    def collect(self) -> Iterator[MetricFamily]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in self._read():
            if sample.name not in families:
                families[sample.name] = _family(sample.name)
            families[sample.name].add_metric([] if sample.label is None else [sample.label], sample.value)
        yield from families.values()


def _family(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    metric = METRICS[name]
    labels = [metric.label] if metric.label else []
    if metric.sort == "counter":
        return CounterMetricFamily(name.removesuffix("_total"), metric.help, labels=labels)
    return GaugeMetricFamily(name, metric.help, labels=labels)
