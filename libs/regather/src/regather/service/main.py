"""The frame of every service process: logs, event loop, signals, probes and the watchdog around its own work."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from regather.core.errors import UnsafeBroker
from regather.service import event_loop
from regather.service.health import Probes, probes_app, serve
from regather.service.lifecycle import WatchedTasks, on_stop
from regather.service.logs import configure_logs, get_logger
from regather.service.memory_tuning import tune_service
from regather.service.settings import ServiceSettings
from regather.service.watchdog import Watchdog


def service_main(name: str, settings: ServiceSettings, run: Coroutine[Any, Any, int]) -> int:
    """Run a service to its end; the exit code: that of `run`, or 1 where a broker must not be used (ADR 0014)."""
    configure_logs(name, settings.log_level)
    try:
        return event_loop.run(run)
    except UnsafeBroker as error:
        get_logger().error("broker-refused", error=str(error))
        return 1


async def run_beside_probes(
    settings: ServiceSettings,
    probes: Probes,
    run: Callable[[asyncio.Event], Awaitable[None]],
    turns: Callable[[], int],
) -> None:
    """Run a service without an HTTP interface of its own until SIGTERM or SIGINT, with its probes beside it.

    `run` ends soon after its event is set. `turns` counts its loop's turns: the watchdog ends a process whose loop stands
    still.
    """
    stop = asyncio.Event()
    async with on_stop(stop.set), WatchedTasks() as tasks:
        tune_service()
        tasks.start("http", serve(probes_app(probes), settings, stop))
        with Watchdog(turns):
            await run(stop)
