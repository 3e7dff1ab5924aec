"""Provides a real broker from the first source that works: a running one, else Docker, else an embedded one.

`KAFKA_BOOTSTRAP_SERVERS` names a broker that runs already. Without it, Kafka runs in a Docker container if an engine
answers and has the image. Otherwise Kafka's own jars run as a child process.
`REGATHER_KAFKA=external|docker|embedded` forces one of these rungs.
"""

import http.client
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from regather.embedded import kafka_probe
from regather.embedded.embedded_kafka import EmbeddedKafka, free_port, shared_settings
from regather.embedded.kafka_jars import JarLock

BOOTSTRAP_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
RUNG_VARIABLE = "REGATHER_KAFKA"
_DOCKER_ANSWER_S = 2
_DOCKER_SOCKET = "unix:///var/run/docker.sock"
_EXTERNAL_ANSWER_S = 10.0
_CONTAINER_START_S = 60.0


class Rung(StrEnum):
    """The source of a broker."""

    EXTERNAL = "external"
    DOCKER = "docker"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that answers. `version` is "unknown" for an external one."""

    bootstrap_servers: str
    rung: Rung
    version: str

    def __str__(self) -> str:
        return f"{self.rung} Apache Kafka {self.version} at {self.bootstrap_servers}"


class BrokerLadderError(RuntimeError):
    """The chosen rung has no broker; the message says what to change."""


@contextmanager
def open_broker(
    data_dir: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    docker_answers: Callable[[], bool] | None = None,
) -> Iterator[Broker]:
    """Yield a broker from the rung of choose_rung(), and end it with the context; raises BrokerLadderError.

    `data_dir` keeps the data of an embedded broker; the other rungs ignore it. `environment` replaces the process's
    environment, `docker_answers` the check of the Docker engine.
    """
    environment = os.environ if environment is None else environment
    answers = docker_answers or docker_engine_answers
    with _start(choose_rung(environment, answers), environment, data_dir) as broker:
        yield broker


def choose_rung(environment: Mapping[str, str], docker_answers: Callable[[], bool]) -> Rung:
    """Return the rung that the environment forces, else the first that can work."""
    forced = environment.get(RUNG_VARIABLE, "")
    if forced:
        if forced not in set(Rung):
            raise BrokerLadderError(f"{RUNG_VARIABLE}={forced!r} is not one of {', '.join(Rung)}")
        return Rung(forced)
    if environment.get(BOOTSTRAP_VARIABLE):
        return Rung.EXTERNAL
    return Rung.DOCKER if docker_answers() else Rung.EMBEDDED


def docker_engine_answers() -> bool:
    """Return whether a Docker engine answers within two seconds and has Kafka's image, so that nothing is pulled."""
    connection = http.client.HTTPConnection("docker", timeout=_DOCKER_ANSWER_S)
    try:
        connection.sock = _connect_to_docker(os.environ.get("DOCKER_HOST") or _DOCKER_SOCKET)
        connection.request("GET", f"/images/{_image()}/json")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _connect_to_docker(address: str) -> socket.socket:
    url = urlsplit(address)
    if url.scheme == "tcp":
        return socket.create_connection((url.hostname or "", url.port or 2375), timeout=_DOCKER_ANSWER_S)
    if url.scheme != "unix":
        raise ValueError(f"DOCKER_HOST={address!r} is neither unix:// nor tcp://")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_DOCKER_ANSWER_S)
        connection.connect(url.path)
    except OSError:
        connection.close()
        raise
    return connection


def _start(rung: Rung, environment: Mapping[str, str], data_dir: Path | None) -> AbstractContextManager[Broker]:
    if rung is Rung.EXTERNAL:
        return _external(environment.get(BOOTSTRAP_VARIABLE, ""))
    return _docker() if rung is Rung.DOCKER else _embedded(data_dir)


@contextmanager
def _external(bootstrap_servers: str) -> Iterator[Broker]:
    if not bootstrap_servers:
        raise BrokerLadderError(f"{RUNG_VARIABLE}=external needs {BOOTSTRAP_VARIABLE}=host:port")
    try:
        kafka_probe.wait_ready(bootstrap_servers, _EXTERNAL_ANSWER_S)
    except TimeoutError as error:
        raise BrokerLadderError(f"{BOOTSTRAP_VARIABLE}={bootstrap_servers}: {error}") from error
    yield Broker(bootstrap_servers, Rung.EXTERNAL, "unknown")


@contextmanager
def _embedded(data_dir: Path | None) -> Iterator[Broker]:
    with EmbeddedKafka(data_dir) as kafka:
        yield Broker(kafka.bootstrap_servers, Rung.EMBEDDED, kafka.version)


def _image() -> str:
    return f"apache/kafka:{JarLock.load().kafka_version}"


@contextmanager
def _docker() -> Iterator[Broker]:
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    # The reaper would have to be pulled as a second image; this context removes the container at its end anyway.
    testcontainers_config.ryuk_disabled = True
    port = free_port()
    container = DockerContainer(_image()).with_bind_ports(9092, port)
    for name, value in _container_environment(port).items():
        container = container.with_env(name, value)
    with container:
        kafka_probe.wait_ready(f"127.0.0.1:{port}", _CONTAINER_START_S)
        yield Broker(f"127.0.0.1:{port}", Rung.DOCKER, JarLock.load().kafka_version)


def _container_environment(port: int) -> dict[str, str]:
    """Return the embedded broker's settings under the image's variable names.

    Clients connect to the mapped port. The broker connects to itself, for its transaction coordinator; it cannot reach
    the mapped port from inside the container and uses the listener INSIDE.
    """
    settings = shared_settings() | {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,INSIDE://localhost:19092,CONTROLLER://localhost:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},INSIDE://localhost:19092",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INSIDE",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    names = {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in settings.items()}
    return names | {"KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m"}
