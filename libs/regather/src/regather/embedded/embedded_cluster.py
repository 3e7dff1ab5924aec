"""Several embedded Kafka brokers as one cluster; each is a process that a test can kill, suspend, restart or fill up.

Every broker is a controller as well. Clients, brokers and controllers each have a listener. A fourth listener is for
clients that must reach the brokers through a proxy (`proxied_servers`, `proxy_routes`).
"""

import contextlib
import resource
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from regather.embedded import kafka_probe
from regather.embedded.bounded_volume import BoundedVolume, MountRefused
from regather.embedded.embedded_kafka import free_ports, shared_settings, temporary_home
from regather.embedded.kafka_jars import JarLock
from regather.embedded.kafka_process import EmbeddedKafkaError, KafkaProcess, random_uuid
from regather.embedded.processes import tail
from regather.topics.layout import MIB

_JVM = ("-Xms320m", "-Xmx320m", "-Xmn160m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_START_TIMEOUT_S = 90.0
_STOP_GRACE_S = 30.0
_PORTS_EACH = 5
VOLUME_BYTES = 2048 * MIB


class ClusterNode:
    """One broker of a cluster; it keeps its address over restarts. Every method is synchronous.

    `volume` bounds its data; without one, fill_disk() limits the size of the files that its process may write.
    """

    def __init__(
        self,
        node_id: int,
        home: Path,
        *,
        ports: Sequence[int],
        cluster_id: str,
        volume: BoundedVolume | None,
        jvm_args: tuple[str, ...],
    ) -> None:
        self.node_id = node_id
        self.volume = volume
        self.port, self.broker_port, self.controller_port, self.proxied_port, self.proxy_port = ports
        self.suspended = False
        self._cluster_id = cluster_id
        self.data_dir = (volume.path if volume else home) / "log"
        self._process = KafkaProcess(home, self.data_dir, jvm_args=jvm_args)
        self._settings: dict[str, str] = {}

    @property
    def address(self) -> str:
        """`127.0.0.1:port` of the broker itself."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id; EmbeddedKafkaError if the broker does not run."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists, suspended or not."""
        return self._process.running

    @property
    def log_path(self) -> Path:
        """The broker's own log."""
        return self._process.log_path

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set the settings of the next start."""
        self._settings = dict(settings)

    def start(self) -> None:
        """Start the process if it does not run; it answers some seconds later."""
        if not self.running:
            self._process.start(self._settings, cluster_id=self._cluster_id, node_id=self.node_id)

    def wait_ready(self, timeout_s: float = _START_TIMEOUT_S, *, brokers: int = 1) -> None:
        """Wait until the broker answers and reports a controller and at least `brokers` brokers, itself included."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            _ = self.pid
            with contextlib.suppress(OSError):
                answer = kafka_probe.ask(self.address)
                here = any(port == self.port for _, port in answer.brokers)
                if answer.ready and here and len(answer.brokers) >= brokers:
                    return
            time.sleep(0.05)
        raise EmbeddedKafkaError(f"broker {self.node_id} was not ready in {timeout_s} s\n{tail(self.log_path)}")

    def stop(self) -> int | None:
        """Stop the broker gracefully, so that it hands its leaderships over; return its exit code."""
        return self._process.end(_STOP_GRACE_S)

    def kill(self) -> None:
        """Send SIGKILL, like a crash."""
        self._process.kill()

    def suspend(self) -> None:
        """Send SIGSTOP: connections stay open, but the broker does not answer."""
        self._process.suspend()
        self.suspended = True

    def resume(self) -> None:
        """Send SIGCONT."""
        self._process.resume()
        self.suspended = False

    def fill_disk(self) -> None:
        """Make the broker's writes fail from now on; it halts at the first one."""
        if self.volume is not None:
            self.volume.fill()
        else:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def free_disk(self) -> None:
        """Make writes succeed again; a broker that has halted must be started."""
        if self.volume is not None:
            self.volume.free()
        elif self.running:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def discard(self) -> None:
        """End the process at once and unmount its volume."""
        self._process.end(0)
        if self.volume is not None:
            self.volume.close()


class EmbeddedCluster:
    """Brokers with the ids 1 to `brokers`. Topics have up to three replicas, two of which must be in sync for an ack.

    `home` holds settings and logs, and the data if no tmpfs could be mounted; it is kept. Without `home` the cluster
    uses a temporary directory and removes it. `no_volumes_because` says why there are no volumes.
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        brokers: int = 3,
        volume_bytes: int | None = VOLUME_BYTES,
        jvm_args: tuple[str, ...] = _JVM,
    ) -> None:
        self._temporary = home is None
        self.home = (home or temporary_home()).absolute()
        self.version = JarLock.load().kafka_version
        self.no_volumes_because = "" if volume_bytes else "no size was asked for"
        cluster_id, ports = random_uuid(), free_ports(_PORTS_EACH * brokers)
        self.nodes = [
            ClusterNode(
                number,
                self.home / f"broker-{number}",
                ports=ports[_PORTS_EACH * (number - 1) : _PORTS_EACH * number],
                cluster_id=cluster_id,
                volume=self._volume(number, volume_bytes),
                jvm_args=jvm_args,
            )
            for number in range(1, brokers + 1)
        ]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of all brokers."""
        return ",".join(node.address for node in self.nodes)

    @property
    def proxied_servers(self) -> str:
        """Bootstrap servers of clients that must reach the brokers only through a proxy."""
        return ",".join(f"127.0.0.1:{node.proxy_port}" for node in self.nodes)

    @property
    def proxy_routes(self) -> dict[int, tuple[str, int]]:
        """The ports on which a proxy must listen, each with the address of its broker; the same over restarts."""
        return {node.proxy_port: ("127.0.0.1", node.proxied_port) for node in self.nodes}

    @property
    def answering_servers(self) -> str:
        """Addresses of the brokers that run and are not suspended; all addresses if there is none."""
        answering = [node.address for node in self.nodes if node.running and not node.suspended]
        return ",".join(answering) or self.bootstrap_servers

    def node(self, node_id: int) -> ClusterNode:
        """Return the broker with this id."""
        return self.nodes[node_id - 1]

    def start(self) -> None:
        """Start every broker that does not run, and wait until each reports all brokers."""
        for node in self.nodes:
            node.configure(cluster_settings(node, self.nodes))
            node.start()
        for node in self.nodes:
            node.wait_ready(brokers=len(self.nodes))

    def close(self) -> None:
        """End every broker and remove a temporary directory."""
        for node in self.nodes:
            node.discard()
        if self._temporary:
            shutil.rmtree(self.home, ignore_errors=True)

    def _volume(self, number: int, size_bytes: int | None) -> BoundedVolume | None:
        if self.no_volumes_because or not size_bytes:
            return None
        try:
            return BoundedVolume(self.home / f"volume-{number}", size_bytes)
        except MountRefused as error:
            self.no_volumes_because = str(error)
            return None


def _addresses(listeners: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())


def cluster_settings(node: ClusterNode, nodes: Sequence[ClusterNode]) -> dict[str, str]:
    """Return the settings of one broker among `nodes`."""
    voters = ",".join(f"{other.node_id}@127.0.0.1:{other.controller_port}" for other in nodes)
    replication = str(min(3, len(nodes)))
    in_sync = str(min(2, len(nodes)))
    listeners = {
        "CLIENTS": node.port,
        "BROKERS": node.broker_port,
        "PROXIED": node.proxied_port,
        "CONTROLLER": node.controller_port,
    }
    advertised = {name: port for name, port in listeners.items() if name != "CONTROLLER"} | {"PROXIED": node.proxy_port}
    return shared_settings() | {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        "controller.quorum.voters": voters,
        "listeners": _addresses(listeners),
        "advertised.listeners": _addresses(advertised),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "BROKERS",
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
        "log.dirs": str(node.data_dir),
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replication,
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
        "unclean.leader.election.enable": "false",
        "log.segment.bytes": str(32 * MIB),
        "replica.fetch.wait.max.ms": "100",
        "leader.imbalance.check.interval.seconds": "15",  # default 300: a returned broker would lead nothing so long
        "num.recovery.threads.per.data.dir": "2",
    }
