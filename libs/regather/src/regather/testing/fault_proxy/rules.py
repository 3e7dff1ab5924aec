"""Rules: which frames the proxy interferes with, how, and how often it did."""

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

    `hold` delays a frame, and all that follow it on its connection, by `hold_s` seconds (None: until it is released).
    The proxy then forwards it even if its sender has disconnected meanwhile, like a late packet. `drop` discards a
    frame. `reset` closes the connection: before the broker sees the request, or after it has answered. `garble` breaks
    the checksum of a record batch in a reply to Fetch, in the last partition that has records.

    `client_id` is a pattern for the client's name (`*` and `?`), None for every client. `count` limits how often the
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
            raise ValueError(f"{self.api!r} is not a known request; use one of {', '.join(API_KEYS)}")
        if self.action == "garble" and (self.api, self.side) != ("Fetch", "reply"):
            raise ValueError("garble applies only to replies to Fetch, which carry record batches")
        if self.hold_s is not None and self.action != "hold":
            raise ValueError(f"hold_s applies only to hold, not to {self.action!r}")

    def concerns(self, request: Request, side: Side) -> bool:
        """Whether the rule matches a frame of this request and side."""
        return (
            self.side == side
            and self.api == request.api
            and (self.client_id is None or fnmatchcase(request.client_id, self.client_id))
        )


class Armed:
    """A rule that a proxy applies, with its count."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.fired = 0
        """How often the rule has changed, held or dropped a frame, or closed a connection."""
        self._released = asyncio.Event()

    @property
    def spent(self) -> bool:
        """Whether the rule has fired `count` times."""
        return self.rule.count is not None and self.fired >= self.rule.count

    def release(self) -> None:
        """Release the frames held, and do not fire any more."""
        self._released.set()

    def takes(self, request: Request, side: Side) -> bool:
        """Whether the rule applies to this frame now."""
        return not self.spent and not self._released.is_set() and self.rule.concerns(request, side)

    async def hold(self) -> None:
        """Wait as long as the rule says."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.rule.hold_s):
                await self._released.wait()
