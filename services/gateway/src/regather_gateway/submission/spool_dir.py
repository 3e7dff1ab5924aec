"""A folder of this gateway for bodies that must be files; removes the folders that killed gateways left behind."""

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
    """One body that is written to a file."""

    def __init__(self, path: Path, file: IO[bytes], max_bytes: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._file = file
        self._max_bytes = max_bytes

    async def write(self, data: bytes) -> None:
        """Append data; Problem 413 above the limit."""
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
        """Flush the file, so that another process can read all of it."""
        await asyncio.to_thread(self._file.flush)


class SpoolDir:
    """Creates spool files. A file lock, which ends with its process, marks a folder as in use."""

    def __init__(self, directory: str, *, max_bytes: int) -> None:
        self._parent = Path(directory or tempfile.gettempdir())
        self._max_bytes = max_bytes
        self._folder: Path | None = None
        self._lock_fd = -1

    def open(self) -> None:
        """Remove left-over folders, and create this process's folder."""
        for left in self._parent.glob(f"{_PREFIX}*"):
            _remove_if_left(left)
        while self._folder is None:
            self._folder = self._make()

    def _make(self) -> Path | None:
        """Return a new folder that is locked; None if another gateway took it for a left-over before that."""
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
        try:
            self._lock_fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        if os.fstat(self._lock_fd).st_nlink:
            return folder
        os.close(self._lock_fd)
        return None

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._let_go()

    def _let_go(self) -> None:
        os.close(self._lock_fd)
        self._folder = None

    @property
    def folder(self) -> Path:
        """The folder of the files; created on first use."""
        if self._folder is None:
            self.open()
        assert self._folder is not None
        return self._folder

    @contextlib.asynccontextmanager
    async def file(self) -> AsyncIterator[SpoolFile]:
        """Yield a new file; it is removed at the end of the block in any case."""
        fd, name = self._new_file()
        try:
            with os.fdopen(fd, "wb", buffering=1024 * 1024) as file:
                spooled = SpoolFile(Path(name), file, self._max_bytes)
                yield spooled
        finally:
            Path(name).unlink(missing_ok=True)

    def _new_file(self) -> tuple[int, str]:
        try:
            return tempfile.mkstemp(dir=self.folder)
        except FileNotFoundError:  # something that cleans up old temporary files has removed the folder
            self._let_go()
            return tempfile.mkstemp(dir=self.folder)


def _remove_if_left(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is in use, belongs to another user, or another gateway removes it now
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)
