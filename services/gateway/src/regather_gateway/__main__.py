"""Run the gateway: `python -m regather_gateway`, settings from the environment, until SIGTERM."""

import asyncio
import os
import sys

from regather.children.supervisor import Supervisor
from regather.processors.registry import installed
from regather.service.health import serve
from regather.service.lifecycle import first_of, on_stop
from regather.service.logs import get_logger
from regather.service.main import service_main
from regather.service.memory_tuning import tune_service
from regather.service.watchdog import Watchdog
from regather.transport.kafka import KafkaTransport
from regather_gateway.app import create_app
from regather_gateway.gateway import Gateway
from regather_gateway.settings import GatewaySettings


async def run(settings: GatewaySettings) -> int:
    """Serve until SIGTERM or SIGINT; return 1 if a side task of the gateway failed, else 0."""
    children = Supervisor(slots=settings.cut_slots)
    await children.start()
    transport = KafkaTransport(settings.kafka_bootstrap_servers, client_id="regather-gateway")
    failed, wanted, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    app = create_app(settings, transport, installed(diagnostics=settings.diagnostics), children, failed)
    tune_service()
    async with on_stop(wanted.set):
        drain = asyncio.create_task(_drain(app.state.gateway, failed, wanted, stop), name="drain")
        try:
            view = app.state.gateway.view
            with Watchdog(lambda: view.turns):
                await serve(app, settings, stop, graceful_s=1)
        finally:
            drain.cancel()
            await transport.close()
            await children.stop(0)
    return int(failed.is_set())


async def _drain(gateway: Gateway, failed: asyncio.Event, wanted: asyncio.Event, stop: asyncio.Event) -> None:
    """On a stop request refuse new work at once, let running uploads end within the limit, then stop."""
    await first_of(failed, wanted)
    settings, admission = gateway.settings, gateway.admission
    admission.draining = True
    gateway.view.end_waits()
    get_logger().info("gateway-drains", active=admission.active, limit_s=settings.drain_s)
    await first_of(failed, admission.idle, timeout_s=settings.drain_s)
    stop.set()


def main() -> int:
    """Run the service; return the exit code."""
    settings = GatewaySettings()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # else NumPy starts an unused thread per core (ADR 0027)
    return service_main("gateway", settings, run(settings))


if __name__ == "__main__":
    sys.exit(main())
