"""Several embedded Kafka brokers as one cluster, each a process that can be killed, suspended, restarted, or run full.

Every broker is a controller, too. Clients, brokers and controllers meet on listeners of their own; a fourth one is for
clients that are to reach the brokers through something that stands between (`proxied_servers`, `proxy_routes`).
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
    """One broker of a cluster; its address stays the same over restarts. Every method is synchronous.

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
        """Process id; EmbeddedKafkaError where it does not run."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives, suspended or not."""
        return self._process.running

    @property
    def log_path(self) -> Path:
        """The broker's own log."""
        return self._process.log_path

    def configure(self, settings: Mapping[str, str]) -> None:
        """Settings of the next start."""
        self._settings = dict(settings)

    def start(self) -> None:
        """Start the process if it does not run; it answers some seconds later."""
        if not self.running:
            self._process.start(self._settings, cluster_id=self._cluster_id, node_id=self.node_id)

    def wait_ready(self, timeout_s: float = _START_TIMEOUT_S, *, brokers: int = 1) -> None:
        """Wait until it answers and knows a controller and so many brokers, itself among them."""
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
        """An orderly stop, in which the broker hands its leaderships over; its exit code."""
        return self._process.end(_STOP_GRACE_S)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._process.kill()

    def suspend(self) -> None:
        """SIGSTOP: its clients' connections stay, and nothing answers."""
        self._process.suspend()
        self.suspended = True

    def resume(self) -> None:
        """SIGCONT."""
        self._process.resume()
        self.suspended = False

    def fill_disk(self) -> None:
        """From now on its writes fail, and the broker halts at the first one."""
        if self.volume is not None:
            self.volume.fill()
        else:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def free_disk(self) -> None:
        """There is room again; a broker that halted has to be started."""
        if self.volume is not None:
            self.volume.free()
        elif self.running:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def discard(self) -> None:
        """End it at once and for good."""
        self._process.end(0)
        if self.volume is not None:
            self.volume.close()


class EmbeddedCluster:
    """Brokers 1 to `brokers`, every internal topic on three of them, two of which must have a record before its ack.

    `home` holds settings, logs, and, where no tmpfs could be mounted, data; it is kept. Without it a temporary directory
    is used and removed. `no_volumes_because` says why there are none.
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
        """Every broker's address."""
        return ",".join(node.address for node in self.nodes)

    @property
    def proxied_servers(self) -> str:
        """What clients bootstrap from that are to go through a proxy, and through nothing else."""
        return ",".join(f"127.0.0.1:{node.proxy_port}" for node in self.nodes)

    @property
    def proxy_routes(self) -> dict[int, tuple[str, int]]:
        """The ports on which a proxy has to listen, each with the broker's address behind it; the same over restarts."""
        return {node.proxy_port: ("127.0.0.1", node.proxied_port) for node in self.nodes}

    @property
    def answering_servers(self) -> str:
        """The same of those brokers only that run and are not suspended; all of them if there is none."""
        answering = [node.address for node in self.nodes if node.running and not node.suspended]
        return ",".join(answering) or self.bootstrap_servers

    def node(self, node_id: int) -> ClusterNode:
        """The broker of this id."""
        return self.nodes[node_id - 1]

    def start(self) -> None:
        """Start every broker that does not run, and wait until each knows all."""
        for node in self.nodes:
            node.configure(cluster_settings(node, self.nodes))
            node.start()
        for node in self.nodes:
            node.wait_ready(brokers=len(self.nodes))

    def close(self) -> None:
        """End every broker; a temporary directory is removed."""
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
    """Settings of one broker among `nodes`."""
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
        "leader.imbalance.check.interval.seconds": "15",  # else a broker that was away leads nothing for five minutes
        "num.recovery.threads.per.data.dir": "2",
    }
