"""The fault proxy between plain sockets: what it does to chosen frames, what it leaves alone, what it counts."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from regather.embedded.embedded_kafka import free_port
from regather.testing.fault_proxy import FaultProxy, Rule
from regather.testing.fault_proxy.framing import API_KEYS
from regather.testing.fault_proxy.garbling import garble
from regather.testing.fault_proxy.rules import Side
from regather.testing.waiting import eventually

PRODUCE, FETCH, END_TXN = (API_KEYS[name] for name in ("Produce", "Fetch", "EndTxn"))


def request(api: int, correlation_id: int, body: bytes = b"", client: bytes = b"tester", version: int = 8) -> bytes:
    head = struct.pack(">hhih", api, version, correlation_id, len(client)) + client
    return struct.pack(">i", len(head) + len(body)) + head + body


def reply(correlation_id: int, body: bytes = b"") -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation_id) + body


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(struct.unpack(">i", size)[0])


@dataclass
class Broker:
    """Answers each frame with its correlation id and an echo of its body; the first one when `slow` is set."""

    port: int = 0
    got: list[bytes] = field(default_factory=list)
    answer: Callable[[int, bytes], bytes] = lambda correlation_id, body: reply(correlation_id, body)
    slow: asyncio.Event | None = None
    readers: list[asyncio.StreamReader] = field(default_factory=list)
    hung_up: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.readers.append(reader)
        try:
            while True:
                frame = await read_frame(reader)
                self.got.append(frame)
                _, _, _, correlation_id, client = struct.unpack_from(">ihhih", frame)
                if self.slow is not None and correlation_id == 1:
                    await self.slow.wait()
                writer.write(self.answer(correlation_id, frame[14 + client :]))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up += 1
        finally:
            writer.close()


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def hears(self, timeout_s: float = 5.0) -> bytes:
        async with asyncio.timeout(timeout_s):
            return await read_frame(self.reader)

    async def hang_up(self, *, reset: bool = False) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.close()
        await self.writer.wait_closed()

    async def hears_the_end(self) -> bool:
        try:
            async with asyncio.timeout(5):
                return await self.reader.read() == b""
        except ConnectionError:
            return True


Connect = Callable[[], Awaitable[Client]]


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[Broker]:
    found = Broker()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, limit=2**22)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    await server.wait_closed()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest_asyncio.fixture
async def proxy(broker: Broker, port: int) -> AsyncIterator[FaultProxy]:
    async with FaultProxy({port: ("127.0.0.1", broker.port)}) as running:
        yield running


@pytest_asyncio.fixture
async def connect(proxy: FaultProxy, port: int) -> AsyncIterator[Connect]:
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
        return clients[-1]

    yield connect
    for client in clients:
        client.writer.close()


async def test_frames_pass_both_ways_unchanged_and_are_counted(
    broker: Broker, proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect()
    frames = [request(PRODUCE, 1, b"one"), request(END_TXN, 2), request(999, 3, b"unknown"), request(PRODUCE, 4, b"2")]
    await client.ask(*frames)
    assert [await client.hears() for _ in frames] == [reply(1, b"one"), reply(2), reply(3, b"unknown"), reply(4, b"2")]
    assert broker.got == frames
    seen = proxy.passed("Produce", "request", "tester")
    assert (seen.frames, seen.size_bytes) == (2, len(frames[0]) + len(frames[3]))
    assert proxy.passed("Produce", "reply").largest_bytes == len(reply(1, b"one"))
    assert proxy.passed("Produce", "request", "somebody else").frames == 0


async def test_large_frames_pass_whole_beside_small_ones(broker: Broker, connect: Connect) -> None:
    body = bytes(range(256)) * 40_000
    client = await connect()
    await client.ask(request(PRODUCE, 1, body), request(PRODUCE, 2))
    assert await client.hears() == reply(1, body)
    assert await client.hears() == reply(2)
    assert broker.got[0] == request(PRODUCE, 1, body)


async def test_a_held_request_holds_what_follows_on_its_connection_and_nothing_else(
    broker: Broker, proxy: FaultProxy, connect: Connect
) -> None:
    client, other = await connect(), await connect()
    held = proxy.arm(Rule("EndTxn", "request", "hold"))
    await client.ask(request(PRODUCE, 1), request(END_TXN, 2), request(PRODUCE, 3))
    assert await client.hears() == reply(1)
    await eventually(lambda: held.fired == 1, what="the hold")
    await other.ask(request(PRODUCE, 9))
    assert await other.hears() == reply(9)
    assert broker.got == [request(PRODUCE, 1), request(PRODUCE, 9)]
    held.release()
    assert [await client.hears(), await client.hears()] == [reply(2), reply(3)]
    await client.ask(request(END_TXN, 4))
    assert await client.hears() == reply(4)


async def test_a_hold_ends_after_its_time(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.arm(Rule("Produce", "request", "hold", hold_s=0.2, count=1))
    began_s = asyncio.get_running_loop().time()
    await client.ask(request(PRODUCE, 1))
    await client.hears()
    assert asyncio.get_running_loop().time() - began_s >= 0.2


@pytest.mark.parametrize(("size", "reset"), [(3_000_000, False), (1_000, True)])
async def test_a_held_request_arrives_though_its_sender_has_hung_up(
    broker: Broker, proxy: FaultProxy, connect: Connect, size: int, reset: bool
) -> None:
    client, other = await connect(), await connect()
    held = proxy.arm(Rule("EndTxn", "request", "hold"))
    await client.ask(request(END_TXN, 1, bytes(size)))
    await eventually(lambda: held.fired == 1, what="the hold")
    await client.hang_up(reset=reset)
    for number in (2, 3):  # meanwhile the proxy hears of it
        await other.ask(request(PRODUCE, number))
        assert await other.hears() == reply(number)
    held.release()
    await eventually(lambda: broker.got[2:] == [request(END_TXN, 1, bytes(size))], what="the late request")
    await eventually(lambda: broker.hung_up == 1, what="the end of the connection")


async def test_a_broker_may_answer_to_its_end_what_a_client_asked_before_it_hung_up(
    broker: Broker, connect: Connect
) -> None:
    broker.slow = asyncio.Event()
    client, other = await connect(), await connect()
    await client.ask(request(PRODUCE, 1))
    await eventually(lambda: broker.got, what="the request")
    await client.hang_up()
    for number in (2, 3):  # meanwhile the proxy hears of it
        await other.ask(request(PRODUCE, number))
        assert await other.hears() == reply(number)
    assert [reader.at_eof() for reader in broker.readers] == [False, False]
    broker.slow.set()
    await eventually(lambda: broker.hung_up == 1, what="the end of the connection")


async def test_a_reply_is_told_by_its_correlation_id_though_one_before_it_never_comes(
    broker: Broker, proxy: FaultProxy, connect: Connect
) -> None:
    broker.answer = lambda correlation_id, body: b"" if correlation_id == 1 else reply(correlation_id, body)
    dropped = proxy.arm(Rule("EndTxn", "reply", "drop"))
    client = await connect()
    await client.ask(request(PRODUCE, 1), request(END_TXN, 2), request(PRODUCE, 3))
    assert await client.hears() == reply(3)
    assert dropped.fired == 1


async def test_a_held_reply_holds_the_replies_behind_it(broker: Broker, proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    held = proxy.arm(Rule("Produce", "reply", "hold", count=1))
    await client.ask(request(PRODUCE, 1), request(END_TXN, 2))
    await eventually(lambda: held.fired == 1 and len(broker.got) == 2, what="both requests at the broker")
    with pytest.raises(TimeoutError):
        await client.hears(0.1)
    held.release()
    assert [await client.hears(), await client.hears()] == [reply(1), reply(2)]


async def test_a_dropped_request_never_arrives_and_the_next_one_does(
    broker: Broker, proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect()
    dropped = proxy.arm(Rule("Produce", "request", "drop", count=1))
    await client.ask(request(PRODUCE, 1, bytes(1_000_000)), request(PRODUCE, 2))
    assert await client.hears() == reply(2)
    assert broker.got == [request(PRODUCE, 2)]
    assert dropped.fired == 1


async def test_a_dropped_reply_is_missed_and_the_next_one_comes(
    broker: Broker, proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect()
    proxy.arm(Rule("Produce", "reply", "drop", count=1))
    await client.ask(request(PRODUCE, 1, bytes(1_000_000)), request(END_TXN, 2))
    assert await client.hears() == reply(2)
    assert len(broker.got) == 2


@pytest.mark.parametrize(("side", "arrived"), [("request", 0), ("reply", 1)])
async def test_a_reset_closes_the_connection_before_or_after_the_broker_has_worked(
    broker: Broker, proxy: FaultProxy, connect: Connect, side: Side, arrived: int
) -> None:
    client, other = await connect(), await connect()
    reset = proxy.arm(Rule("EndTxn", side, "reset"))
    await client.ask(request(END_TXN, 1))
    assert await client.hears_the_end()
    assert (reset.fired, len(broker.got)) == (1, arrived)
    await eventually(lambda: broker.hung_up == 1, what="the broker's end of the connection")
    await other.ask(request(PRODUCE, 2))
    assert await other.hears() == reply(2)


async def test_rules_choose_by_request_client_and_count(broker: Broker, proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    mine = proxy.arm(Rule("Produce", "request", "drop", client_id="work*", count=2))
    frames = [request(PRODUCE, number, client=b"worker-1" if number % 2 else b"gateway") for number in range(6)]
    await client.ask(*frames, request(END_TXN, 6, client=b"worker-1"))
    expected = [reply(0), reply(2), reply(4), reply(5), reply(6)]
    assert [await client.hears() for _ in expected] == expected
    assert mine.fired == 2


async def test_a_rule_that_never_fired_is_named(proxy: FaultProxy, connect: Connect) -> None:
    fired, idle = Rule("Produce", "request", "drop", count=1), Rule("EndTxn", "request", "reset")
    proxy.arm(fired)
    proxy.disarm(proxy.arm(idle))
    client = await connect()
    await client.ask(request(PRODUCE, 1), request(END_TXN, 2))
    assert await client.hears() == reply(2)
    assert proxy.idle == (idle,)
    assert [(armed.rule, armed.fired) for armed in proxy.rules] == [(fired, 1), (idle, 0)]


async def test_rules_that_are_taken_away_let_go_what_they_hold(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    held = proxy.arm(Rule("Produce", "request", "hold"))
    await client.ask(request(PRODUCE, 1))
    await eventually(lambda: held.fired == 1, what="the hold")
    proxy.disarm()
    assert await client.hears() == reply(1)
    await client.ask(request(PRODUCE, 2))
    assert await client.hears() == reply(2)


async def test_every_broker_has_a_port_of_its_own(broker: Broker) -> None:
    second = Broker()
    server = await asyncio.start_server(second.serve, "127.0.0.1", 0)
    second.port = server.sockets[0].getsockname()[1]
    ports = free_port(), free_port()
    routes = {ports[0]: ("127.0.0.1", broker.port), ports[1]: ("127.0.0.1", second.port)}
    async with server, FaultProxy(routes) as proxy:
        armed = proxy.arm(Rule("EndTxn", "request", "drop", count=1))
        for number, port in enumerate(ports):
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            await client.ask(request(END_TXN, number), request(PRODUCE, 10 + number))
            assert await client.hears() == reply(number + 10 * (number == 0))
            client.writer.close()
        assert armed.fired == 1
        assert (len(broker.got), second.got[0]) == (1, request(END_TXN, 1))


async def test_a_broker_that_is_down_ends_its_clients_connections_and_serves_them_when_it_is_back(port: int) -> None:
    broker_port = free_port()
    async with FaultProxy({port: ("127.0.0.1", broker_port)}):
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        assert await client.hears_the_end()
        client.writer.close()
        broker = Broker()
        server = await asyncio.start_server(broker.serve, "127.0.0.1", broker_port)
        async with server:
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            await client.ask(request(PRODUCE, 1))
            assert await client.hears() == reply(1)
            client.writer.close()


async def test_stopping_ends_every_connection_held_or_not(broker: Broker, port: int) -> None:
    async with FaultProxy({port: ("127.0.0.1", broker.port)}) as proxy:
        held = proxy.arm(Rule("EndTxn", "request", "hold"))
        busy, idle = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(2)]
        await busy.ask(request(END_TXN, 1))
        await eventually(lambda: held.fired == 1 and len(broker.readers) == 2, what="the hold")
    for client in (busy, idle):
        assert await client.hears_the_end()
        client.writer.close()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize(
    "wrong",
    [
        {"api": "Prodoose", "side": "request", "action": "drop"},
        {"api": "Produce", "side": "reply", "action": "garble"},
        {"api": "Fetch", "side": "request", "action": "garble"},
        {"api": "Fetch", "side": "reply", "action": "drop", "hold_s": 1.0},
    ],
)
def test_a_rule_that_cannot_fire_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not a known request|garble|hold_s"):
        Rule(**wrong)


def batch(size: int = 80) -> bytes:
    return bytes(17) + b"\xaa\xbb\xcc\xdd" + bytes(size - 21)


def fetch_reply(version: int, topics: list[tuple[bytes, list[bytes]]]) -> bytes:
    body = struct.pack(">i", 0) + (struct.pack(">hi", 0, 0) if version >= 7 else b"") + struct.pack(">i", len(topics))
    for name, partitions in topics:
        body += struct.pack(">h", len(name)) + name + struct.pack(">i", len(partitions))
        for number, records in enumerate(partitions):
            body += struct.pack(">ihqq", number, 0, 100, 100) + (struct.pack(">q", 0) if version >= 5 else b"")
            body += struct.pack(">i", -1) if number % 2 else struct.pack(">iqq", 1, 7, 3)
            body += struct.pack(">i", -1) if version >= 11 else b""
            body += struct.pack(">i", len(records)) + records
    return reply(1, body)


@pytest.mark.parametrize("version", [4, 5, 7, 10, 11])
def test_only_one_bit_of_the_last_checksum_is_changed(version: int) -> None:
    whole = fetch_reply(version, [(b"first", [batch(), batch(100)]), (b"second", [batch(90), batch(61), b""])])
    frame = bytearray(whole)
    assert garble(frame, version)
    (changed,) = [at for at, (old, new) in enumerate(zip(whole, frame, strict=True)) if old != new]
    assert whole[changed : changed + 4] == b"\xaa\xbb\xcc\xdd"
    assert whole.rindex(b"\xaa\xbb\xcc\xdd") == changed


def test_a_reply_without_records_or_of_another_encoding_is_left_alone() -> None:
    empty, newer = bytearray(fetch_reply(11, [(b"t", [b"", b""])])), bytearray(fetch_reply(11, [(b"t", [batch()])]))
    assert not garble(empty, 11)
    assert not garble(newer, 12)
    assert empty == fetch_reply(11, [(b"t", [b"", b""])])


async def test_a_garbled_reply_arrives_and_one_without_records_does_not_count(
    broker: Broker, proxy: FaultProxy, connect: Connect
) -> None:
    empty, full = fetch_reply(11, [(b"t", [b""])])[8:], fetch_reply(11, [(b"t", [batch()])])[8:]
    broker.answer = lambda correlation_id, _body: reply(correlation_id, empty if correlation_id == 1 else full)
    garbled = proxy.arm(Rule("Fetch", "reply", "garble", count=1))
    client = await connect()
    await client.ask(*(request(FETCH, number, version=11) for number in (1, 2, 3)))
    answers = [await client.hears() for _ in range(3)]
    assert answers[0] == reply(1, empty)
    assert [answers[1][8:] == full, answers[2][8:] == full] == [False, True]
    assert garbled.fired == 1
