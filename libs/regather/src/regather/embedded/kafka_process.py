"""One Kafka process, run from Kafka's own jars: its files, data directory, start and signals."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from regather.embedded.kafka_jars import JarLock, cache_dir, ensure_jars, java_binary
from regather.embedded.processes import end, spawn_bound, tail

_FORMAT_TIMEOUT_S = 60.0
_TEMPLATE_CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"
_LOG4J2 = """\
status = error
appender.console.type = Console
appender.console.name = OUT
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = OUT
"""


class EmbeddedKafkaError(RuntimeError):
    """A broker did not start, or ended unexpectedly; the message has the end of its log."""


class KafkaProcess:
    """A broker with settings and log in `home` and data in `data_dir`. It ends when this process ends."""

    def __init__(self, home: Path, data_dir: Path, *, jvm_args: tuple[str, ...]) -> None:
        self.home = home
        self.data_dir = data_dir
        self.log_path = home / "broker.log"
        self.properties_path = home / "server.properties"
        self._jvm_args = jvm_args
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running broker; EmbeddedKafkaError if there is none."""
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedKafkaError(f"the broker is not running\n{tail(self.log_path)}")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists, suspended or not."""
        return self._process is not None and self._process.poll() is None

    def start(self, settings: Mapping[str, str], *, cluster_id: str, node_id: int) -> None:
        """Write the settings, format an empty data directory and start the process, without waiting for an answer."""
        self.home.mkdir(parents=True, exist_ok=True)
        jars = ensure_jars()
        self.properties_path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.home / "log4j2.properties").write_text(_LOG4J2)
        self._format(jars, cluster_id, node_id)
        self._process = self._spawn(jars, "kafka.Kafka", str(self.properties_path))

    def end(self, grace_s: float) -> int | None:
        """End the process, with SIGKILL after `grace_s`, and reap it; return its exit code, None without a process."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a suspended process does not handle SIGTERM
        return end(process, grace_s=grace_s)

    def kill(self) -> None:
        """Send SIGKILL, like a crash, and reap the process."""
        os.kill(self.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def suspend(self) -> None:
        """Send SIGSTOP: the process keeps its connections, but does not answer."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT: the process goes on where it stopped."""
        os.kill(self.pid, signal.SIGCONT)

    def _format(self, jars: list[Path], cluster_id: str, node_id: int) -> None:
        """Format an empty data directory as Kafka's storage tool does.

        The tool costs a JVM start (1 to 2 s), so its output is cached, and copied with new ids.
        """
        if (self.data_dir / "meta.properties").exists():
            return
        template = cache_dir() / f"kafka-{JarLock.load().kafka_version}" / "formatted"
        if not (template / "meta.properties").exists():
            self._make_template(jars, template)
        shutil.copytree(template, self.data_dir, dirs_exist_ok=True)
        meta = self.data_dir / "meta.properties"
        identity = {"cluster.id": cluster_id, "node.id": str(node_id), "directory.id": random_uuid()}
        text = meta.read_text()
        for name, value in identity.items():
            text = re.sub(rf"(?m)^{re.escape(name)}=.*$", f"{name}={value}", text)
        meta.write_text(text)

    def _make_template(self, jars: list[Path], template: Path) -> None:
        with tempfile.TemporaryDirectory(dir=template.parent, prefix="format-") as scratch:
            formatted, properties = Path(scratch, "formatted"), Path(scratch, "server.properties")
            properties.write_text(
                "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:9093\n"
                "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\n"
                f"controller.listener.names=CONTROLLER\nlog.dirs={formatted}\n"
            )
            arguments = ("format", "-t", _TEMPLATE_CLUSTER_ID, "-c", str(properties))
            tool = self._spawn(jars, "kafka.tools.StorageTool", *arguments)
            if tool.wait(_FORMAT_TIMEOUT_S) != 0:
                raise EmbeddedKafkaError(f"formatting {self.data_dir} failed\n{tail(self.log_path)}")
            if not template.exists():
                formatted.rename(template)

    def _spawn(self, jars: list[Path], main_class: str, *arguments: str) -> subprocess.Popen[bytes]:
        classpath = os.pathsep.join(str(jar) for jar in jars)
        log4j2 = f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}"
        argv = [str(java_binary()), *self._jvm_args, log4j2, "-cp", classpath, main_class, *arguments]
        return spawn_bound(argv, log_file=self.log_path, cwd=self.home)


def random_uuid() -> str:
    """Return a new id in Kafka's format: 16 bytes in URL-safe base64 without padding, not starting with a dash."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
