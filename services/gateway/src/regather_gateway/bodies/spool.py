"""Keeps data that cannot be cut yet, because fields that decide the cut may follow it: in memory, then in a file."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import IO, Self

from regather_gateway.problems import Problem

_MEMORY_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024


class Spool:
    """Keeps up to 1 MiB in memory; above that, writes the data to an unnamed temporary file in pieces of 1 MiB."""

    def __init__(self, *, max_bytes: int, directory: str) -> None:
        self._max_bytes = max_bytes
        self._directory = directory or None
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self.size_bytes = 0

    async def write(self, data: bytes) -> None:
        """Append data; Problem 413 above the limit."""
        self.size_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            raise Problem(
                413,
                "body-too-large",
                f"the data is longer than {self._max_bytes} bytes, the limit of JSON and form requests "
                "(REGATHER_MAX_SPOOL_BYTES); send it as the raw body",
                max_body_bytes=self._max_bytes,
            )
        self._memory += data
        if len(self._memory) > _MEMORY_BYTES:
            await self._flush()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield all data from the beginning."""
        if self._file is not None:
            await self._flush()
            await asyncio.to_thread(self._file.seek, 0)
            while chunk := await asyncio.to_thread(self._file.read, _READ_BYTES):
                yield chunk
        elif self._memory:
            yield bytes(self._memory)

    async def _flush(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - __exit__ closes it
        block, self._memory = self._memory, bytearray()
        await asyncio.to_thread(self._file.write, block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._file is not None:
            self._file.close()
