"""One Kafka process from its own jars: its files, its data directory, its start and its signals."""

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
    """A broker did not start or ended on its own; the message holds the tail of its log."""


class KafkaProcess:
    """A broker whose settings and log stand in `home` and whose data in `data_dir`. It dies with this process."""

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
        """Whether the process lives, suspended or not."""
        return self._process is not None and self._process.poll() is None

    def start(self, settings: Mapping[str, str], *, cluster_id: str, node_id: int) -> None:
        """Write the settings, format an empty data directory, start the process; it does not answer yet."""
        self.home.mkdir(parents=True, exist_ok=True)
        jars = ensure_jars()
        self.properties_path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.home / "log4j2.properties").write_text(_LOG4J2)
        self._format(jars, cluster_id, node_id)
        self._process = self._spawn(jars, "kafka.Kafka", str(self.properties_path))

    def end(self, grace_s: float) -> int | None:
        """End the process and reap it, by SIGKILL after `grace_s`; its exit code, None if there was no process."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)  # one that is suspended hears of nothing else
        return end(process, grace_s=grace_s)

    def kill(self) -> None:
        """SIGKILL, as a crash would; reaped."""
        os.kill(self.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def suspend(self) -> None:
        """SIGSTOP: the process keeps its connections and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        os.kill(self.pid, signal.SIGCONT)

    def _format(self, jars: list[Path], cluster_id: str, node_id: int) -> None:
        """Give an empty data directory its identity, as Kafka's own storage tool writes it.

        The tool costs a JVM start (1 to 2 s), so its output is cached, and copied with identities of its own.
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
    """A fresh identity as Kafka writes them: 16 bytes in URL-safe base64 without padding, no dash in front."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
