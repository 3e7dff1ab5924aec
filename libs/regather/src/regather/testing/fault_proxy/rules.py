"""Which frames something is done to, and the count of what was done."""

import asyncio
import contextlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from regather.testing.fault_proxy.framing import API_KEYS, Request

Side = Literal["request", "reply"]
Action = Literal["hold", "drop", "reset", "garble"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault.

    `hold` lets a frame wait for `hold_s` seconds (None: until it is released), and whatever follows on its connection
    behind it; it then goes on even if its sender has hung up meanwhile, as a packet does that was late. `drop` swallows
    a frame. `reset` closes the connection: before the broker sees a request, or after it has answered. `garble` breaks
    the checksum of a record batch in a reply to Fetch; of the partitions with records, it is the last one's.

    `client_id` is a pattern for the client's name (`*` and `?`), None for every client. `count` bounds how often the
    rule fires.
    """

    api: str
    side: Side
    action: Action
    client_id: str | None = None
    hold_s: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.api not in API_KEYS:
            raise ValueError(f"no request is called {self.api!r}; known are {', '.join(API_KEYS)}")
        if self.action == "garble" and (self.api, self.side) != ("Fetch", "reply"):
            raise ValueError("only replies to Fetch carry record batches that can be garbled")
        if self.hold_s is not None and self.action != "hold":
            raise ValueError(f"hold_s says nothing about {self.action!r}")

    def concerns(self, request: Request, side: Side) -> bool:
        """Whether a frame of this request and this side is one of those meant."""
        return (
            self.side == side
            and self.api == request.api
            and (self.client_id is None or fnmatchcase(request.client_id, self.client_id))
        )


class Armed:
    """A rule at work."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.fired = 0
        """How often something was done to a frame."""
        self._released = asyncio.Event()

    @property
    def spent(self) -> bool:
        """Whether it will not fire any more."""
        return self.rule.count is not None and self.fired >= self.rule.count

    def release(self) -> None:
        """Let go what is held, and hold nothing any more."""
        self._released.set()

    def takes(self, request: Request, side: Side) -> bool:
        """Whether this frame is next."""
        return not self.spent and not self._released.is_set() and self.rule.concerns(request, side)

    async def hold(self) -> None:
        """Wait as long as the rule says."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.rule.hold_s):
                await self._released.wait()
