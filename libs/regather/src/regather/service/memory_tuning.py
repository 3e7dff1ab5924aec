"""How the garbage collector and the C library's allocator treat services and children."""

import ctypes
import gc

CHILD_KEEPS_BYTES = 128 * 1024 * 1024
SERVICE_KEEPS_BYTES = 48 * 1024 * 1024

_M_TRIM_THRESHOLD = -1  # the numbers of glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024


def tune_service() -> None:
    """For a service that keeps many small objects alive and passes megabytes on."""
    tune_garbage_collector()
    keep_freed_memory(SERVICE_KEEPS_BYTES)


def tune_garbage_collector() -> None:
    """Freeze what start-up allocated and collect rarely: one fifth more shards a second (ADR 0005).

    Rarely, and yet in all generations: each connection that fails leaves a cycle of some kilobytes behind, and one that was
    alive at a young collection is freed by an old one only.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # else an old collection would wait until as much is new as a quarter of what is frozen
    gc.set_threshold(25_000, 10, 10)


def keep_freed_memory(kept_bytes: int) -> None:
    """Let the C library keep so much freed memory for the next shard (glibc's mallopt; nothing where there is none).

    By default it gives large blocks back at once, and every array of the next shard pays a page fault for each 4 KiB:
    a fifth of a child's time on the bands of an image (ADR 0005).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, kept_bytes)
