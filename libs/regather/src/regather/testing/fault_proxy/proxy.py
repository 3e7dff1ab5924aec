"""The proxy: a port for each broker, connections that apply the rules, and counts of frames and of fired rules."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from regather.testing.fault_proxy.framing import Frame, Request, read_reply, read_request
from regather.testing.fault_proxy.garbling import garble
from regather.testing.fault_proxy.rules import Armed, Rule, Side

Address = tuple[str, int]
_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_BUFFER_BYTES = 256 * 1024
_LAST_REPLIES_S = 5.0
"""How long the broker's side stays open after a client disconnects, so that the broker handles its last requests."""


@dataclass(slots=True)
class Passed:
    """Frames and bytes that arrived at the proxy, including those that a rule dropped."""

    frames: int = 0
    size_bytes: int = 0
    largest_bytes: int = 0

    def add(self, other: "Passed") -> None:
        """Add other counts to these."""
        self.frames += other.frames
        self.size_bytes += other.size_bytes
        self.largest_bytes = max(self.largest_bytes, other.largest_bytes)


@dataclass(slots=True)
class _Traffic:
    """State that all connections share."""

    armed: list[Armed] = field(default_factory=list)
    passed: dict[tuple[Side, str, str], Passed] = field(default_factory=dict)

    def note(self, request: Request, side: Side, frame: Frame) -> Armed | None:
        """Count a frame; return the rule that applies to it, if any."""
        counts = self.passed.setdefault((side, request.api, request.client_id), Passed())
        counts.add(Passed(1, frame.size_bytes, frame.size_bytes))
        return next((armed for armed in self.armed if armed.takes(request, side)), None)


class FaultProxy:
    """Forwards each port of 127.0.0.1 to a broker and applies its rules to chosen frames.

    `routes` maps a port to the broker's address. A broker must advertise the proxy's address instead of its own: see
    `EmbeddedKafka(proxy_port=...)`. While a broker is down, the proxy aborts every connection to its port.
    """

    def __init__(self, routes: Mapping[int, Address]) -> None:
        self._routes = routes
        self._traffic = _Traffic()
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._ever: list[Armed] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on every port; OSError if one is in use."""
        for port, broker in self._routes.items():
            server = await asyncio.start_server(self._accept(broker), "127.0.0.1", port, limit=_BUFFER_BYTES)
            self._servers.append(server)

    async def stop(self) -> None:
        """Close every port and connection."""
        for server in self._servers:
            server.close()
        await asyncio.sleep(0)  # let connections register that were accepted just now
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def arm(self, rule: Rule) -> Armed:
        """Apply a rule from now on; if several match a frame, the one armed first applies."""
        armed = Armed(rule)
        self._traffic.armed.append(armed)
        self._ever.append(armed)
        return armed

    def disarm(self, *rules: Armed) -> None:
        """Stop applying these rules, or all without arguments, and release the frames that they hold."""
        for armed in rules or tuple(self._traffic.armed):
            armed.release()
            if armed in self._traffic.armed:
                self._traffic.armed.remove(armed)

    @property
    def rules(self) -> tuple[Armed, ...]:
        """All rules armed so far, in this order, with their counts."""
        return tuple(self._ever)

    @property
    def idle(self) -> tuple[Rule, ...]:
        """The rules that never fired: faults that did not happen."""
        return tuple(armed.rule for armed in self._ever if not armed.fired)

    def passed(self, api: str, side: Side, client_id: str | None = None) -> Passed:
        """Return the counts of one kind of frame, of one client or of all, including frames that a rule applied to."""
        total = Passed()
        for (seen_side, seen_api, seen_client), counts in self._traffic.passed.items():
            if (seen_side, seen_api) == (side, api) and client_id in (None, seen_client):
                total.add(counts)
        return total

    def _accept(self, broker: Address) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(_join(broker, (reader, writer), self._traffic))
            self._connections.add(task)  # at once: stop() may come before the task begins
            task.add_done_callback(self._connections.discard)
            task.add_done_callback(lambda _: writer.transport.abort())

        return accept


async def _join(broker: Address, client: _Stream, traffic: _Traffic) -> None:
    """Connect to the broker and forward frames both ways until either side disconnects."""
    try:
        reader, writer = await asyncio.open_connection(*broker, limit=_BUFFER_BYTES)
    except OSError:
        return  # the broker is down
    try:
        await _Connection(client, (reader, writer), traffic).run()
    finally:
        writer.transport.abort()


class _Reset(Exception):
    """A rule closes this connection."""


class _Connection:
    """One client's connection to one broker."""

    def __init__(self, client: _Stream, broker: _Stream, traffic: _Traffic) -> None:
        self._from_client, self._to_client = client
        self._from_broker, self._to_broker = broker
        self._traffic = traffic
        self._unanswered: deque[Request] = deque()
        self._answered = asyncio.Event()

    async def run(self) -> None:
        """Forward frames both ways until one side ends."""
        ways = [asyncio.create_task(self._requests()), asyncio.create_task(self._replies())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            _expect_ends(await asyncio.gather(*ways, return_exceptions=True))

    async def _requests(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request, frame = await read_request(self._from_client)
                if await self._treat(request, "request", frame):
                    self._unanswered.append(request)
                    await frame.forward(self._to_broker)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_REPLIES_S):
                while self._unanswered:
                    self._answered.clear()
                    await self._answered.wait()

    async def _replies(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                correlation_id, frame = await read_reply(self._from_broker)
                request = self._answer_to(correlation_id)
                if not await self._treat(request, "reply", frame):
                    continue
                try:
                    await frame.forward(self._to_client)
                except ConnectionError:
                    await frame.discard()  # the client has disconnected; read on so that the broker can finish

    def _answer_to(self, correlation_id: int) -> Request:
        """Return the request that this reply belongs to; replies come in the order of the requests."""
        while self._unanswered:
            request = self._unanswered.popleft()
            self._answered.set()
            if request.correlation_id == correlation_id:
                return request
        raise ValueError(f"a reply came to request {correlation_id}, which was never sent")

    async def _treat(self, request: Request, side: Side, frame: Frame) -> bool:
        """Apply the rules to a frame; return whether to forward it."""
        armed = self._traffic.note(request, side, frame)
        if armed is None:
            return True
        if armed.rule.action == "garble":
            armed.fired += garble(await frame.load(), request.version)
            return True
        armed.fired += 1
        if armed.rule.action == "reset":
            raise _Reset
        if armed.rule.action == "drop":
            await frame.discard()
            return False
        await frame.load()
        await armed.hold()
        return True


def _expect_ends(ends: Iterable[BaseException | None]) -> None:
    """Raise any error but a reset, disconnect or cancellation: it is a bug of the proxy, or the peer is not Kafka."""
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, _Reset | ConnectionError | asyncio.IncompleteReadError):
            raise end
