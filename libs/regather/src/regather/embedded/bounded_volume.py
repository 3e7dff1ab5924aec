"""A directory of bounded size that can be made full at will: a tmpfs, where this process may mount one."""

import ctypes
import os
from pathlib import Path

_MS_REMOUNT, _MS_PRIVATE, _MS_REC, _MNT_DETACH = 32, 1 << 18, 1 << 14, 2
_CLONE_NEWNS = 0x20000
_SPARE_BYTES = 64 * 1024
"""Left free by fill(), because the kernel refuses a limit below what is in use, which may grow meanwhile."""


class MountRefused(OSError):
    """The kernel does not let this process mount; the message says why."""


def private_mounts() -> None:
    """Give this thread and all that it starts mounts of their own, which vanish with the last of these processes.

    Call it before any thread is started. Raises MountRefused.
    """
    libc = _libc()
    if libc.unshare(_CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        raise _refused("unshare the mounts")


class BoundedVolume:
    """A tmpfs of `size_bytes` on `path`. Raises MountRefused where it cannot be mounted."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        path.mkdir(parents=True, exist_ok=True)
        self._mount(size_bytes, 0)

    @property
    def used_bytes(self) -> int:
        """Bytes in use."""
        state = os.statvfs(self.path)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    @property
    def free_bytes(self) -> int:
        """Bytes that can still be written."""
        state = os.statvfs(self.path)
        return state.f_bfree * state.f_frsize

    def fill(self) -> None:
        """From the next few bytes on every write fails with "no space left on device"."""
        for _ in range(100):
            try:
                self._mount(self.used_bytes + _SPARE_BYTES, _MS_REMOUNT)
            except MountRefused:
                continue  # it has grown since it was measured
            return
        raise MountRefused(f"{self.path} grows faster than it can be limited")

    def free(self) -> None:
        """There is room again."""
        self._mount(self.size_bytes, _MS_REMOUNT)

    def close(self) -> None:
        """Unmount; what was in it is gone."""
        _libc().umount2(bytes(self.path), _MNT_DETACH)

    def _mount(self, size_bytes: int, flags: int) -> None:
        options = f"size={size_bytes}".encode()
        if _libc().mount(b"tmpfs", bytes(self.path), b"tmpfs", flags, options) != 0:
            raise _refused(f"mount {self.path}")


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        raise MountRefused("this system has no mount namespaces")
    libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    return libc


def _refused(what: str) -> MountRefused:
    number = ctypes.get_errno()
    return MountRefused(number, f"this process may not {what}: {os.strerror(number)}")
