"""A folder of this gateway's own for bodies that must be files, swept of what gateways that were killed left behind."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from regather_gateway.problems import Problem

_PREFIX = "regather-spool-"
_LOCK = "lock"


class SpoolFile:
    """One body on its way to a file."""

    def __init__(self, path: Path, file: IO[bytes], max_bytes: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._file = file
        self._max_bytes = max_bytes

    async def write(self, data: bytes) -> None:
        """Append; Problem 413 above the limit."""
        self.size_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            raise Problem(
                413,
                "body-too-large",
                f"the file is longer than {self._max_bytes} bytes, the limit of files that cannot be cut while they "
                "arrive (REGATHER_MAX_SPOOL_BYTES)",
                max_body_bytes=self._max_bytes,
            )
        await asyncio.to_thread(self._file.write, data)

    async def complete(self) -> None:
        """Let others see all of it."""
        await asyncio.to_thread(self._file.flush)


class SpoolDir:
    """Makes spool files. A lock that dies with its process tells folders in use from those left behind."""

    def __init__(self, directory: str, *, max_bytes: int) -> None:
        self._parent = Path(directory or tempfile.gettempdir())
        self._max_bytes = max_bytes
        self._folder: Path | None = None
        self._lock_fd = -1

    def open(self) -> None:
        """Sweep, and make this process's folder."""
        for left in self._parent.glob(f"{_PREFIX}*"):
            _remove_if_left(left)
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
        self._lock_fd = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock_fd)
            self._folder = None

    @property
    def folder(self) -> Path:
        """Where the files are."""
        if self._folder is None:
            self.open()
        assert self._folder is not None
        return self._folder

    @contextlib.asynccontextmanager
    async def file(self) -> AsyncIterator[SpoolFile]:
        """Give a file for the length of the block; it is removed whatever happens."""
        fd, name = tempfile.mkstemp(dir=self.folder)
        try:
            with os.fdopen(fd, "wb", buffering=1024 * 1024) as file:
                spooled = SpoolFile(Path(name), file, self._max_bytes)
                yield spooled
        finally:
            Path(name).unlink(missing_ok=True)


def _remove_if_left(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another user's, or another gateway removes it at the same time
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)
