"""Run the aggregator: `python -m regather_aggregator`, settings from the environment."""

import sys
from itertools import chain

from regather.children.supervisor import Supervisor
from regather.processors.registry import all_kinds
from regather.service.health import Probes
from regather.service.main import run_beside_probes, service_main
from regather.transport.kafka import KafkaTransport
from regather_aggregator.app import build
from regather_aggregator.settings import AggregatorSettings


async def _run(settings: AggregatorSettings) -> int:
    transport = KafkaTransport(
        settings.kafka_bootstrap_servers,
        client_id="regather-aggregator",
        session_timeout_ms=settings.session_timeout_ms,
    )
    children = Supervisor(slots=settings.merge_slots)
    aggregator = build(settings, transport, children, all_kinds())
    probes = Probes(
        "aggregator",
        lambda: aggregator.not_ready_because,
        lambda: chain(aggregator.samples(), children.stats.samples()),
    )
    try:
        await run_beside_probes(settings, probes, aggregator.run, lambda: aggregator.events.turns)
    finally:
        await transport.close()
    return 0


def main() -> int:
    """Read settings, build, run; return the exit code: 1 if the broker's settings are unsafe, else 0."""
    settings = AggregatorSettings()
    return service_main("aggregator", settings, _run(settings))


if __name__ == "__main__":
    sys.exit(main())
