"""Run the aggregator: `python -m regather_aggregator`, settings from the environment."""

import asyncio
import sys
from itertools import chain

from regather.core.errors import UnsafeBroker
from regather.processors.registry import all_kinds
from regather.runtime import event_loop
from regather.runtime.health import Probes, probes_app, serve
from regather.runtime.lifecycle import WatchedTasks, on_stop
from regather.runtime.logs import configure_logs, get_logger
from regather.runtime.memory_tuning import tune_service
from regather.runtime.supervisor import Supervisor
from regather.runtime.watchdog import Watchdog
from regather.transport.kafka import KafkaTransport
from regather_aggregator.app import build
from regather_aggregator.settings import AggregatorSettings


async def _run(settings: AggregatorSettings) -> None:
    transport = KafkaTransport(
        settings.kafka_bootstrap_servers,
        client_id="regather-aggregator",
        session_timeout_ms=settings.session_timeout_ms,
    )
    children = Supervisor(slots=settings.merge_slots)
    aggregator = build(settings, transport, children, all_kinds())
    stop = asyncio.Event()
    probes = Probes(
        "aggregator",
        lambda: aggregator.not_ready_because,
        lambda: chain(aggregator.samples(), children.stats.samples()),
    )
    try:
        async with on_stop(stop.set), WatchedTasks() as tasks:
            tune_service()
            tasks.start("http", serve(probes_app(probes), settings, stop))
            with Watchdog(lambda: aggregator.events.turns):
                await aggregator.run(stop)
    finally:
        await transport.close()


def main() -> int:
    """Read settings, build, run; return the exit code: 1 if the broker's settings are unsafe, else 0."""
    settings = AggregatorSettings()
    configure_logs("aggregator", settings.log_level)
    try:
        event_loop.run(_run(settings))
    except UnsafeBroker as error:
        get_logger().error("broker-refused", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
