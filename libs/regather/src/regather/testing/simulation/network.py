"""The network between clients and broker: every request and every reply takes time, and some get lost.

The broker acts independently of the client: a request that has left a process arrives even if that process is frozen or
dead by then, or if the client has given up.
"""

import random
from collections.abc import Callable, Hashable
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from regather.core.errors import BrokerUnavailable
from regather.testing.simulation.event_loop import Process, VirtualLoop
from regather.testing.simulation.history import History

CALL_LIMIT_S = 15.0
"""Time after which a client gives up on a call, as in the adapter of the real client."""

Answer = Callable[[object], None]
"""Called with the broker's answer: a value, or an exception for the caller."""

Action = Callable[[Answer], None]
"""The broker's handler of a request."""


class Fate(StrEnum):
    """What may happen to one call."""

    SLOW = "slow"
    REQUEST_LOST = "request-lost"
    REPLY_LOST = "reply-lost"
    REQUEST_LATE = "request-late"
    """The request arrives after the caller has given up."""


@dataclass(slots=True)
class FaultProfile:
    """The fault profile: the probability of each fault, for each call, poll, fetch, record or transaction."""

    slow: float = 0.0
    request_lost: float = 0.0
    reply_lost: float = 0.0
    request_late: float = 0.0
    record_refused: float = 0.0
    """A record is not written, nor is any later one of that producer on that partition."""
    commit_ignored: float = 0.0
    """The broker answers the commit of a transaction, but leaves it open or aborts it."""
    markers_slow: float = 0.0
    poll_raises: float = 0.0
    fetch_stalls: float = 0.0

    def calm(self) -> None:
        """Set every probability to 0."""
        for name in self.__slots__:
            setattr(self, name, 0.0)


class Network:
    """The network between all clients and the one broker."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, history: History, profile: FaultProfile) -> None:
        self.loop = loop
        self.chance = chance
        self.random = chance.random
        self.history = history
        self.profile = profile
        self.broker = loop.process("broker")
        self._down_until_s = 0.0
        self.late: dict[float, None] = {}
        """Arrival times of requests that arrive after their callers have given up."""

    @property
    def late_requests(self) -> int:
        """Number of requests still in transit whose callers do not wait for them."""
        return sum(arrival_s > self.loop.time() for arrival_s in self.late)

    def outage(self, duration_s: float) -> None:
        """Let no request arrive for `duration_s` seconds."""
        self._down_until_s = self.loop.time() + duration_s

    def latency_s(self) -> float:
        """Draw the latency of one way without a fault."""
        return 0.0002 + 0.002 * self.random()

    def at_broker(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        """Call a function in the broker's process after `delay_s`."""
        self.loop.call_later(delay_s, callback, *args, context=self.broker.context)

    def fate(self) -> Fate | None:
        """Draw the fault of one call; None for no fault."""
        profile = self.profile
        left = self.random()
        for share, fate in (
            (profile.slow, Fate.SLOW),
            (profile.request_lost, Fate.REQUEST_LOST),
            (profile.reply_lost, Fate.REPLY_LOST),
            (profile.request_late, Fate.REQUEST_LATE),
        ):
            left -= share
            if left < 0:
                return fate
        return None

    def arrival_s(self, fate: Fate | None) -> float:
        """Return the arrival time of a request that is sent now."""
        now_s = self.loop.time()
        arrival_s = now_s + self.latency_s()
        if fate is Fate.SLOW:
            arrival_s += self.random() * 3
        elif fate is Fate.REQUEST_LATE:
            arrival_s += CALL_LIMIT_S + self.random() * 15
        if arrival_s < self._down_until_s:
            arrival_s = self._down_until_s + self.latency_s()
        return arrival_s


class Wire:
    """One client's connection to the broker. Requests of one lane arrive in the order sent (None: in any order)."""

    def __init__(self, network: Network, process: Process, name: str) -> None:
        self.network = network
        self.process = process
        self.name = name
        self.severed = False
        self._lanes: dict[Hashable, float] = {}

    def call(self, kind: str, action: Action, *, lane: Hashable = None, waits: bool = False) -> Any:
        """Send a request to the broker; return the future of its answer.

        With `waits` the broker may delay its answer, so the call gets a timer for its time limit.
        """
        network, loop = self.network, self.network.loop
        future = loop.create_future()
        if self.severed:
            resolve(future, BrokerUnavailable("this client was cut off"))
            return future
        fate = network.fate()
        arrival_s = network.arrival_s(fate)
        if lane is not None:
            arrival_s = max(arrival_s, self._lanes.get(lane, 0.0))
        limit_s = loop.time() + CALL_LIMIT_S
        if fate is not None:
            network.history.fault(self.process.name, fate.value, kind, self.name)
        if fate is Fate.REQUEST_LOST:
            self._give_up_at(future, self._when_lost_s(limit_s))
            return future
        if lane is not None and arrival_s < limit_s:  # past the limit, a new connection overtakes this request
            self._lanes[lane] = arrival_s
        reply_s = network.latency_s() + (network.random() * 3 if fate is Fate.SLOW else 0.0)
        call = _Call(self, future, reply_s, limit_s, lost=fate is Fate.REPLY_LOST)
        if fate is Fate.REPLY_LOST:
            self._give_up_at(future, max(arrival_s, self._when_lost_s(limit_s)))
        elif waits or arrival_s + reply_s >= limit_s:
            self._give_up_at(future, limit_s)
        if arrival_s >= limit_s:
            network.late[arrival_s] = None
        loop.call_at(arrival_s, action, call.answer, context=network.broker.context)
        return future

    def _when_lost_s(self, limit_s: float) -> float:
        """Draw when the client notices the loss: soon if the connection breaks, at the limit if it stays silent."""
        now_s = self.network.loop.time()
        return limit_s if self.network.random() < 0.3 else now_s + 0.05 + self.network.random()

    def _give_up_at(self, future: Any, when_s: float) -> None:
        error = BrokerUnavailable("no answer in time, or the connection broke (simulated)")
        self.network.loop.call_at(when_s, resolve, future, error, context=self.process.context)


class _Call:
    """One request that awaits its answer."""

    __slots__ = ("_context", "_future", "_limit_s", "_loop", "_lost", "_reply_s")

    def __init__(self, wire: Wire, future: Any, reply_s: float, limit_s: float, *, lost: bool) -> None:
        self._loop = wire.network.loop
        self._context: Context = wire.process.context
        self._future = future
        self._reply_s = reply_s
        self._limit_s = limit_s
        self._lost = lost

    def answer(self, outcome: object) -> None:
        """Send the broker's answer back, unless it is lost or would arrive after the time limit."""
        arrives_s = self._loop.time() + self._reply_s
        if not self._lost and arrives_s < self._limit_s:
            self._loop.call_at(arrives_s, resolve, self._future, outcome, context=self._context)


def resolve(future: Any, outcome: object) -> None:
    """Set a future's value or error, if it is not done."""
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
        future.exception()  # mark it as retrieved: awaiting the future is optional
    else:
        future.set_result(outcome)
