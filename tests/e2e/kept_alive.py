"""What a supervisor does: whoever is gone is started again."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

from regather.testing.waiting import eventually
from regather_cli.stack import Role, Stack


@contextlib.asynccontextmanager
async def kept_alive(stack: Stack, role: Role) -> AsyncIterator[list[str]]:
    """Start every service of a role again that is gone, as compose's restart policy does; the names of those that were."""
    restarted: list[str] = []

    async def watch() -> None:
        while True:
            gone = await eventually(
                lambda: [service for service in stack.of(role) if not service.running],
                timeout_s=math.inf,  # as long as the block lasts
                interval_s=0.05,
                what=f"the end of a service: {role}",
            )
            for service in gone:
                restarted.append(service.name)
                service.start()

    keeper = asyncio.create_task(watch())
    try:
        yield restarted
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
