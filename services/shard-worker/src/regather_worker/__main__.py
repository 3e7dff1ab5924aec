"""Run the worker: `python -m regather_worker`, settings from the environment."""

import sys
from itertools import chain

from regather.children.supervisor import Supervisor
from regather.service.health import Probes
from regather.service.main import run_beside_probes, service_main
from regather.transport.kafka import KafkaTransport
from regather_worker.app import build
from regather_worker.settings import WorkerSettings


async def _run(settings: WorkerSettings) -> int:
    transport = KafkaTransport(
        settings.kafka_bootstrap_servers, client_id="regather-worker", session_timeout_ms=settings.session_timeout_ms
    )
    children = Supervisor(slots=settings.slots)
    worker = build(settings, transport, children)
    probes = Probes(
        "shard-worker", lambda: worker.not_ready_because, lambda: chain(worker.samples(), children.stats.samples())
    )
    try:
        await run_beside_probes(settings, probes, worker.run, lambda: worker.turns)
    finally:
        await transport.close()
    return 0


def main() -> int:
    """Read settings, build, run; the exit code."""
    settings = WorkerSettings()
    return service_main("shard-worker", settings, _run(settings))


if __name__ == "__main__":
    sys.exit(main())
