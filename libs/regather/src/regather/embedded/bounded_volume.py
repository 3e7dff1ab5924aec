"""A directory of bounded size that a test can fill on request: a tmpfs, if this process may mount one."""

import ctypes
import os
from pathlib import Path

_MS_REMOUNT, _MS_PRIVATE, _MS_REC, _MNT_DETACH = 32, 1 << 18, 1 << 14, 2
_CLONE_NEWNS = 0x20000
_SPARE_BYTES = 64 * 1024
"""Space that fill() leaves: the kernel refuses a limit below the use, which may grow after it was measured."""


class MountRefused(OSError):
    """The kernel does not let this process mount; the message says why."""


def private_mounts() -> None:
    """Move this thread and its future children to a private mount namespace, which ends with the last of them.

    Call it before any thread is started. Raises MountRefused.
    """
    libc = _libc()
    if libc.unshare(_CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        raise _refused("unshare the mounts")


class BoundedVolume:
    """A tmpfs of `size_bytes` on `path`. Raises MountRefused if it cannot be mounted."""

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
        """Shrink the volume to its use plus 64 KiB, so that further writes fail with "no space left on device"."""
        for _ in range(100):
            try:
                self._mount(self.used_bytes + _SPARE_BYTES, _MS_REMOUNT)
            except MountRefused:
                continue  # the use has grown since it was measured
            return
        raise MountRefused(f"{self.path} grows faster than it can be limited")

    def free(self) -> None:
        """Restore the volume's size, so that writes succeed again."""
        self._mount(self.size_bytes, _MS_REMOUNT)

    def close(self) -> None:
        """Unmount the volume; its contents are lost."""
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
