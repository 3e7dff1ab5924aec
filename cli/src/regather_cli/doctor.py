"""`regather doctor`: checks that this machine has everything that a start needs, and says what is missing."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from regather.embedded import kafka_probe
from regather.embedded.kafka_broker import (
    BOOTSTRAP_VARIABLE,
    BrokerLadderError,
    Rung,
    choose_rung,
    docker_engine_answers,
)
from regather.embedded.kafka_jars import JarLock, JarsUnavailable, cache_dir, java_binary
from regather_cli.service_process import Role

_DISK_BYTES_NEEDED = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. A check that is not `needed` only informs."""

    name: str
    ok: bool
    detail: str
    needed: bool = True


def examine(port: int, environment: Mapping[str, str] | None = None) -> list[Check]:
    """Run every check. A check that fails is a finding, not an exception."""
    environment = os.environ if environment is None else environment
    broker = _broker(environment, docker_engine_answers)
    checks = [_python(), _services(), _port(port), _disk(), broker]
    # Only the embedded broker needs Java and Kafka's jars.
    embedded = broker.detail.startswith(Rung.EMBEDDED)
    return [*checks, _java(needed=embedded), _jars()]


def report(checks: list[Check]) -> dict[str, object]:
    """Return all findings as one document."""
    ok = all(check.ok for check in checks if check.needed)
    return {"ok": ok, "checks": [asdict(check) for check in checks]}


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), f"{version}; 3.11 or later is needed")


def _services() -> Check:
    missing = [role.value for role in Role if importlib.util.find_spec(role.value) is None]
    return Check("services", not missing, f"not installed: {', '.join(missing)}" if missing else "all three installed")


def _port(port: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Check("port", ok=False, detail=f"{port} is in use ({error.strerror}); choose another with --port")
    return Check("port", ok=True, detail=f"{port} is free")


def _disk() -> Check:
    home = cache_dir()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return Check("disk", free >= _DISK_BYTES_NEEDED, f"{free / 1024**3:.1f} GiB free at {existing}; 2 GiB are needed")


def _broker(environment: Mapping[str, str], docker_answers: Callable[[], bool]) -> Check:
    try:
        rung = choose_rung(environment, docker_answers)
    except BrokerLadderError as error:
        return Check("broker", ok=False, detail=str(error))
    if rung is not Rung.EXTERNAL:
        return Check("broker", ok=True, detail=f"{rung} Apache Kafka {JarLock.load().kafka_version}")
    servers = environment.get(BOOTSTRAP_VARIABLE, "")
    try:
        answer = kafka_probe.ask(servers)
    except OSError as error:
        return Check("broker", ok=False, detail=f"{BOOTSTRAP_VARIABLE}={servers} does not answer: {error}")
    return Check("broker", answer.ready, f"{BOOTSTRAP_VARIABLE}={servers}: {len(answer.brokers)} broker(s)")


def _java(*, needed: bool) -> Check:
    try:
        java = java_binary()
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (JarsUnavailable, OSError, subprocess.TimeoutExpired) as error:
        return Check("java", ok=False, detail=str(error), needed=needed)
    first_line = (answer.stderr or answer.stdout).partition("\n")[0]
    return Check("java", answer.returncode == 0, first_line, needed=needed)


def _jars() -> Check:
    lock = JarLock.load()
    home = Path(cache_dir()) / f"kafka-{lock.kafka_version}"
    present = len(list(home.glob("*.jar")))
    total = len(lock.sha256)
    note = "" if present >= total else "; the first start downloads the rest"
    return Check("kafka jars", present >= total, f"{present} of {total} in {home}{note}", needed=False)
