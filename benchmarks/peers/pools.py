"""The peers: pebble, the standard library's executor and Celery, each given the limit in its own way."""

import importlib.metadata
import platform
import socket
import subprocess
import threading
import time
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peers.faults import INNOCENT, execute
from peers.plan import POLL_S, Plan

CLOSE_LIMIT_S, READY_LIMIT_S = 8.0, 20.0
NAMES = {"pebble": "pebble", "futures": "ProcessPoolExecutor", "celery": "celery prefork"}
NOTES = {
    "pebble": "schedule(timeout=limit); SIGTERM at the limit, SIGKILL 3 s later",
    "futures": "result(timeout=limit), then cancel(), which ends no process: a hanging task dies only with its broken pool",
    "celery": "task_time_limit=limit, accepted as a float; no soft limit; redis on loopback",
}


class Handle(Protocol):
    """The answer to come."""

    def done(self) -> bool: ...
    def result(self) -> int: ...


class Peer(Protocol):
    """A pool of processes, as the driver sees it."""

    version: str

    def submit(self, path: str, number: int, action: str) -> Handle: ...
    def renew(self) -> None: ...
    def close(self) -> None: ...


class PebblePeer:
    """pebble.ProcessPool, which is given the limit with each task."""

    def __init__(self, plan: Plan, _folder: Path) -> None:
        self._plan = plan
        self.version = importlib.metadata.version("pebble")
        self._open()

    def _open(self) -> None:
        from pebble import ProcessPool

        self._pool = ProcessPool(max_workers=self._plan.slots)

    def submit(self, path: str, number: int, action: str) -> Handle:
        handle: Handle = self._pool.schedule(execute, args=(path, number, action), timeout=self._plan.limit_s)
        return handle

    def renew(self) -> None:
        self._pool.stop()
        self._open()

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


class FuturesPeer:
    """The standard library's executor; a thread to each bad task does what a caller can do at the limit."""

    def __init__(self, plan: Plan, _folder: Path) -> None:
        self._plan = plan
        self.version = f"Python {platform.python_version()}"
        self._pool = ProcessPoolExecutor(plan.slots)

    def submit(self, path: str, number: int, action: str) -> Handle:
        future = self._pool.submit(execute, path, number, action)
        if action != INNOCENT:
            threading.Thread(target=self._give_up, args=(future,), daemon=True).start()
        return future

    def _give_up(self, future: Future[int]) -> None:
        while not (future.running() or future.done()):
            time.sleep(POLL_S)
        try:
            future.result(timeout=self._plan.limit_s)
        except FutureTimeoutError:
            future.cancel()
        except BrokenExecutor:
            return

    def renew(self) -> None:
        self.close()
        self._pool = ProcessPoolExecutor(self._plan.slots)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class CeleryHandle:
    """An AsyncResult with the two methods of a future."""

    answer: Any

    def done(self) -> bool:
        return bool(self.answer.ready())

    def result(self) -> int:
        return int(self.answer.get(timeout=1))


def celery_app(port: int, limit_s: float) -> tuple[Any, Any]:
    """The application and its task, the same in the driver and in the worker."""
    import celery

    url = f"redis://127.0.0.1:{port}/0"
    app = celery.Celery("isolation_peers", broker=url, backend=url)
    app.conf.update(task_time_limit=limit_s, broker_connection_retry_on_startup=True)
    return app, app.task(name="execute")(execute)


def celery_worker(port: int, plan: Plan) -> None:
    app, _task = celery_app(port, plan.limit_s)
    app.worker_main(["worker", "--pool=prefork", f"--concurrency={plan.slots}", "--loglevel=CRITICAL"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes], limit_s: float) -> None:
    process.terminate()
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class CeleryPeer:
    """A Celery worker with its prefork pool, and the redis between it and the driver."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._port = plan, free_port()
        self.version = importlib.metadata.version("celery")
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--appendonly", "no"]
        self._redis = subprocess.Popen(["redis-server", *options], cwd=folder, stdout=subprocess.DEVNULL)
        self._app, self._task = celery_app(self._port, plan.limit_s)
        self._open()

    def _open(self) -> None:
        command = self._plan.command("--celery-worker", str(self._port))
        self._worker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up_s = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < give_up_s:
            with suppress(ConnectionError, OSError, self._app.connection().connection_errors[0]):
                if self._app.control.ping(timeout=0.5):
                    return
            time.sleep(0.1)
        raise RuntimeError("the Celery worker did not start")

    def submit(self, path: str, number: int, action: str) -> Handle:
        return CeleryHandle(self._task.delay(path, number, action))

    def renew(self) -> None:
        end(self._worker, CLOSE_LIMIT_S / 2)
        self._app.control.purge()
        self._open()

    def close(self) -> None:
        end(self._worker, CLOSE_LIMIT_S / 2)
        end(self._redis, CLOSE_LIMIT_S / 4)


PEERS: dict[str, type[PebblePeer | FuturesPeer | CeleryPeer]] = {
    "pebble": PebblePeer,
    "futures": FuturesPeer,
    "celery": CeleryPeer,
}
