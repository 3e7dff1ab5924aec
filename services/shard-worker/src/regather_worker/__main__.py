"""Run the worker: `python -m regather_worker`, settings from the environment."""

import asyncio
from itertools import chain

from regather.children.supervisor import Supervisor
from regather.service import event_loop
from regather.service.health import Probes, probes_app, serve
from regather.service.lifecycle import WatchedTasks, on_stop
from regather.service.logs import configure_logs
from regather.service.memory_tuning import tune_service
from regather.service.watchdog import Watchdog
from regather.transport.kafka import KafkaTransport
from regather_worker.app import build
from regather_worker.settings import WorkerSettings


async def _run(settings: WorkerSettings) -> None:
    transport = KafkaTransport(
        settings.kafka_bootstrap_servers, client_id="regather-worker", session_timeout_ms=settings.session_timeout_ms
    )
    children = Supervisor(slots=settings.slots)
    worker = build(settings, transport, children)
    stop = asyncio.Event()
    probes = Probes(
        "shard-worker", lambda: worker.not_ready_because, lambda: chain(worker.samples(), children.stats.samples())
    )
    try:
        async with on_stop(stop.set), WatchedTasks() as tasks:
            tune_service()
            tasks.start("http", serve(probes_app(probes), settings, stop))
            with Watchdog(lambda: worker.turns):
                await worker.run(stop)
    finally:
        await transport.close()


def main() -> None:
    """Read settings, build, run."""
    settings = WorkerSettings()
    configure_logs("shard-worker", settings.log_level)
    event_loop.run(_run(settings))


if __name__ == "__main__":
    main()
