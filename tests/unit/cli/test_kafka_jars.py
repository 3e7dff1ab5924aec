import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from regather.embedded.kafka_jars import JarLock, JarsUnavailable, ensure_jars

COORDINATE = "example:piece:1"


class Repository:
    """A Maven repository of one jar, on this machine."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder / "example" / "piece" / "1"
        self._folder.mkdir(parents=True)
        self.repositories = {"local": url}

    def offer(self, content: bytes) -> None:
        (self._folder / "piece-1.jar").write_bytes(content)
        (self._folder / "piece-1.jar.sha1").write_text(hashlib.sha1(content).hexdigest())

    def withdraw(self) -> None:
        for file in self._folder.iterdir():
            file.unlink()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    folder = tmp_path / "repository"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Repository(folder, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


def _lock(content: bytes) -> JarLock:
    return JarLock("0", {COORDINATE: hashlib.sha256(content).hexdigest()})


def test_a_jar_is_fetched_once_and_then_taken_from_the_cache(tmp_path: Path, repository: Repository) -> None:
    repository.offer(b"genuine")
    (jar,) = ensure_jars(_lock(b"genuine"), tmp_path, repositories=repository.repositories)
    assert jar.read_bytes() == b"genuine"
    repository.withdraw()
    assert ensure_jars(_lock(b"genuine"), tmp_path, repositories=repository.repositories) == [jar]
    assert sorted(path.name for path in jar.parent.iterdir()) == ["lock", "piece-1.jar", "verified.json"]


def test_a_jar_that_is_not_the_pinned_one_is_refused_by_name_and_not_kept(
    tmp_path: Path, repository: Repository
) -> None:
    repository.offer(b"forged")
    with pytest.raises(JarsUnavailable, match=r"example:piece:1.*not used"):
        ensure_jars(_lock(b"genuine"), tmp_path, repositories=repository.repositories)
    assert not (tmp_path / "kafka-0" / "piece-1.jar").exists()


def test_a_jar_that_no_repository_has_is_named(tmp_path: Path, repository: Repository) -> None:
    with pytest.raises(JarsUnavailable, match=r"example:piece:1: could not be downloaded"):
        ensure_jars(_lock(b"genuine"), tmp_path, repositories=repository.repositories)


def test_a_jar_that_was_altered_in_the_cache_is_fetched_anew(tmp_path: Path, repository: Repository) -> None:
    repository.offer(b"genuine")
    (jar,) = ensure_jars(_lock(b"genuine"), tmp_path, repositories=repository.repositories)
    jar.write_bytes(b"altered")
    (again,) = ensure_jars(_lock(b"genuine"), tmp_path, repositories=repository.repositories)
    assert again.read_bytes() == b"genuine"


def test_the_committed_lock_pins_kafka_its_clients_and_a_log_binding() -> None:
    lock = JarLock.load()
    artifacts = {coordinate.split(":")[1]: coordinate.split(":")[2] for coordinate in lock.sha256}
    assert artifacts["kafka_2.13"] == artifacts["kafka-clients"] == lock.kafka_version
    assert "log4j-slf4j-impl" in artifacts
    assert all(len(digest) == 64 for digest in lock.sha256.values())
