"""Stores outputs of open jobs: in memory up to a limit, then in temporary files. The log has every output as well."""

import contextlib
import tempfile
from collections.abc import Iterator, MutableMapping
from typing import BinaryIO

from regather.core.errors import NoRoom

_SMALL_BYTES = 4096
"""Outputs up to this size stay in memory: the index entry of a spilled output costs about as much."""


class SpillSpace:
    """Limits shared by all jobs of a process: `memory_bytes` in memory, `disk_bytes` more in files under `folder`."""

    def __init__(self, folder: str | None, *, memory_bytes: int, disk_bytes: int) -> None:
        self.folder = folder
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self.used_memory_bytes = 0
        self.used_disk_bytes = 0

    def outputs(self) -> "SpilledOutputs":
        """Return a new store for one job's outputs."""
        return SpilledOutputs(self)

    def goes_to_disk(self, size_bytes: int) -> bool:
        """Return whether the next output, of `size_bytes`, must go to a file; NoRoom if the disk limit is reached."""
        if size_bytes <= _SMALL_BYTES or self.used_memory_bytes + size_bytes <= self._memory_bytes:
            return False
        if self.used_disk_bytes + size_bytes > self._disk_bytes:
            raise NoRoom(f"outputs of open jobs use {self.used_disk_bytes} bytes, all of REGATHER_SPILL_BYTES")
        return True


class SpilledOutputs(MutableMapping[int, bytes]):
    """One job's outputs by sequence number. Its file is append-only: only clear() frees disk space."""

    def __init__(self, spill: SpillSpace) -> None:
        self._spill = spill
        self._held: dict[int, bytes] = {}
        self._stretches: dict[int, tuple[int, int]] = {}
        self._file: BinaryIO | None = None
        self._end = 0

    def __getitem__(self, seq: int) -> bytes:
        if seq in self._held:
            return self._held[seq]
        begin, size_bytes = self._stretches[seq]
        assert self._file is not None
        self._file.seek(begin)
        return self._file.read(size_bytes)

    def __setitem__(self, seq: int, output: bytes) -> None:
        if seq in self:
            del self[seq]
        if not self._spill.goes_to_disk(len(output)):
            self._held[seq] = output
            self._spill.used_memory_bytes += len(output)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._spill.folder)  # noqa: SIM115 - lives as long as the job
        self._file.seek(self._end)
        self._file.write(output)
        self._stretches[seq] = (self._end, len(output))
        self._end += len(output)
        self._spill.used_disk_bytes += len(output)

    def __delitem__(self, seq: int) -> None:
        if seq in self._held:
            self._spill.used_memory_bytes -= len(self._held.pop(seq))
        else:
            del self._stretches[seq]

    def __iter__(self) -> Iterator[int]:
        yield from self._held
        yield from self._stretches

    def __len__(self) -> int:
        return len(self._held) + len(self._stretches)

    def __contains__(self, seq: object) -> bool:
        return seq in self._held or seq in self._stretches

    def clear(self) -> None:
        """Drop all outputs and free their memory and their file."""
        self._spill.used_memory_bytes -= sum(map(len, self._held.values()))
        self._spill.used_disk_bytes -= self._end
        self._held.clear()
        self._stretches.clear()
        self._end = 0
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk: close() writes what is buffered, which nobody needs
                self._file.close()
            self._file = None
