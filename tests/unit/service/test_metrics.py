"""Metrics: every name is described, a scrape shows what the parts have counted, a job's id is never a label."""

import asyncio
import re

import pytest
from prometheus_client import generate_latest

from regather.children.supervisor_stats import SupervisorStats
from regather.service.metrics import METRICS, Sample, by_label, no_samples, registry_of


def test_a_scrape_reads_the_counts_of_that_moment() -> None:
    stats = SupervisorStats()
    registry = registry_of(stats.samples)
    stats.kills = 3

    text = generate_latest(registry).decode()

    assert "# TYPE regather_children_killed_total counter" in text
    assert "\nregather_children_killed_total 3.0\n" in text
    assert "process_resident_memory_bytes" in text


def test_labelled_samples_share_one_family() -> None:
    registry = registry_of(lambda: by_label("regather_finals_total", {}) or ())
    assert "regather_finals" not in generate_latest(registry).decode()

    registry = registry_of(lambda: by_label("regather_dead_letters_total", {"raised": 2, "timed-out": 1}))
    text = generate_latest(registry).decode()
    assert text.count("# HELP regather_dead_letters_total") == 1
    assert 'regather_dead_letters_total{reason="timed-out"} 1.0' in text


def test_an_undescribed_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="regather_made_up"):
        generate_latest(registry_of(lambda: [Sample("regather_made_up", 1)]))


async def test_the_tasks_of_the_loop_are_counted() -> None:
    def tasks() -> float:
        found = re.search(r"^regather_tasks (\S+)$", generate_latest(registry_of(no_samples)).decode(), re.MULTILINE)
        return float(found[1]) if found else -1.0

    before = tasks()
    more = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
    assert tasks() == before + 3
    for task in more:
        task.cancel()


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_conventions(name: str) -> None:
    metric = METRICS[name]
    assert name.startswith("regather_")
    assert (metric.sort == "counter") == name.endswith("_total")
    assert metric.label in (None, "result", "reason", "why", "topic", "quantile")
