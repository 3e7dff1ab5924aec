"""Waits for a condition with a deadline, so that no test relies on a fixed sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
_POLL_S = 0.01


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]],
    *,
    timeout_s: float = 10.0,
    what: str = "the condition",
    interval_s: float = _POLL_S,
) -> T: ...
@overload
async def eventually(
    condition: Callable[[], T | None],
    *,
    timeout_s: float = 10.0,
    what: str = "the condition",
    interval_s: float = _POLL_S,
) -> T: ...
async def eventually(
    condition: Callable[[], Any], *, timeout_s: float = 10.0, what: str = "the condition", interval_s: float = _POLL_S
) -> Any:
    """Call `condition` until it is truthy and return its value; AssertionError naming `what` after `timeout_s`.

    An AssertionError raised by the condition counts as "not yet" and is chained to the final error. `interval_s` is the
    time between two calls; make it longer for an expensive condition.
    """
    end = time.monotonic() + timeout_s
    last: AssertionError | None = None
    while True:
        try:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
        except AssertionError as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout_s} s") from last
        await asyncio.sleep(interval_s)
