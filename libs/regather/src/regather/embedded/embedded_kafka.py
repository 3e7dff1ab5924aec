"""A real Apache Kafka (KRaft, one node, broker and controller in one process) as a child process."""

import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from regather.embedded import kafka_probe
from regather.embedded.kafka_jars import JarLock
from regather.embedded.kafka_process import EmbeddedKafkaError, KafkaProcess, random_uuid
from regather.embedded.processes import tail
from regather.topics.layout import EVENT_RECORD_BYTES, LETTER_RECORD_BYTES, MIB

_JVM = ("-Xms512m", "-Xmx512m", "-Xmn300m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""For a broker that runs for minutes: the optimizing compiler would use a core for the first 2,000 jobs (ADR 0008)."""

_START_TIMEOUT_S = 60.0
_STOP_GRACE_S = 15.0
_TEMPORARY = "regather-kafka-"
_RECORD_BYTES = max(EVENT_RECORD_BYTES, LETTER_RECORD_BYTES)

# Below the range from which the kernel usually assigns client ports: a client that reconnects while the broker is down
# could otherwise get the broker's own port, connect to itself, and prevent the broker's restart.
_PORTS = range(20_000, 32_000)


def shared_settings() -> dict[str, str]:
    """Return the settings that do not depend on where a broker runs: one node, small internal topics, record sizes."""
    return {
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "transaction.partition.verification.enable": "true",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "message.max.bytes": str(_RECORD_BYTES),
        "replica.fetch.max.bytes": str(_RECORD_BYTES),
        "replica.fetch.response.max.bytes": str(_RECORD_BYTES),
        "socket.request.max.bytes": str(8 * _RECORD_BYTES),
        "log.message.timestamp.type": "LogAppendTime",
        "log.retention.hours": "168",
        "log.segment.bytes": str(256 * MIB),
        # A broker that restarts after a kill must wait this long before it can register.
        "broker.session.timeout.ms": "5000",
        "broker.heartbeat.interval.ms": "500",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * MIB),
    }


def _node_settings(port: int, controller_port: int, log_dir: Path) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log_dir),
    }


def _with_proxied_listener(settings: Mapping[str, str], port: int, proxy_port: int) -> dict[str, str]:
    """Return the settings with one more listener, which advertises the proxy's address; the broker itself skips it."""
    return {
        **settings,
        "listeners": f"{settings['listeners']},PROXIED://127.0.0.1:{port}",
        "advertised.listeners": f"{settings['advertised.listeners']},PROXIED://127.0.0.1:{proxy_port}",
        "listener.security.protocol.map": f"{settings['listener.security.protocol.map']},PROXIED:PLAINTEXT",
    }


class EmbeddedKafka:
    """One broker on free ports of 127.0.0.1. It ends when this process ends. Every method is synchronous.

    Without `data_dir` the broker uses a temporary directory, which is removed at the end. With one, the data are kept;
    a later broker with that directory goes on with them, on the same port if that is free.

    `settings` override the broker's own. With a `proxy_port` the broker has a second listener, which advertises that
    port of 127.0.0.1: clients that bootstrap from it never connect to the broker directly (see `FaultProxy`).
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        jvm_args: tuple[str, ...] = _JVM,
        settings: Mapping[str, str] | None = None,
        proxy_port: int | None = None,
    ) -> None:
        self._temporary = data_dir is None
        self._home = (Path(data_dir) if data_dir else temporary_home()).absolute()
        self._settings = dict(settings or {})
        self._process = KafkaProcess(self._home, self._home / "log", jvm_args=jvm_args)
        self._port = 0
        self._proxy_port = proxy_port
        self._proxied_port = 0
        self.version = JarLock.load().kafka_version

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """`127.0.0.1:port`; stays the same over restarts."""
        return f"127.0.0.1:{self._port}"

    @property
    def proxy_route(self) -> tuple[int, tuple[str, int]]:
        """The port on which a proxy must listen, and the broker's address behind it; the same over restarts."""
        if self._proxy_port is None:
            raise EmbeddedKafkaError("this broker has no listener for a proxy; pass proxy_port to EmbeddedKafka")
        return self._proxy_port, ("127.0.0.1", self._proxied_port)

    @property
    def proxied_servers(self) -> str:
        """Bootstrap servers of clients that must go through the proxy."""
        return f"127.0.0.1:{self.proxy_route[0]}"

    @property
    def pid(self) -> int:
        """Process id of the running broker; EmbeddedKafkaError if there is none."""
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """The broker's own log."""
        return self._process.log_path

    def start(self) -> None:
        """Start the broker and wait until it serves metadata; raises EmbeddedKafkaError, JarsUnavailable."""
        if self._process.running:
            return
        self._process.start(self._configured(), cluster_id=random_uuid(), node_id=1)
        self._await_ready()

    def stop(self) -> None:
        """End the broker, reap it, and remove a temporary data directory."""
        self._process.end(0 if self._temporary else _STOP_GRACE_S)  # temporary data need not be flushed
        if self._temporary:
            shutil.rmtree(self._home, ignore_errors=True)

    def kill(self) -> None:
        """Send SIGKILL, like a crash; `start()` brings the broker back with the same data and port."""
        self._process.kill()

    def restart(self) -> None:
        """Stop the broker gracefully and start it with the same data and port."""
        self._process.end(_STOP_GRACE_S)
        self.start()

    def _configured(self) -> dict[str, str]:
        path = self._process.properties_path
        known = re.search(
            r"advertised\.listeners=PLAINTEXT://127\.0\.0\.1:(\d+)", path.read_text() if path.exists() else ""
        )
        preferred = self._port or (int(known[1]) if known else 0)
        self._port = preferred if preferred and _is_free(preferred) else free_port()
        settings = shared_settings() | _node_settings(self._port, free_port(), self._process.data_dir)
        if self._proxy_port is not None:
            self._proxied_port = self._proxied_port or free_port()
            settings = _with_proxied_listener(settings, self._proxied_port, self._proxy_port)
        return settings | self._settings

    def _await_ready(self) -> None:
        deadline_s, step_s = _START_TIMEOUT_S, 1.0
        while deadline_s > 0:
            _ = self.pid
            try:
                kafka_probe.wait_ready(self.bootstrap_servers, step_s)
            except TimeoutError:
                deadline_s -= step_s
            else:
                return
        raise EmbeddedKafkaError(f"the broker did not answer within {_START_TIMEOUT_S} s\n{tail(self.log_path)}")


def temporary_home() -> Path:
    """Create a directory named after this process, after removing those of processes that no longer run."""
    for left in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*-*"):
        owner = left.name.removeprefix(_TEMPORARY).partition("-")[0]
        if owner.isdecimal() and not _is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-"))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # the process belongs to another user
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now and outside the kernel's usual range of client ports."""
    for _ in range(200):
        port = random.SystemRandom().choice(_PORTS)
        if _is_free(port):
            return port
    raise EmbeddedKafkaError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def free_ports(count: int) -> list[int]:
    """Return `count` different free ports."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
