"""Asks a broker for its metadata with a hand-written request; needs no Kafka client and no event loop."""

import socket
import struct
import time
from dataclasses import dataclass

_METADATA_API, _METADATA_VERSION = 3, 5
_CLIENT_ID = b"regather-probe"


@dataclass(frozen=True, slots=True)
class ClusterAnswer:
    """A broker's answer: the addresses of all brokers in its metadata and the controller's id (-1: none yet)."""

    brokers: tuple[tuple[str, int], ...]
    controller_id: int

    @property
    def ready(self) -> bool:
        """Whether a broker is registered and a controller is elected, so that topics can be created."""
        return bool(self.brokers) and self.controller_id >= 0


def ask(bootstrap_servers: str, timeout_s: float = 2.0) -> ClusterAnswer:
    """Send a Metadata request (v5, no topics) to the first server that answers; OSError if none does."""
    error: OSError = OSError(f"no server in {bootstrap_servers!r}")
    for server in filter(None, (part.strip() for part in bootstrap_servers.split(","))):
        host, _, port = server.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s) as connection:
                return _exchange(connection)
        except (OSError, struct.error, ValueError) as cause:
            error = OSError(f"{server}: {type(cause).__name__}: {cause}")
    raise error


def wait_ready(bootstrap_servers: str, timeout_s: float) -> ClusterAnswer:
    """Ask until the cluster is ready; after `timeout_s` TimeoutError with the last error."""
    end = time.monotonic() + timeout_s
    last = "no controller was elected"
    while time.monotonic() < end:
        try:
            answer = ask(bootstrap_servers)
            if answer.ready:
                return answer
        except OSError as error:
            last = str(error)
        time.sleep(0.05)
    raise TimeoutError(f"Kafka at {bootstrap_servers} was not ready within {timeout_s} s: {last}")


def _exchange(connection: socket.socket) -> ClusterAnswer:
    header = struct.pack(">hhih", _METADATA_API, _METADATA_VERSION, 1, len(_CLIENT_ID)) + _CLIENT_ID
    body = struct.pack(">i?", 0, False)  # an empty list of topics, no automatic creation
    connection.sendall(struct.pack(">i", len(header + body)) + header + body)
    (size,) = struct.unpack(">i", _receive(connection, 4))
    return _parse(_receive(connection, size))


def _receive(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        chunk = connection.recv(size - len(parts))
        if not chunk:
            raise ConnectionError("the connection was closed in the middle of an answer")
        parts += chunk
    return bytes(parts)


def _parse(answer: bytes) -> ClusterAnswer:
    at = 8  # correlation id and throttle time
    (count,) = struct.unpack_from(">i", answer, at)
    at += 4
    brokers = []
    for _ in range(count):
        at += 4  # node id
        host, at = _string(answer, at)
        (port,) = struct.unpack_from(">i", answer, at)
        _, at = _string(answer, at + 4)  # rack
        brokers.append((host or "", port))
    _, at = _string(answer, at)  # cluster id
    (controller_id,) = struct.unpack_from(">i", answer, at)
    return ClusterAnswer(tuple(brokers), controller_id)


def _string(answer: bytes, at: int) -> tuple[str | None, int]:
    (length,) = struct.unpack_from(">h", answer, at)
    start = at + 2
    return (None, start) if length < 0 else (answer[start : start + length].decode(), start + length)
