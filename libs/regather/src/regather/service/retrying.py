"""Tries again until an attempt succeeds, and waits between attempts.

A loop that also ends for a reason of its own (a stop, a deadline, a shard that is no longer wanted) stands where that
reason is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from regather.core.errors import TransportError
from regather.service.logs import get_logger

log = get_logger()
T = TypeVar("T")
Errors = type[Exception] | tuple[type[Exception], ...]


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    event: str,
    *,
    first_s: float,
    last_s: float | None = None,
    errors: Errors = TransportError,
    on_error: Callable[[Exception], None] | None = None,
    jitter: Callable[[], float] | None = None,
    **fields: object,
) -> T:
    """Call `attempt` until it returns, and return what it returned; any other error than `errors` ends it.

    After each failure it logs `event` with `fields`, calls `on_error`, and waits: `first_s` seconds, doubled after each
    further failure up to `last_s`, or always the same without `last_s`. `jitter` returns numbers in [0, 1) that spread the
    waits by a fifth to both sides.
    """
    pause_s = first_s
    while True:
        try:
            return await attempt()
        except errors as error:
            log.warning(event, error=repr(error), retry_s=round(pause_s, 2), **fields)
            if on_error is not None:
                on_error(error)
        await asyncio.sleep(pause_s * (0.8 + 0.4 * jitter() if jitter else 1.0))
        pause_s = min(pause_s * 2, last_s) if last_s else pause_s
